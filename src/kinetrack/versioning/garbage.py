"""Objects of DVC's cache that nothing needs any more: found, and removed.

`dvc gc` knows commits, branches and experiments, but nothing of the runs in MLflow. So what is to
be spared is named here by its MD5s, for any reason.
"""

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from kinetrack.errors import InputError, WriteError
from kinetrack.versioning.at_work import find_command_at_work
from kinetrack.versioning.listings import read_listing
from kinetrack.versioning.versions import list_checkouts

_FOLDER = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")
# What stages make of the videos, and would make again.
_DERIVED = ("data/frames/", "data/tensors/")
_BUSY = (errno.EAGAIN, errno.EACCES)


class Need(NamedTuple):
    """Contents that are needed, and why; folders by the MD5 of their lists."""

    reason: str
    md5s: frozenset[str]


class CacheObject(NamedTuple):
    """An object of the cache as it lies on disk."""

    md5: str
    path: Path
    num_bytes: int
    changed_s: float
    """When it came, or was last linked."""
    num_links: int


class Amount(NamedTuple):
    """So many objects, so many bytes."""

    objects: int
    num_bytes: int


class Plan(NamedTuple):
    """What of the cache is spared, each object for the first reason that it has, and what goes."""

    spared: dict[str, list[CacheObject]]
    unneeded: list[CacheObject]
    unlisted: dict[str, int]
    """By reason, folders whose list is not in the cache, so that it is not known what they need."""


def amount(objects: Iterable[CacheObject]) -> Amount:
    """Count objects and their bytes."""
    sizes = [one.num_bytes for one in objects]
    return Amount(len(sizes), sum(sizes))


def list_objects(cache: Path) -> Iterator[CacheObject]:
    """List the objects of the cache; no link is followed, and what is none of DVC's is left out."""
    for folder in _scan(cache / "files/md5"):
        if _FOLDER.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False):
            for entry in _scan(Path(folder.path)):
                status = entry.stat(follow_symlinks=False)
                if _NAME.fullmatch(entry.name) and stat.S_ISREG(status.st_mode):
                    yield CacheObject(
                        md5=folder.name + entry.name,
                        path=Path(entry.path),
                        num_bytes=status.st_size,
                        changed_s=status.st_ctime,
                        num_links=status.st_nlink,
                    )


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def plan_collection(root: Path, cache: Path, needs: Iterable[Need], *, started_s: float) -> Plan:
    """Tell what of the cache is needed, and what is not.

    Spared is also what a link leads to, and what came after `started_s` (seconds since 1970).

    Raises:
        InputError: the list of a folder that is needed is damaged.
    """
    reasons: dict[str, str] = {}
    unlisted: dict[str, int] = {}
    for need in needs:
        for md5 in sorted(md5 for md5 in need.md5s if md5 not in reasons):
            reasons[md5] = need.reason
            files = read_listing(cache, md5) if md5.endswith(".dir") else {}
            if files is None:
                unlisted[need.reason] = unlisted.get(need.reason, 0) + 1
            for file in (files or {}).values():
                reasons.setdefault(file, need.reason)
    linked = _find_linked(root, cache)
    plan = Plan({}, [], unlisted)
    for one in list_objects(cache):
        reason = reasons.get(one.md5) or _why_in_use(one, linked, started_s)
        if reason:
            plan.spared.setdefault(reason, []).append(one)
        else:
            plan.unneeded.append(one)
    return plan


def _why_in_use(one: CacheObject, linked: Collection[str], started_s: float) -> str:
    if one.num_links > 1 or one.md5 in linked:
        return "linked to by a file"
    return "newer than this command" if one.changed_s >= started_s else ""


def _find_linked(root: Path, cache: Path) -> set[str]:
    """MD5s of the objects that symbolic links in the project's data lead to."""
    home = (cache / "files/md5").resolve()
    found = set()
    for parent, folders, files in os.walk(root / "data"):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() and path.resolve().is_relative_to(home):
                found.add("".join(path.resolve().relative_to(home).parts))
    return found


def without_derived(
    outputs: Mapping[str, str], *, is_held: Callable[[str], bool]
) -> dict[str, str]:
    """Return outputs (MD5 by path) without those that can be made again from their videos.

    Args:
        is_held: whether the cache has all of the folder with this MD5.
    """
    return {
        path: md5
        for path, md5 in outputs.items()
        if not (path.startswith(_DERIVED) and is_held(outputs.get(_videos_of(path), "")))
    }


def _videos_of(path: str) -> str:
    """Where the videos lie of which an output was made."""
    return f"data/videos/{path.split('/')[2]}"


def remove_objects(objects: Iterable[CacheObject]) -> Amount:
    """Remove objects, the lists of folders first: what has its list shall be whole.

    What was linked, changed or removed since it was listed stays as it is.

    Raises:
        WriteError: no permission.
    """
    removed = []
    for one in sorted(objects, key=lambda one: (not one.md5.endswith(".dir"), one.md5)):
        try:
            status = one.path.lstat()
            if (status.st_ctime, status.st_nlink) == (one.changed_s, 1):
                one.path.unlink()
                removed.append(one)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise WriteError(one.path, "cannot be removed", found=error.strerror) from None
    return amount(removed)


def is_own_cache(root: Path, cache: Path) -> bool:
    """Whether no other project uses a cache, as far as the settings tell."""
    is_inside = _place_of(cache).is_relative_to((root / ".dvc").resolve())
    return is_inside and not _read_config(root).get("cache.shared")


def _place_of(cache: Path) -> Path:
    """Where the objects are: a link below the cache may lead to another place."""
    home, objects = cache.resolve(), (cache / "files/md5").resolve()
    return home if objects.is_relative_to(home) else objects


def require_own_cache(root: Path, cache: Path, *, consent: Path | None) -> None:
    """Refuse a cache that other projects may use, unless a person names it.

    Raises:
        InputError: it lies outside of the project or is set up as a shared one, and `consent` is
            not its path.
    """
    home = _place_of(cache)
    if consent is not None and consent.resolve() == home:
        return
    if consent is None and is_own_cache(root, cache):
        return
    if consent is not None and home.is_relative_to((root / ".dvc").resolve()):
        raise InputError(consent, "is not the cache of this project", expected=home)
    raise InputError(
        home,
        "may be the cache of other projects too, whose objects would go",
        remedy=f"if no other uses it: kinetrack gc --shared-cache {home}",
    )


@contextmanager
def hold_dvc(root: Path) -> Iterator[None]:
    """Keep DVC from changing the cache within the block, in the workspace and its experiments.

    Raises:
        InputError: DVC is at work.
    """
    if _read_config(root).get("core.hardlink_lock") == "true":
        raise InputError(
            ".dvc/config",
            "has DVC lock by hard links, which this command cannot do",
            remedy="dvc config --local core.hardlink_lock false, while nothing else runs",
        )
    with ExitStack() as locks:
        for folder in (root, *list_checkouts(root)):
            locks.enter_context(_hold(folder / ".dvc/tmp/lock"))
            if command := find_command_at_work(folder):
                raise _busy(folder, command)
        yield


@contextmanager
def _hold(path: Path) -> Iterator[None]:
    """Hold the lock that DVC takes, in the way in which it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise InputError(path, "cannot be locked", found=error.strerror) from None
            raise _busy(path.parent.parent.parent, None) from None
        yield


def _busy(folder: Path, command: str | None) -> InputError:
    return InputError(
        folder, "DVC is at work here", found=command, remedy="wait until it has ended"
    )


def _read_config(root: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "dvc", "config", "--list"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    pairs = (line.partition("=") for line in result.stdout.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
