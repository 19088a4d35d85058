"""Writing files so that a reader sees the old content or the new one, never half of it.

What is changed on a disk is changed by `kinetrack.disk`.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

from kinetrack import disk
from kinetrack.disk import open_file, refused, telling_write_errors, to_disk
from kinetrack.errors import InputError, WriteError

if TYPE_CHECKING:
    pass

_PARTIAL = ".partial"
_COPIED_AT_ONCE = 2**30
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
    temporary = path.with_name(f"{_hidden_name(path)}{os.getpid()}{_PARTIAL}")
    with telling_write_errors(path, temporary):
        disk.operations.make_folders(path.parent)
        try:
            with open_file(temporary, "w+b") as file:
                yield file
                to_disk(file)
            disk.operations.rename(temporary, path)
        except BaseException:
            discard(temporary)
            raise


def _hidden_name(path: Path) -> str:
    """How all temporary names of a file begin that this machine gives; a process id follows.

    Two writers never share one, no listing takes it for data. Not the name itself, which may be as
    long as a file system takes.
    """
    name_hash = zlib.crc32(os.fsencode(f"{platform.node()}/{path.name}"))
    return f".{name_hash:08x}."


def open_unfinished(path: Path) -> IO[bytes]:
    """Open an empty file that `atomic_file` has yielded by its name, as in a child process."""
    return open_file(path, "r+b")


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
                discard(leftover)
        _put_back(earlier, path)
        make_folder(temporary)
        try:
            yield temporary
            # Renamed, then removed: a kill in between loses nothing.
            remove(earlier)
            if path.exists():
                rename(path, earlier)
            rename(temporary, path)
            discard(earlier)
        except BaseException:
            with suppress(WriteError):  # then the next run does it
                _put_back(earlier, path)
            discard(temporary)
            raise


def _put_back(earlier: Path, path: Path) -> None:
    """Undo the first of two renames, where the second one was not to be."""
    if earlier.exists() and not path.exists():
        rename(earlier, path)


@contextmanager
def write_alone(path: Path) -> Iterator[None]:
    """Hold the right to write a file or folder; it ends with the process, however that ends.

    Raises:
        InputError: another process holds it, for longer than some seconds.
    """
    lock = path.with_name(f".{path.name}.lock")
    with telling_write_errors(path, lock):
        disk.operations.make_folders(lock.parent)
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
            discard(lock)


def _lock(path: Path) -> IO[bytes] | None:
    """Open and lock a file; None when somebody else holds it all the time."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        file = open_file(path, "w+b")
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
        discard(path)


def remove_partials_of(path: Path) -> None:
    """Remove what writers of one file that were killed have left half-written beside it."""
    for left in path.parent.glob(f"{_hidden_name(path)}*{_PARTIAL}"):
        number = left.name.split(".")[2]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            discard(left)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name, in place of the file that has it.

    Raises:
        WriteError: no permission, another file system, or the disk refuses it.
    """
    try:
        disk.operations.rename(source, target)
    except OSError as error:
        raise refused(target, error) from None


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if there is one.

    Raises:
        WriteError: no permission, or the disk refuses it.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            disk.operations.remove_tree(path)
        else:
            disk.operations.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise refused(path, error, problem="cannot be removed") from None


def discard(path: Path) -> None:
    """Remove a file or a whole folder as far as that goes; who comes next finds the rest."""
    with suppress(WriteError):
        remove(path)


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
    with telling_write_errors(path, path):
        disk.operations.make_folders(path)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; where the file system can (Btrfs, XFS), the copy shares the blocks."""
    with source.open("rb") as reader, atomic_file(target) as writer:
        try:
            while disk.operations.copy_range(reader.fileno(), writer.fileno(), _COPIED_AT_ONCE):
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
    with telling_write_errors(path, path), open_file(path, "a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        is_torn = file.read() not in (b"", b"\n")
        file.write(b"\n" * is_torn + line.encode() + b"\n")
        to_disk(file)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON; NaN and infinity are refused, since JSON has no word for them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
