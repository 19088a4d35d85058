"""A disk that fails at one moment and from then on, in place of that of `kinetrack.disk`."""

import errno
import os
from pathlib import Path
from typing import Literal, NamedTuple

from kinetrack import disk

Trouble = Literal["full", "dead"]
_ERRORS = {"full": errno.ENOSPC, "dead": errno.EIO}


class FailingDisk(disk.Operations):
    """Lets so many operations pass; all later ones fail.

    A full disk still removes files. The write that fails first has written a half. `marker` is
    made at the first failure.
    """

    def __init__(self, passing: int, trouble: Trouble, marker: Path) -> None:
        self._passing, self._trouble, self._marker = passing, trouble, marker

    def _fails(self) -> bool:
        self._passing -= 1
        return self._passing < 0

    def _fail(self, path: object = None) -> None:
        self._marker.touch()
        number = _ERRORS[self._trouble]
        # As the system does: a call on an open file names no file.
        raise OSError(number, os.strerror(number), *([str(path)] if path is not None else []))

    def _pass_or_fail(self, path: object = None) -> None:
        if self._fails():
            self._fail(path)

    def open(self, path: str, flags: int) -> int:
        self._pass_or_fail(path)
        return super().open(path, flags)

    def write(self, number: int, content: object) -> int:
        if self._fails():
            if self._passing == -1:
                os.write(number, memoryview(content).cast("B")[: memoryview(content).nbytes // 2])
            self._fail()
        return super().write(number, content)

    def copy_range(self, source: int, target: int, count: int) -> int:
        self._pass_or_fail()
        return super().copy_range(source, target, count)

    def sync(self, number: int) -> None:
        self._pass_or_fail()
        super().sync(number)

    def rename(self, source: Path, target: Path) -> None:
        self._pass_or_fail(source)
        super().rename(source, target)

    def make_folders(self, path: Path) -> None:
        if not path.is_dir():  # nothing is written then
            self._pass_or_fail(path)
        super().make_folders(path)

    def remove(self, path: Path) -> None:
        if self._trouble != "full" and os.path.lexists(path):
            self._pass_or_fail(path)
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        if self._trouble != "full":
            self._pass_or_fail(path)
        super().remove_tree(path)


class FailingRun(NamedTuple):
    """Code for a process of its own in which the disk fails so."""

    passing: int
    trouble: Trouble
    marker: Path

    @property
    def code(self) -> str:
        """It is run before the stage is."""
        return (
            f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
            "from pathlib import Path\n"
            "from failing_disk import FailingDisk\n"
            "from kinetrack import disk\n"
            f"disk.operations = FailingDisk({self.passing}, {self.trouble!r},"
            f" Path({str(self.marker)!r}))\n"
            "from kinetrack.data import frames\n"
            # What decodes writes the archive: here, where the disk fails, and in no child process.
            "frames.decode_isolated = lambda write, *paths, stall_s: write(*paths)\n"
        )
