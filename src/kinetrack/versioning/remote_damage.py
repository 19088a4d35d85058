"""Whether a DVC remote has all of the present version, byte for byte, and what repairs it.

What the commands have to go round, as DVC 3.67 does it: `dvc push` looks for the list of a folder
alone; where the remote has that, DVC believes all of the folder's files to be there. So the list is
removed with the damaged file. And DVC remembers files of other folders that it once saw there, in
its site cache: so the push that follows takes an empty one.
"""

import errno
import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kinetrack.parallel import with_progress
from kinetrack.versioning.cache import folder_listing, object_path
from kinetrack.versioning.hashing import Hashed, hash_files
from kinetrack.versioning.remote_objects import RemoteObjects
from kinetrack.versioning.tracked import Tracked, is_md5

State = Literal["missing", "damaged"]

# Connections to wait on at once; so many blocks of some MB are in memory.
_THREADS = 8
_READ_BYTES = 2**20
_LARGEST_LIST_BYTES = 2**30
# Other errors are those of the whole remote.
_OF_ONE_FILE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR)


class RemoteFinding(NamedTuple):
    """An object that the remote lacks, or has with other bytes.

    `paths` are the files of one output with this content; of a folder's list it is the folder.
    `lists` are the MD5s of the lists on the remote that name the object.
    """

    md5: str
    paths: tuple[str, ...]
    state: State
    problem: str
    owner: str
    is_stage: bool
    lists: tuple[str, ...] = ()
    is_right_here: bool = True
    """Whether this machine's cache has it, byte for byte."""
    can_repair: bool = True
    """Whether it also has all else that has to be sent with it."""

    @property
    def to_remove(self) -> tuple[str, ...]:
        """What has to go over there before DVC sends this."""
        return (*([self.md5] if self.state == "damaged" else []), *self.lists)


class CheckedOnRemote(NamedTuple):
    """A tracked file or folder: how much of it was looked for, and what was found."""

    path: str
    num_objects: int
    num_bytes: int
    findings: list[RemoteFinding]
    not_checked: str = ""


class _Wanted(NamedTuple):
    """The objects of one output: paths by MD5; none where the list of a folder is nowhere."""

    tracked: Tracked
    paths: dict[str, list[str]]
    is_listed_here: bool = True
    """Whether the cache has the list, and not the remote alone."""


def check_remote_objects(
    remote: RemoteObjects, tracked: Sequence[Tracked], *, cache: Path, unsent: Mapping[str, str]
) -> list[CheckedOnRemote]:
    """Read every object of the outputs that the remote should have, and compare it with its MD5.

    Args:
        unsent: why a path is not sent to this remote, of those that are not.

    Raises:
        InputError: the connection broke off.
    """
    sent = [one for one in tracked if not _why_not(one, unsent)]
    lists_there = remote.which_are_there({one.md5 for one in sent if one.is_folder})
    wanted = {one: _list_objects(one, remote, cache, lists_there) for one in sent}
    md5s = {md5 for one in wanted.values() for md5 in one.paths}
    there = remote.which_are_there(md5s)
    hashed = _hash_objects(remote, sorted(there))
    lacking = {object_path(cache, md5): md5 for md5 in md5s if _judge(md5, hashed) is not None}
    here = hash_files(lacking)
    right_here = {md5 for path, md5 in lacking.items() if here[path].md5 == md5[:32]}
    found = _Found(list(wanted.values()), hashed, right_here)
    return [
        found.describe(wanted[one])
        if one in wanted
        else CheckedOnRemote(one.path, 0, 0, [], _why_not(one, unsent))
        for one in tracked
        if one.is_cached
    ]


def repair_commands(remote: RemoteObjects, findings: Sequence[RemoteFinding]) -> list[str]:
    """Return the commands that repair what this machine's cache has right, in their order.

    Where no command for the removal is known, only the push: a person removes `to_remove`.
    """
    mended = [finding for finding in findings if finding.can_repair]
    if not mended:
        return []
    to_remove = sorted({md5 for finding in mended for md5 in finding.to_remove})
    push = f"dvc push -r {shlex.quote(remote.name)}"
    if to_remove:
        push = f'DVC_SITE_CACHE_DIR="$(mktemp -d)" {push}'
    return [*remote.remove_commands(to_remove), push]


def _why_not(tracked: Tracked, unsent: Mapping[str, str]) -> str:
    if not tracked.is_cached:
        return "is in Git"
    return tracked.not_checkable or unsent.get(tracked.path, "")


