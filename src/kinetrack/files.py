"""Writing files so that a reader sees the old content or the new one, never half of it."""

import csv
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

_PARTIAL = ".partial"
_COPIED_AT_ONCE = 2**30


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that takes the name `path` when the block ends without an error.

    The bytes are flushed to disk before the rename; after an error nothing is left behind.
    Missing parent folders are made. The file is readable and seekable (zip, AVI).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden and with the process id: two writers never share it, no listing takes it for data.
    # Not the name itself, which may be as long as a file system takes.
    name_hash = zlib.crc32(os.fsencode(path.name))
    temporary = path.with_name(f".{name_hash:08x}.{os.getpid()}{_PARTIAL}")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an error.

    After an error nothing is left of it and an earlier `path` is as it was. A link is followed.
    """
    path = path.resolve()
    earlier = path.with_name(f".{path.name}.earlier")
    temporary = path.with_name(f".{path.name}{_PARTIAL}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # Renamed, then removed: a kill in between loses nothing.
        shutil.rmtree(earlier, ignore_errors=True)
        if path.exists():
            path.replace(earlier)
        temporary.replace(path)
        shutil.rmtree(earlier, ignore_errors=True)
    except BaseException:
        if earlier.exists() and not path.exists():
            earlier.replace(path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; where the file system can (Btrfs, XFS), the copy shares the blocks."""
    with source.open("rb") as reader, atomic_file(target) as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPIED_AT_ONCE):
                pass
        except OSError:  # another device, or a file system that does not know it
            reader.seek(0)
            writer.seek(0)
            shutil.copyfileobj(reader, writer)


def file_md5(path: Path) -> str:
    """MD5 of a file in hexadecimal digits: the name that DVC has for its content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON; NaN and infinity are refused, since JSON has no word for them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table with a header; every row has exactly these columns.

    Raises:
        ValueError: a row has a column that is not listed.
    """
    text = io.StringIO()
    # Python 3.11 leaves a carriage return without quotes, and a reader then ends the row at it.
    has_return = any("\r" in str(value) for row in rows for value in row.values())
    writer = csv.DictWriter(
        text,
        columns,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL,
    )
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a header into one mapping a row."""
    with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
        return list(csv.DictReader(file, restkey="(beyond the last)"))
