"""The entries of a zip, rar or tar, in the archive's order."""

import copy
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import rarfile

from kinetrack.collecting.archive_checks import (
    GET_AGAIN,
    UNPACK_YOURSELF,
    Entry,
    check_entry,
    entry_limit,
    shown,
    too_many,
)
from kinetrack.collecting.archive_tar import tar_entries
from kinetrack.errors import InputError

_CHUNK_BYTES = 2**20
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = (".zip", *_TAR_SUFFIXES, ".rar")


def is_archive_name(name: str) -> bool:
    """Whether the name ends as one of an archive that can be imported, in any case."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def read_entries(archive: Path) -> Iterator[Entry]:
    """Yield the entries, each checked; the format is known by the archive's name.

    Raises:
        InputError: no archive, a broken one, too many entries, or one that is refused.
    """
    if not archive.is_file():  # a FIFO would block
        raise InputError(archive, "is no archive file")
    read = _reader_of(archive)
    limit = entry_limit(archive)
    with _reading(archive):
        for count, entry in enumerate(read(archive), start=1):
            if count > limit:
                raise too_many(archive, "entries", limit)
            check_entry(archive, entry)
            yield entry


def _reader_of(archive: Path) -> Callable[[Path], Iterator[Entry]]:
    name = archive.name.lower()
    if name.endswith(".zip"):
        return _zip_entries
    if name.endswith(".rar"):
        return _rar_entries
    if name.endswith(_TAR_SUFFIXES):
        return tar_entries
    raise InputError(archive, "is no archive", expected=f"a name in {' '.join(ARCHIVE_SUFFIXES)}")


def read_content(archive: Path, entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of the current entry in chunks.

    Raises:
        InputError: they cannot be unpacked.
    """
    with _reading(archive):
        yield from entry.read()


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Tell every way in which an archive can be broken in one line.

    Around generators: what goes wrong while a chunk is written is not caught.
    """
    try:
        yield
    except rarfile.RarCannotExec:
        raise InputError(
            archive,
            "holds packed members, for which no tool is installed",
            remedy="apt install unar, or unpack it by hand and import the folder",
        ) from None
    except _BROKEN as error:
        raise InputError(
            archive,
            "is no whole archive of its kind",
            found=str(error) or type(error).__name__,
            remedy=GET_AGAIN,
        ) from None


# The libraries let through what they stumble upon: struct and zlib errors, overflows, and
# RuntimeError or NotImplementedError for what they cannot read.
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    rarfile.Error,
)

KINDS_OF_MODE = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def _read_stream(open_stream: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with open_stream() as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _zip_entries(archive: Path) -> Iterator[Entry]:
    try:
        # Without this, names without the UTF-8 flag would come out as gibberish of code page 437.
        zipped = zipfile.ZipFile(archive, metadata_encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = f"member {error.object!r} has a name that is no UTF-8"
        raise InputError(archive, problem, remedy=UNPACK_YOURSELF) from None
    with zipped:
        _check_overlaps(archive, zipped.infolist())
        for info in zipped.infolist():
            # zipfile stops at the size that the archive says; one more byte shows whether it lies.
            longer = copy.copy(info)
            longer.file_size += 1
            yield Entry(
                name=info.orig_filename,  # `filename` is cut at a NUL byte
                size_bytes=info.file_size,
                kind=_zip_kind(info),
                read=partial(_read_stream, partial(zipped.open, longer)),
            )


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if info.is_dir():
        return "folder"
    mode_kind = KINDS_OF_MODE.get(stat.S_IFMT(info.external_attr >> 16))
    if mode_kind:
        return mode_kind
    if info.flag_bits & 0x1:
        return "encrypted"
    # zipfile unpacks the other methods without a bound on memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed by method {info.compress_type}"
    return "file"


def _check_overlaps(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    for info, following in pairwise(sorted(infos, key=lambda info: info.header_offset)):
        if info.header_offset + info.compress_size >= following.header_offset:
            names = f"{shown(info.filename)} and {shown(following.filename)}"
            problem = f"members {names} overlap"
            raise InputError(archive, problem, remedy=UNPACK_YOURSELF)


def _rar_entries(archive: Path) -> Iterator[Entry]:
    headers: list[Any] = []
    # `part_only`: no other file is opened, whatever the archive says of further volumes.
    with rarfile.RarFile(
        archive, errors="strict", part_only=True, info_callback=headers.append
    ) as rar:
        _check_rar(archive, rar, headers)
        for info in rar.infolist():
            yield Entry(
                name=info.filename,
                size_bytes=info.file_size,
                kind=_rar_kind(info),
                read=partial(_read_stream, partial(rar.open, info)),
            )


def _check_rar(archive: Path, rar: Any, headers: Sequence[Any]) -> None:
    if rar.needs_password():
        raise InputError(archive, "is encrypted", remedy=UNPACK_YOURSELF)
    if any(_is_of_volume(header) for header in headers):
        raise InputError(archive, "is one of several volumes", remedy=UNPACK_YOURSELF)
    if not any(header.type == rarfile.RAR_BLOCK_ENDARC for header in headers):
        raise InputError(archive, "is cut off: it has no end mark", remedy=GET_AGAIN)
    if any(info.compress_type != rarfile.RAR_M0 for info in rar.infolist()):
        if rar.is_solid():
            # Each member would be unpacked from the archive's start again: days for 13,320 clips.
            raise InputError(archive, "is a solid archive", remedy=UNPACK_YOURSELF)
        rarfile.tool_setup()


def _is_of_volume(header: Any) -> bool:
    flags = {
        rarfile.RAR_BLOCK_MAIN: rarfile.RAR_MAIN_VOLUME,
        rarfile.RAR_BLOCK_FILE: rarfile.RAR_FILE_SPLIT_BEFORE | rarfile.RAR_FILE_SPLIT_AFTER,
        rarfile.RAR_BLOCK_ENDARC: rarfile.RAR_ENDARC_NEXT_VOLUME,
    }
    return bool(header.flags & flags.get(header.type, 0))


def _rar_kind(info: Any) -> str:
    if info.is_symlink() or info.file_redir:
        return "a link or a copy of another"
    mode = info.mode if info.host_os == rarfile.RAR_OS_UNIX else 0
    if stat.S_IFMT(mode) in KINDS_OF_MODE:
        return KINDS_OF_MODE[stat.S_IFMT(mode)]
    if info.is_dir():
        return "folder"
    if not _is_utf8_name(info):
        return "named in no UTF-8"
    if info.compress_type == rarfile.RAR_M0 and info.compress_size != info.file_size:
        return "stored in another size than it says"
    return "file"


def _is_utf8_name(info: Any) -> bool:
    """Whether rarfile decoded the name as it is; else it guesses, or puts U+FFFD in."""
    if info.flags & rarfile.RAR_FILE_UNICODE:  # version 3: decoded from UTF-16
        return "\N{REPLACEMENT CHARACTER}" not in info.filename
    try:
        info.orig_filename.decode()
    except UnicodeDecodeError:
        return False
    return True
