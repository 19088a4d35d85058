"""Archives that tests are made of, good and hostile: zip, tar and rar.

Only what the tests need of RAR is written here: stored members, in the format's versions 5 and 3.
"""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

REGULAR_FILE = 0o100644


def write_archive(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write an archive of the kind that its suffix names."""
    if path.suffix == ".zip":
        return write_zip(path, members)
    return write_rar(path, members) if path.suffix == ".rar" else write_tar(path, members)


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a deflated zip."""
    return write_zip_entries(path, [(zip_entry(name), members[name]) for name in members])


def write_zip_entries(path: Path, entries: Sequence[tuple[zipfile.ZipInfo, bytes]]) -> Path:
    """Write a zip of any entries, in this order, names twice too."""
    with zipfile.ZipFile(path, "w") as zipped:
        for info, content in entries:
            zipped.NameToInfo.clear()  # else zipfile warns of a name that comes twice
            zipped.writestr(info, content)
    return path


def zip_entry(
    name: str, *, mode: int = REGULAR_FILE, method: int = zipfile.ZIP_DEFLATED
) -> zipfile.ZipInfo:
    """A zip's entry with a Unix mode."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name  # as it is, NUL bytes included
    info.external_attr, info.compress_type, info.create_system = mode << 16, method, 3
    return info


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar, packed as its suffix says."""
    return write_tar_entries(path, [(tar_entry(name), members[name]) for name in members])


def write_tar_entries(
    path: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes]], *, form: int = tarfile.PAX_FORMAT
) -> Path:
    """Write a tar of any entries, in this order."""
    suffix = path.suffix.removeprefix(".").replace("t", "", 1)
    mode = "w" if path.suffix == ".tar" else f"w:{suffix}"
    with tarfile.open(path, mode, format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for info, content in entries:
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tar_entry(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A tar's entry of any type."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tar_block(name: bytes, size: int = 0, *, kind: bytes = tarfile.REGTYPE) -> bytes:
    """One header block of 512 bytes with a right checksum, whatever is in it."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[:100] = name.ljust(100, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def tar_records(records: Mapping[bytes, bytes], *, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header: what it says of the next entry."""
    content = b""
    for key, value in records.items():
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + len(str(len(rest)))
        length += len(str(length)) > len(str(len(rest)))
        content += str(length).encode() + rest
    return tar_block(b"x", len(content), kind=kind) + padded(content)


def padded(content: bytes) -> bytes:
    """Content of a tar, up to the next whole block."""
    return content + bytes(-len(content) % 512)


TAR_END = bytes(1024)


RAR5_START = b"Rar!\x1a\x07\x01\x00"
RAR3_START = b"Rar!\x1a\x07\x00"
_MAIN, _FILE, _ENCRYPTION, _END = 1, 2, 4, 5
RAR_SPLIT_BEFORE, RAR_SPLIT_AFTER = 0x08, 0x10
RAR_SYMBOLIC_LINK, RAR_HARD_LINK, RAR_COPY = 1, 4, 5


def write_rar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a RAR of version 5, its members stored."""
    return write_rar_files(path, [rar_file(name.encode(), members[name]) for name in members])


def write_rar_files(path: Path, files: Iterable[bytes], *, main: int = 0, end: int = 0) -> Path:
    """Write a RAR of version 5 from `rar_file`s; `main` and `end` are the flags of these blocks."""
    blocks = [_rar_block(_MAIN, _vint(main)), *files, _rar_block(_END, _vint(end))]
    path.write_bytes(RAR5_START + b"".join(blocks))
    return path


def rar_file(
    name: bytes,
    content: bytes,
    *,
    mode: int = REGULAR_FILE,
    method: int = 0,
    size: int | None = None,
    crc: int | None = None,
    split: int = 0,
    link: tuple[int, bytes] | None = None,
    encrypted: bool = False,
) -> bytes:
    """One file block; `size` and `crc` lie, `link` is a kind and a target."""
    extra = b""
    if link:
        extra += _sized(_vint(5) + _vint(link[0]) + _vint(0) + _sized(link[1]))
    if encrypted:
        extra += _sized(_vint(1) + _vint(0) + _vint(0) + bytes([15]) + bytes(32))
    body = _vint(0x04) + _vint(len(content) if size is None else size) + _vint(mode)
    body += struct.pack("<I", zlib.crc32(content) if crc is None else crc)
    body += _vint(method << 7) + _vint(1) + _sized(name)
    return _rar_block(_FILE, body, flags=split, extra=extra, data=content)


def rar_encryption() -> bytes:
    """The block after which all further ones are encrypted."""
    return _rar_block(_ENCRYPTION, _vint(0) + _vint(0) + bytes([15]) + bytes(16))


def _rar_block(
    kind: int, body: bytes, *, flags: int = 0, extra: bytes = b"", data: bytes | None = None
) -> bytes:
    flags |= (0x01 if extra else 0) | (0 if data is None else 0x02)
    fields = _vint(kind) + _vint(flags)
    fields += _vint(len(extra)) if extra else b""
    fields += b"" if data is None else _vint(len(data))
    header = _sized(fields + body + extra)
    return struct.pack("<I", zlib.crc32(header)) + header + (data or b"")


def _sized(content: bytes) -> bytes:
    return _vint(len(content)) + content


def _vint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    groups = []
    while True:
        groups.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(groups)


def write_rar3(path: Path, members: Mapping[str, bytes], *, whole: bool = True) -> Path:
    """Write a RAR of version 3, its members stored; without its end mark if not `whole`."""
    content = RAR3_START + _rar3_block(0x73, bytes(6))
    for name, data in members.items():
        encoded = name.encode()
        fields = struct.pack(
            "<LLBLLBBHL",
            *(len(data), len(data), 3, zlib.crc32(data), 0x21 << 16),
            *(29, 0x30, len(encoded), REGULAR_FILE),
        )
        content += _rar3_block(0x74, fields + encoded, flags=0x8000) + data
    path.write_bytes(content + (_rar3_block(0x7B, b"", flags=0x4000) if whole else b""))
    return path


def _rar3_block(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header