def _list_objects(
    tracked: Tracked, remote: RemoteObjects, cache: Path, lists_there: Collection[str]
) -> _Wanted:
    """The objects of an output, by the list in the cache here, or else by that of the remote."""
    paths: dict[str, list[str]] = {tracked.md5: [tracked.path]}
    files = folder_listing(cache, tracked.md5) if tracked.is_folder else {}
    is_listed_here = files is not None
    if files is None and tracked.md5 in lists_there:
        files = _read_list(remote, tracked.md5)
    for name, md5 in sorted((files or {}).items()):
        paths.setdefault(md5, []).append(f"{tracked.path}/{name}")
    return _Wanted(tracked, paths, is_listed_here)


def _read_list(remote: RemoteObjects, md5: str) -> dict[str, str] | None:
    """The remote's list of a folder; None for a damaged one, which is found by its MD5 later."""
    try:
        with remote.open(md5) as file:
            content = file.read(_LARGEST_LIST_BYTES)
        if f"{_md5(content)}.dir" != md5:
            return None
        files: dict[str, Any] = {str(one["relpath"]): one["md5"] for one in json.loads(content)}
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    except Exception as error:  # each kind of remote has its own
        raise remote.broken_off(error) from None
    return files if all(map(is_md5, files.values())) else None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _hash_objects(remote: RemoteObjects, md5s: Sequence[str]) -> dict[str, Hashed]:
    """Read and hash objects, several at once."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        hashes = pool.map(partial(_hash_object, remote), md5s)
        told = with_progress(hashes, total=len(md5s), description=f"verify: read {remote.name}")
        return dict(zip(md5s, told, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _hash_object(remote: RemoteObjects, md5: str) -> Hashed:
    digest, num_bytes = hashlib.md5(usedforsecurity=False), 0
    try:
        with remote.open(md5) as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
                num_bytes += len(block)
    except FileNotFoundError:
        return Hashed(problem="is missing")
    except Exception as error:  # each kind of remote has its own
        if isinstance(error, OSError) and error.errno in _OF_ONE_FILE:
            return Hashed(problem=f"cannot be read ({error.strerror})")
        raise remote.broken_off(error) from None
    return Hashed(digest.hexdigest(), num_bytes)


def _judge(md5: str, hashed: Mapping[str, Hashed]) -> tuple[State, str] | None:
    """What is wrong with an object of the remote; None when nothing is."""
    found = hashed.get(md5)
    if found is None or found.problem == "is missing":
        return "missing", "is missing"
    if found.md5 == md5[:32]:
        return None
    return "damaged", found.problem or "has other bytes"


class _Found:
    """What was found, to be told output by output."""

    def __init__(
        self, wanted: Sequence[_Wanted], hashed: Mapping[str, Hashed], right_here: set[str]
    ) -> None:
        self._hashed, self._right_here = hashed, right_here
        self._lists: dict[str, set[str]] = defaultdict(set)
        # A list that is removed must come back, and does with all of its files only.
        self._kept: set[str] = set()
        for one in wanted:
            if one.tracked.is_folder and _judge(one.tracked.md5, hashed) is None:
                self._add_list(one)

    def _add_list(self, one: _Wanted) -> None:
        lacking = [md5 for md5 in one.paths if _judge(md5, self._hashed) is not None]
        for md5 in lacking:
            self._lists[md5].add(one.tracked.md5)
        if not one.is_listed_here or not self._right_here.issuperset(lacking):
            self._kept.add(one.tracked.md5)

    def describe(self, one: _Wanted) -> CheckedOnRemote:
        num_bytes = sum(self._hashed[md5].num_bytes for md5 in one.paths if md5 in self._hashed)
        findings = [
            self._to_finding(md5, paths, one.tracked, *judged)
            for md5, paths in one.paths.items()
            if (judged := _judge(md5, self._hashed))
        ]
        return CheckedOnRemote(one.tracked.path, len(one.paths), num_bytes, findings)

    def _to_finding(
        self, md5: str, paths: Sequence[str], tracked: Tracked, state: State, problem: str
    ) -> RemoteFinding:
        lists = self._lists.get(md5, set())
        is_right_here = md5 in self._right_here
        return RemoteFinding(
            md5,
            tuple(paths),
            state,
            f"{problem} on the remote" + " (the list of its files)" * md5.endswith(".dir"),
            tracked.owner,
            tracked.is_stage,
            tuple(sorted(lists)),
            is_right_here,
            is_right_here and self._kept.isdisjoint(lists),
        )
