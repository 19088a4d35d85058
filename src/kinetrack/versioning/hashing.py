"""Hashing many files, each of them once."""

import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from kinetrack.files import file_md5
from kinetrack.parallel import map_clips


class Hashed(NamedTuple):
    """What a path holds: MD5 and bytes of its content, or why there is none to read."""

    md5: str = ""
    num_bytes: int = 0
    problem: str = ""


def hash_files(paths: Collection[Path]) -> dict[Path, Hashed]:
    """Hash files in worker processes; links to one file are hashed once."""
    same: dict[tuple[int, int], list[Path]] = {}
    found: dict[Path, Hashed] = {}
    for path in sorted(paths):
        identity = identify(path)
        if isinstance(identity, Hashed):
            found[path] = identity
        else:
            same.setdefault(identity, []).append(path)
    hashes = map_clips(hash_one, [group[0] for group in same.values()], description="verify: hash")
    for group, hashed in zip(same.values(), hashes, strict=True):
        found |= dict.fromkeys(group, hashed)
    return found


def identify(path: Path) -> tuple[int, int] | Hashed:
    """Device and inode of a file; or why it is none to read."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Hashed(problem="is a broken link" if path.is_symlink() else "is missing")
    except OSError as error:  # a loop of links, a folder that may not be entered
        return Hashed(problem=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):  # a pipe would block
        return Hashed(problem="is no file")
    return status.st_dev, status.st_ino


def hash_one(path: Path) -> Hashed:
    """Hash one file, whatever its name and state."""
    try:
        return Hashed(file_md5(path), path.stat().st_size)
    except OSError as error:
        return Hashed(problem=f"cannot be read: {error.strerror}")
