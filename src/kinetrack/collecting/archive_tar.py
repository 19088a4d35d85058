"""Tar archives, read block by block."""

import gzip
import lzma
import re
import tarfile
from bz2 import BZ2File
from collections.abc import Iterator, Mapping
from functools import partial
from io import BufferedIOBase
from pathlib import Path

from kinetrack.collecting.archive_checks import Entry, byte_limit, check_total

_CHUNK_BYTES = 2**20
_BLOCK_BYTES = 512
_MOST_EXTENSION_BYTES = 2**20
_MOST_RECORDS = 100


def tar_entries(archive: Path) -> Iterator[Entry]:
    """Yield the entries of a tar, packed or not, in one pass."""
    # Not tarfile.open: it reads a header of any size into memory, and some for hours.
    with _open_unpacked(archive) as file:
        tar = _TarReader(file, archive)
        told: dict[str, str] = {}
        while (header := tar.read_header()) is not None:
            if header.type in _EXTENSIONS:
                told |= _read_extension(tar, header)
                yield Entry("", 0, "note", partial(iter, ()))
                continue
            entry = _tar_entry(tar, header, told)
            padded_bytes = entry.size_bytes + -entry.size_bytes % _BLOCK_BYTES
            end = tar.position + padded_bytes
            yield entry
            tar.skip(end - tar.position)
            told = {}


def _open_unpacked(archive: Path) -> BufferedIOBase:
    name = archive.name.lower()
    if name.endswith(".tar"):
        return archive.open("rb")
    if name.endswith("gz"):
        return gzip.GzipFile(archive)
    if name.endswith("xz"):
        return lzma.LZMAFile(archive, format=lzma.FORMAT_XZ)
    return BZ2File(archive)


class _TarReader:
    """A tar's bytes in order; `position` counts them."""

    def __init__(self, file: BufferedIOBase, archive: Path) -> None:
        self.position = 0
        self._file = file
        self._archive = archive
        self._byte_limit = byte_limit(archive)

    def read_header(self) -> tarfile.TarInfo | None:
        """The next header; None at the end mark, after which only zeros may come."""
        block = self.read(_BLOCK_BYTES)
        if any(block):
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        while chunk := self._file.read(_CHUNK_BYTES):
            self._advance(len(chunk))
            if any(chunk):
                raise ValueError("content after the end mark")
        return None

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        self._advance(size)
        content = self._file.read(size)
        if len(content) < size:
            raise EOFError("cut off")
        return content

    def read_chunks(self, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes, in chunks."""
        for start in range(0, size, _CHUNK_BYTES):
            yield self.read(min(_CHUNK_BYTES, size - start))

    def skip(self, size: int) -> None:
        """Leave out `size` bytes; those beyond the end show at the next read."""
        self._advance(size)
        self._file.seek(size, 1)

    def _advance(self, size: int) -> None:
        self.position += size
        check_total(self._archive, self.position, limit=self._byte_limit)


_GLOBAL_EXTENSION, _GNU_LONG_NAME = tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, _GLOBAL_EXTENSION, _GNU_LONG_NAME)
_KINDS_OF_TYPE = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.GNUTYPE_LONGLINK: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def _tar_entry(tar: _TarReader, header: tarfile.TarInfo, told: Mapping[str, str]) -> Entry:
    kind = _KINDS_OF_TYPE.get(header.type, f"of unknown type {header.type!r}")
    if any(key.startswith("GNU.sparse") for key in told):
        kind = "a sparse file"
    size = _to_size(told["size"]) if "size" in told else header.size
    if size < 0:
        raise ValueError(f"a size of {size} bytes")
    size = size if kind == "file" else 0
    name = told.get("path", header.name)
    return Entry(name, size, kind, partial(tar.read_chunks, size))


def _to_size(text: str) -> int:
    if not re.fullmatch("[0-9]{1,20}", text):
        raise ValueError(f"a size of {text[:40]!r}")
    return int(text)


def _read_extension(tar: _TarReader, header: tarfile.TarInfo) -> dict[str, str]:
    """What the entry before an entry says of it: path, size, sparse."""
    if not 0 <= header.size <= _MOST_EXTENSION_BYTES:
        raise ValueError(f"an extended header of {header.size} bytes")
    content = tar.read(header.size)
    tar.skip(-header.size % _BLOCK_BYTES)
    if header.type == _GNU_LONG_NAME:
        return {"path": _to_text(content.partition(b"\0")[0])}
    told = _parse_records(content)
    if header.type == _GLOBAL_EXTENSION:
        if told:
            raise ValueError(f"a global header with {', '.join(told)}")
        return {}
    return told


def _parse_records(content: bytes) -> dict[str, str]:
    """Those of the records `LENGTH KEY=VALUE` that matter here.

    In one pass, where tarfile's patterns take the square of the length.
    """
    told, position, count = {}, 0, 0
    while position < len(content):
        space = content.find(b" ", position, position + 8)
        digits = content[position:space]
        if space < 0 or not digits.isdigit() or count == _MOST_RECORDS:
            raise ValueError("a broken extended header")
        end = position + int(digits)
        if not space < end <= len(content):
            raise ValueError("a broken extended header")
        key, _, value = content[space + 1 : end].removesuffix(b"\n").partition(b"=")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            told[_to_text(key)] = _to_text(value)
        position, count = end, count + 1
    return told


def _to_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
