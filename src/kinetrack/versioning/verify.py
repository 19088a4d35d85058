"""Whether the files that DVC tracks are what it has recorded, in the workspace and in its cache.

`dvc status` believes what it has seen before: an object of the cache with mode 0444, a file whose
time and size are the same. Here every byte is read. Nothing is changed.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kinetrack.versioning.cache import object_path
from kinetrack.versioning.hashing import Hashed, hash_files, hash_one, identify
from kinetrack.versioning.lock import content_md5
from kinetrack.versioning.questions import find_ignored
from kinetrack.versioning.tracked import Tracked, is_md5

# "none": this copy is not meant to be.
State = Literal["right", "wrong", "missing", "none"]


class CheckedFile(NamedTuple):
    """A file that DVC has recorded, and the state of its two copies.

    `path` is relative to the project, `cached_path` where the cache has it. A copy is "wrong" that
    has other bytes or cannot be read; `problem` tells more of the one in the workspace.
    """

    path: str
    md5: str
    num_bytes: int
    here: State
    cached: State
    cached_path: Path | None
    problem: str = ""

    @property
    def is_right(self) -> bool:
        """Whether every copy that is meant to be is right."""
        return {self.here, self.cached} <= {"right", "none"}


class CheckedOutput(NamedTuple):
    """A tracked file or folder: the files that it should hold, and what else there is.

    Of a folder, `list_state` is the one of the list of its files in the cache. Where neither the
    list nor the folder is right, nothing `is_known` of the files. `hostile` is a path of the list
    that leads out of the folder; none of its files was read. `extra` are relative to the project.
    """

    tracked: Tracked
    files: list[CheckedFile]
    list_state: State = "none"
    list_path: Path = Path()
    is_known: bool = True
    is_here: bool = True
    hostile: str | None = None
    extra: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether all of it is as recorded."""
        return (
            all(file.is_right for file in self.files)
            and self.list_state in ("right", "none")
            and self.is_known
            and self.hostile is None
            and not self.extra
        )


def verify_tracked(
    tracked: Iterable[Tracked], *, root: Path, cache: Path
) -> tuple[list[CheckedOutput], dict[Path, Hashed]]:
    """Read every file that is tracked, here and in the cache, and compare it with its record.

    Each file is read once, however many links lead to it. What was read is returned too.
    """
    outputs = [output for output in tracked if not output.not_checkable]
    listings = {output: _read_listing(output, cache) for output in outputs if output.is_folder}
    lost = [output for output in listings if not listings[output].is_known]
    hashed = hash_files({path for output in lost for path in _walk(root / output.path)})
    for output in lost:
        listings[output] = _rebuild(listings[output], output, root / output.path, hashed)
    paths: set[Path] = set()
    for output in outputs:
        paths.update(_paths_of(output, listings.get(output), root, cache))
    hashed |= hash_files(paths - hashed.keys())
    found = [_check(output, listings.get(output), root, cache, hashed) for output in outputs]
    return _without_ignored(found, root), hashed


class _Listing(NamedTuple):
    """The list of a folder's files, an object of the cache: MD5s by path below the folder."""

    path: Path
    state: State
    files: dict[str, str]
    is_known: bool = False
    hostile: str | None = None


def _read_listing(output: Tracked, cache: Path) -> _Listing:
    path = object_path(cache, output.md5)
    identity = identify(path)
    if isinstance(identity, Hashed):
        return _Listing(path, "wrong" if os.path.lexists(path) else "missing", {})
    files = _parse_listing(path)
    if files is None or hash_one(path).md5 != output.md5.removesuffix(".dir"):
        return _Listing(path, "wrong", {})
    hostile = min((name for name in files if not _stays_inside(name)), default=None)
    return _Listing(path, "right", files if hostile is None else {}, is_known=True, hostile=hostile)


def _rebuild(
    listing: _Listing, output: Tracked, here: Path, hashed: Mapping[Path, Hashed]
) -> _Listing:
    """Take the folder as it lies here for the list, where it is the one that was recorded."""
    files = {path.relative_to(here).as_posix(): hashed[path].md5 for path in _walk(here)}
    if content_md5(files) != output.md5:
        return listing
    return listing._replace(files=files, is_known=True)


def _parse_listing(path: Path) -> dict[str, str] | None:
    """MD5s by path; None for what is no list of DVC's."""
    try:
        entries: Any = json.loads(path.read_bytes())
        files = {str(entry["relpath"]): entry["md5"] for entry in entries}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return None
    are_files = all(is_md5(md5) and not md5.endswith(".dir") for md5 in files.values())
    return files if are_files else None


def _stays_inside(name: str) -> bool:
    """Whether a path is one as DVC writes it: plain names, joined by slashes."""
    return not any(part in ("", ".", "..") or "\0" in part for part in name.split("/"))


def _paths_of(output: Tracked, listing: _Listing | None, root: Path, cache: Path) -> Iterator[Path]:
    """The files that must be read to judge an output."""
    here = root / output.path
    files = {here: output.md5} if listing is None else _below(here, listing.files)
    for path, md5 in files.items():
        yield path
        if output.is_cached:
            yield object_path(cache, md5)


def _below(folder: Path, files: Mapping[str, str]) -> dict[Path, str]:
    return {folder / name: md5 for name, md5 in files.items()}


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder; no link to a folder is followed."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(files))


def _check(
    output: Tracked,
    listing: _Listing | None,
    root: Path,
    cache: Path,
    hashed: Mapping[Path, Hashed],
) -> CheckedOutput:
    here = root / output.path
    files = {here: output.md5} if listing is None else _below(here, listing.files)
    checked = [
        _check_file(path, md5, root, cache if output.is_cached else None, hashed)
        for path, md5 in sorted(files.items())
    ]
    if listing is None:
        return CheckedOutput(output, checked, is_here=checked[0].here != "missing")
    present = list(_walk(here))
    lists_all = listing.is_known and listing.hostile is None
    extra = [path for path in present if path not in files] if lists_all else []
    return CheckedOutput(
        output,
        checked,
        list_state=listing.state if output.is_cached else "none",
        list_path=listing.path,
        is_known=listing.is_known,
        is_here=bool(present),
        hostile=listing.hostile,
        extra=tuple(_relative(path, root) for path in extra),
    )


def _check_file(
    path: Path, md5: str, root: Path, cache: Path | None, hashed: Mapping[Path, Hashed]
) -> CheckedFile:
    here = hashed[path]
    cached_path = object_path(cache, md5) if cache else None
    return CheckedFile(
        path=_relative(path, root),
        md5=md5,
        num_bytes=here.num_bytes,
        here=_judge(here, md5, path),
        cached=_judge(hashed[cached_path], md5, cached_path) if cached_path else "none",
        cached_path=cached_path,
        problem=here.problem or ("" if here.md5 == md5 else "is not as recorded"),
    )


def _judge(hashed: Hashed, md5: str, path: Path) -> State:
    if hashed.md5 == md5:
        return "right"
    return "wrong" if os.path.lexists(path) else "missing"


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _without_ignored(outputs: Iterable[CheckedOutput], root: Path) -> list[CheckedOutput]:
    """Take the extra files out that DVC is told to ignore, by its own rules."""
    found = list(outputs)
    extra = [path for output in found for path in output.extra]
    if not extra:
        return found
    ignored = find_ignored(extra, root=root)
    return [
        output._replace(extra=tuple(path for path in output.extra if path not in ignored))
        for output in found
    ]
