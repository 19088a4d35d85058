"""What archives from elsewhere may hold: limits, names and kinds of entries."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kinetrack.data.names import fold_name
from kinetrack.errors import InputError

# Videos do not shrink a hundredfold, and a clip takes more than a hundred bytes. Below the floors
# nothing is a bomb; so a file of 1 MB costs at most 100 MB and 10,000 entries of work.
_MOST_UNPACKED = 100
_BYTES_FLOOR = 64 * 2**20
_BYTES_PER_ENTRY = 100
_ENTRIES_FLOOR = 10_000
_MOST_ENTRIES = 200_000

_MOST_PATH_BYTES = 1024
_MOST_NAME_BYTES = 255
_MOST_DEPTH = 32

UNPACK_YOURSELF = "if you trust it, unpack it by hand and import the folder"
GET_AGAIN = "get the archive again, or unpack it by hand and import the folder"


class Member(NamedTuple):
    """A regular file of an archive; `path` is relative, with `/` between its parts."""

    path: str
    size_bytes: int


class Entry(NamedTuple):
    """What an archive says of one entry; `kind` is "file", "folder", "note" or what it is else.

    `read` yields the content in chunks, while it is the current entry.
    """

    name: str
    size_bytes: int
    kind: str
    read: Callable[[], Iterator[bytes]]


def check_path(archive: Path, name: str) -> str:
    """The relative path for a name, without `.` parts and doubled slashes; "" for the root.

    Raises:
        InputError: the name leads out, is no UTF-8, too long, too deep, or not for every system.
    """
    problem = _problem_of(name)
    if problem:
        raise InputError(archive, f"member {shown(name)} {problem}", remedy=UNPACK_YOURSELF)
    return "/".join(PurePosixPath(name).parts)


def _problem_of(name: str) -> str:
    try:
        num_bytes = len(name.encode())
    except UnicodeEncodeError:  # bytes that are no UTF-8, as lone surrogates
        return "has a name that is no UTF-8"
    checks = {
        "has a NUL byte in its name": "\0" in name,
        "has an absolute path": name.startswith("/"),
        "has a backslash in its name": "\\" in name,
        "has a path with a drive letter": re.match("[A-Za-z]:", name) is not None,
        "has a path that leads out of the folder": ".." in name.split("/"),
        "has too long a path": num_bytes > _MOST_PATH_BYTES,
        "lies too deep": name.count("/") > _MOST_DEPTH,
        f"has a name of more than {_MOST_NAME_BYTES} bytes": num_bytes > _MOST_NAME_BYTES
        and max(len(part.encode()) for part in name.split("/")) > _MOST_NAME_BYTES,
    }
    return next((problem for problem, found in checks.items() if found), "")


def shown(name: str) -> str:
    """The name for a message: its front, where it is long."""
    return name if len(name) <= 100 else f"{name[:100]}..."


def check_entry(archive: Path, entry: Entry) -> None:
    """Refuse links, devices and whatever else is no file with a name and no folder.

    Raises:
        InputError: it is one; it is named.
    """
    if entry.kind not in ("file", "folder", "note"):
        problem = f"member {shown(entry.name)} is {entry.kind}"
        raise InputError(
            archive, problem, expected="plain files and folders", remedy=UNPACK_YOURSELF
        )
    if entry.kind == "file" and PurePosixPath(entry.name) == PurePosixPath("."):
        raise InputError(archive, "holds a file without a name", remedy=UNPACK_YOURSELF)


def check_total(archive: Path, num_bytes: int, *, limit: int) -> None:
    """Refuse an archive that unpacks to more than `limit` bytes.

    Raises:
        InputError: it does.
    """
    if num_bytes > limit:
        raise InputError(
            archive,
            "unpacks to far more than it holds",
            found=f"{num_bytes} bytes or more",
            expected=f"at most {limit} for its size",
            remedy=UNPACK_YOURSELF,
        )


def byte_limit(archive: Path) -> int:
    """How many bytes an archive of this size may unpack to."""
    return max(_BYTES_FLOOR, _MOST_UNPACKED * archive.stat().st_size)


def entry_limit(archive: Path) -> int:
    """How many entries an archive of this size may hold."""
    earnest = archive.stat().st_size // _BYTES_PER_ENTRY
    return min(_MOST_ENTRIES, max(_ENTRIES_FLOOR, earnest))


def too_many(archive: Path, what: str, limit: int) -> InputError:
    """The error for more than `limit` entries or folders."""
    expected = f"at most {limit} for its size"
    return InputError(archive, f"holds too many {what}", expected=expected, remedy=UNPACK_YOURSELF)


def check_folders(archive: Path, members: Sequence[Member]) -> None:
    """Refuse a chain of folders around each file, which would take longer than the files."""
    limit = entry_limit(archive)
    folders: set[str] = set()
    for member in members:
        folder = member.path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
        if len(folders) > limit:
            raise too_many(archive, "folders", limit)


def check_collisions(archive: Path, members: Sequence[Member], folders: Collection[str]) -> None:
    """Refuse two files on one path, also where only case or Unicode form differ, or in a file.

    Raises:
        InputError: the first two such paths.
    """
    # NUL is in no name and sorts first: a file that is a folder too stands right before its own.
    keys = [(_sort_key(member.path), member.path) for member in members]
    keys += [(f"{key}\0", key) for key in {_sort_key(folder) for folder in folders if folder}]
    for (key, path), (following_key, following) in pairwise(sorted(keys)):
        if key == following_key:
            problem = f"holds {shown(path)} twice"
            if path != following:
                problem = f"holds {shown(path)} and {shown(following)}, one name on some disks"
            raise InputError(archive, problem, remedy=UNPACK_YOURSELF)
        if following_key.startswith(f"{key}\0"):
            problem = f"holds {shown(path)} as a file and as a folder"
            raise InputError(archive, problem, remedy=UNPACK_YOURSELF)


def _sort_key(path: str) -> str:
    return fold_name(path).replace("/", "\0")
