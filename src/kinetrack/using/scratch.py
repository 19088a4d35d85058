"""Folders for what is needed for moments only, as the frames of a video that is looked at."""

import atexit
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path

from kinetrack.errors import WriteError

_PREFIX = "kinetrack-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder, among the system's for temporary files, that is gone after the block.

    A process that is killed leaves its own behind. The next one that asks for a folder removes it:
    a lock, which ends with the process, says that nobody is at it.

    Raises:
        WriteError: no room, or no permission.
    """
    parent = _find_parent()
    _remove_abandoned(parent)
    name = secrets.token_hex(8)
    folder = parent / f"{_PREFIX}{name}"
    remove = partial(_remove, folder, os.getpid())
    # Before the folder is there: a signal may come at any moment, while it is removed too.
    atexit.register(remove)
    lock = None
    try:
        lock = _make_locked(folder, unlocked=parent / f".{name}.partial")
        yield folder
    finally:
        remove()
        atexit.unregister(remove)
        if lock is not None:
            os.close(lock)


def _find_parent() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise WriteError(
            "TMPDIR",
            "leads to no folder that can be written",
            found=error.strerror,
            remedy="set it to one that has room",
        ) from None


def _make_locked(folder: Path, *, unlocked: Path) -> int:
    """Make a folder that has its lock before it has its name; return what holds the lock."""
    try:
        unlocked.mkdir(mode=0o700)  # it may hold pictures of people
        lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks: nobody removes what is left there
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(folder)
    except OSError as error:
        raise WriteError(
            folder.parent,
            "has no room for a folder for temporary files",
            found=error.strerror,
            remedy="make room, or set TMPDIR to a folder that has it",
        ) from None
    return lock


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not from a process that was forked meanwhile
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=16)  # once a process and place
def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        # Gone meanwhile, somebody else's, a link, or locked: nothing of ours.
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
