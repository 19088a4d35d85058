"""What changes a disk, and errors of it that name the file which was to be written.

Everything that stages, checkpoints, reports and indexes change on a disk goes through `operations`.
"""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kinetrack.errors import WriteError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Operations:
    """What changes a disk, one method each; tests put one in their place that fails."""

    def open(self, path: str, flags: int) -> int:
        """Open a file to write it; its number."""
        return os.open(path, flags, 0o666)

    def write(self, number: int, content: "ReadableBuffer") -> int:
        """Write to an open file; so many bytes were written."""
        return os.write(number, content)

    def copy_range(self, source: int, target: int, count: int) -> int:
        """Copy from an open file to another; so many bytes were copied."""
        return os.copy_file_range(source, target, count)

    def sync(self, number: int) -> None:
        """Have what was written to an open file on the disk."""
        os.fsync(number)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name, in place of the file that has it."""
        os.replace(source, target)  # noqa: PTH105  # here only

    def remove(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)  # noqa: PTH108

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all that it holds."""
        shutil.rmtree(path)

    def make_folders(self, path: Path) -> None:
        """Make a folder and those above it where they are missing."""
        path.mkdir(parents=True, exist_ok=True)


operations = Operations()


class _File(io.FileIO):
    """An open file whose errors of writing name it: others come from what is read meanwhile."""

    def write(self, content: "ReadableBuffer") -> int:
        with _naming(self):
            return operations.write(self.fileno(), content)


def open_file(path: Path, mode: str) -> IO[bytes]:
    """Open a file to write it and to read it again; `mode` as that of `open`, in bytes.

    Raises:
        OSError: as the system says it, also when something is written; it names the file.
    """
    return io.BufferedRandom(_File(str(path), mode, opener=operations.open))


@contextmanager
def _naming(file: IO[bytes] | io.FileIO) -> Iterator[None]:
    """Give an error the name of the file, as `open` does and `write` does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file.name)) from None


def to_disk(file: IO[bytes]) -> None:
    """Have all that was written to an open file on the disk.

    Raises:
        OSError: the disk refuses it; it names the file.
    """
    file.flush()
    with _naming(file):
        operations.sync(file.fileno())


@contextmanager
def telling_write_errors(path: Path, temporary: Path) -> Iterator[None]:
    """Name the file that was to be written, where an error within the block is one of writing.

    Args:
        temporary: what is written in its place; errors of other files are raised as they are.

    Raises:
        WriteError: no room, no permission, or the disk refuses it.
    """
    try:
        yield
    except OSError as error:
        ours = {str(temporary), *map(str, temporary.parents)}
        if str(error.filename) not in ours:
            raise
        raise refused(path, error) from None


def refused(path: Path, error: OSError, *, problem: str = "cannot be written") -> WriteError:
    """Return what to raise when the disk refuses a file: the reason, and how much room there is."""
    return WriteError(
        path,
        problem,
        found=f"{error.strerror}; {_describe_room(path)}",
        remedy="make room, or see to the permissions, then run it again",
    )


def _describe_room(path: Path) -> str:
    try:
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        return f"{shutil.disk_usage(existing).free} bytes free there"
    except OSError:  # of a disk that does not even answer that
        return "unknown room there"
