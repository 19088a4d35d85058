"""Where DVC still has a file that shall be forgotten: versions, objects, runs of its run cache."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from kinetrack.versioning.cache import object_path
from kinetrack.versioning.commits import LockLoader, git
from kinetrack.versioning.listings import read_listing
from kinetrack.versioning.versions import Version

# Which files of an output's folder are wanted: by its path, the MD5 of its list and the list.
Choice = Callable[[str, str, Mapping[str, str]], Collection[str]]


class Holder(NamedTuple):
    """A content that is to be erased, and what has it."""

    md5: str
    paths: tuple[str, ...]
    """Relative to the project, those that are to be forgotten."""
    shared_with: tuple[str, ...]
    """Where a version has the same bytes for something else, perhaps under the same path."""


class Search(NamedTuple):
    """What the versions hold of the wanted files."""

    holders: list[Holder]
    folders: frozenset[tuple[str, str]]
    """Path and MD5 of the folders that hold one: another data set may have one of the same MD5."""
    versions: list[Version]
    """Those that have one of these folders, in the order of all versions."""
    unlisted: list[Version]
    """Those of whose folders a list is not in the cache: it is not known whether they hold one."""


def search_versions(
    versions: Sequence[Version],
    cache: Path,
    choose: Choice,
    *,
    places: Collection[str],
    others: Collection[tuple[str, str]] = (),
) -> Search:
    """Find the wanted files in the folders of all versions.

    Args:
        places: paths of the folders in which they may be.
        others: path and MD5 of folders that no version may name.

    Raises:
        InputError: the list of a folder is damaged.
    """
    named = (pair for version in versions for pair in version.outputs.items())
    folders = [pair for pair in dict.fromkeys([*named, *others]) if pair[1].endswith(".dir")]
    wanted: dict[str, set[str]] = defaultdict(set)
    holding: set[tuple[str, str]] = set()
    unlisted: set[str] = set()
    for path, md5 in folders:
        files = read_listing(cache, md5)
        if files is None:
            unlisted |= {md5} if path in places else set()
            continue
        for name in choose(path, md5, files):
            wanted[files[name]].add(f"{path}/{name}")
            holding.add((path, md5))
    shared = _find_shared(folders, cache, wanted, choose)
    return Search(
        holders=[
            Holder(md5, tuple(sorted(paths)), tuple(sorted(shared.get(md5, ()))))
            for md5, paths in sorted(wanted.items(), key=lambda item: min(item[1]))
        ],
        folders=frozenset(holding),
        versions=[one for one in versions if holding & set(one.outputs.items())],
        unlisted=[one for one in versions if unlisted & set(one.outputs.values())],
    )


def _find_shared(
    folders: Collection[tuple[str, str]],
    cache: Path,
    wanted: Mapping[str, object],
    choose: Choice,
) -> dict[str, set[str]]:
    """Paths by MD5 at which a version has the bytes of a wanted file for another purpose."""
    shared: dict[str, set[str]] = defaultdict(set)
    for path, md5 in folders:
        files = read_listing(cache, md5) or {}
        if wanted.keys().isdisjoint(files.values()):
            continue
        chosen = choose(path, md5, files)
        for name, file in files.items():
            if file in wanted and name not in chosen:
                shared[file].add(f"{path}/{name}")
    return shared


def describe_version(version: Version, *, root: Path) -> str:
    """Name a version in a few words: the commit, and the branches and tags that have it."""
    if version.kind == "workspace":
        return "the workspace"
    short = version.origin.commit[:7]
    if version.kind == "experiment":
        return f"{short} (DVC's experiment {version.origin.experiment})"
    if version.kind == "stash":
        return f"{short} ({', '.join(version.names)})" if short else "what git add has set aside"
    names = _containing(version.origin.commit, root)
    return f"{short} ({', '.join(names)})" if names else short


def _containing(commit: str, root: Path) -> list[str]:
    """Branches, remote branches and tags that a commit is part of."""
    refs = ("refs/heads", "refs/remotes", "refs/tags")
    return git(root, "for-each-ref", f"--contains={commit}", "--format=%(refname:short)", *refs)


def find_remembered_runs(cache: Path, folders: Collection[tuple[str, str]]) -> list[Path]:
    """Find the files of DVC's run cache that bring back what was made of one of these folders.

    Args:
        folders: path and MD5 of each.
    """
    return [
        path
        for path in sorted((cache / "runs").glob("[0-9a-f][0-9a-f]/*/*"))
        if path.is_file() and any(folder in folders for folder in _folders_of(path))
    ]


def _folders_of(path: Path) -> Iterator[tuple[str, str]]:
    try:
        entry = yaml.load(path.read_bytes(), LockLoader)  # a safe loader
        for kind in ("deps", "outs"):
            for one in entry.get(kind) or ():
                yield str(one.get("path")), str(one.get("md5"))
    except (OSError, yaml.YAMLError, AttributeError, TypeError):
        return


def find_objects(cache: Path, md5s: Collection[str]) -> dict[str, Path]:
    """Paths by MD5 of those that the cache has."""
    paths = {md5: object_path(cache, md5) for md5 in md5s}
    return {md5: path for md5, path in paths.items() if path.is_file()}
