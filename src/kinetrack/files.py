"""Writing files so that a reader sees the old content or the new one, never half of it."""

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from kinetrack.errors import InputError, WriteError

_PARTIAL = ".partial"
_COPIED_AT_ONCE = 2**30
# With these a write ends; others may come from what is being read meanwhile.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# So long a folder is waited for: a writer whose parent was killed needs a moment to end.
_PATIENCE_S = 5.0


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that takes the name `path` when the block ends without an error.

    The bytes are flushed to disk before the rename; after an error nothing is left behind.
    Missing parent folders are made. The file is readable and seekable (zip, AVI).

    Raises:
        WriteError: no room, no permission, or the disk refuses it.
    """
    # Hidden and with machine and process id: two writers never share it, no listing takes it for
    # data. Not the name itself, which may be as long as a file system takes.
    name_hash = zlib.crc32(os.fsencode(f"{platform.node()}/{path.name}"))
    temporary = path.with_name(f".{name_hash:08x}.{os.getpid()}{_PARTIAL}")
    with _telling_write_errors(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
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
def _telling_write_errors(path: Path, temporary: Path) -> Iterator[None]:
    """Name the file that was to be written, where an error is one of writing."""
    try:
        yield
    except OSError as error:
        ours = {str(temporary), *map(str, temporary.parents)}
        if error.errno not in _NO_ROOM and str(error.filename) not in ours:
            raise
        raise WriteError(
            path,
            "cannot be written",
            found=f"{error.strerror}; {_describe_room(path)}",
            remedy="make room, or see to the permissions, then run it again",
        ) from None


def _describe_room(path: Path) -> str:
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    return f"{shutil.disk_usage(existing).free} bytes free there"


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an error.

    After an error nothing is left of it and an earlier `path` is as it was. A link is followed.

    Raises:
        InputError: another process is writing it.
    """
    path = path.resolve()
    with write_alone(path):
        earlier = path.with_name(f".{path.name}.earlier")
        # With the process id: a worker that outlives a killed run writes into the old one.
        temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
        for leftover in path.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+{_PARTIAL}", leftover.name):
                shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
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


@contextmanager
def write_alone(path: Path) -> Iterator[None]:
    """Hold the right to write a file or folder; it ends with the process, however that ends.

    Raises:
        InputError: another process holds it, for longer than some seconds.
    """
    lock = path.with_name(f".{path.name}.lock")
    with _telling_write_errors(path, lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(lock)
    if file is None:
        raise InputError(
            path,
            "is being written by another process",
            remedy="wait until it has ended, or end it",
        )
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _lock(path: Path) -> IO[bytes] | None:
    """Open and lock a file; None when somebody else holds it all the time."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed it between our opening and our locking.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:  # a file system without locks
            file.close()
            raise OSError(error.errno, error.strerror, str(path)) from None
        file.close()
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


def remove_partials(folder: Path) -> None:
    """Remove what writers that were killed have left half-written in a folder of one's own."""
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def is_being_written(path: Path) -> bool:
    """Whether a process holds the right to write a file or folder, as `write_alone` gives it."""
    try:
        with path.with_name(f".{path.name}.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such lock
        return False
    return False


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        WriteError: no room, or no permission.
    """
    with _telling_write_errors(path, path):
        path.mkdir(parents=True, exist_ok=True)


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


def append_line(path: Path, line: str) -> None:
    """Add a line of UTF-8 text to a file, on disk when this returns; the file is made when missing.

    A kill may leave the line half-written; it then stays a line of its own.

    Raises:
        WriteError: no room, or no permission.
    """
    make_folder(path.parent)
    with _telling_write_errors(path, path), path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        is_torn = file.read() not in (b"", b"\n")
        file.write(b"\n" * is_torn + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON; NaN and infinity are refused, since JSON has no word for them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table with a header; every row has exactly these columns.

    Raises:
        ValueError: a row has a column that is not listed.
    """
    # Python 3.11 leaves a carriage return without quotes, and a reader then ends the row at it.
    has_return = any("\r" in str(value) for row in rows for value in row.values())
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(
            text,
            columns,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL,
        )
        writer.writeheader()
        writer.writerows(rows)
        text.detach()  # it writes what it holds, and leaves the file open


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a header into one mapping a row."""
    return list(iterate_csv(path))


def iterate_csv(path: Path) -> Iterator[dict[str, str]]:
    """Read a table with a header row by row, each into a mapping."""
    with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
        yield from csv.DictReader(file, restkey="(beyond the last)")
