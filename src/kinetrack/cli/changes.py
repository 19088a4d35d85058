"""`kinetrack data --diff REV`: which clips and classes changed since a Git revision."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from kinetrack.data.clips import walk_videos
from kinetrack.data.differences import (
    Differences,
    Member,
    compare_members,
    members_of_folder,
    members_of_manifest,
)
from kinetrack.data.manifest import MANIFEST_NAME, read_manifest
from kinetrack.errors import InputError, printable
from kinetrack.params import PARAMS_FILE, load_params
from kinetrack.versioning.changes import FolderChanges, folder_changes, read_old_file


def print_changes(root: Path, revision: str, *, as_json: bool = False) -> None:
    """Print what changed in the data set's videos since a Git revision, one line a clip.

    Raises:
        InputError: no such revision, the videos are not under DVC, or their old list is gone.
    """
    dataset = load_params(root / PARAMS_FILE)["dataset"]
    folder = f"data/videos/{dataset}"
    changes = folder_changes(folder, revision=revision, root=root)
    differences = compare_members(
        _old_members(folder, changes, revision, root),
        _new_members(root / folder),
        modified=set(changes.modified),
        renamed=dict(changes.moved),
    )
    if as_json:
        told = {"dataset": dataset, "revision": revision, **differences._asdict()}
        print(json.dumps(told, indent=2))
        return
    print(printable(f"Data set {dataset}, from {revision} to the workspace"))
    for line in _describe(differences):
        print(printable(line))


def _new_members(folder: Path) -> dict[str, Member]:
    if (folder / MANIFEST_NAME).exists():
        return members_of_manifest(read_manifest(folder / MANIFEST_NAME))
    return members_of_folder(_list_files(folder))


def _old_members(
    folder: str, changes: FolderChanges, revision: str, root: Path
) -> dict[str, Member]:
    gone = {*changes.removed, *(old for old, _ in changes.moved)}
    came = {*changes.added, *(new for _, new in changes.moved)}
    files = (set(_list_files(root / folder)) - came) | gone
    had_manifest = MANIFEST_NAME in gone or (
        (root / folder / MANIFEST_NAME).exists() and MANIFEST_NAME not in came
    )
    if not had_manifest:
        return members_of_folder(sorted(files))
    content = read_old_file(MANIFEST_NAME, folder=folder, revision=revision, root=root)
    return _parse_manifest(content, name=f"{folder}/{MANIFEST_NAME} as of {revision}")


def _parse_manifest(content: bytes, *, name: str) -> dict[str, Member]:
    with TemporaryDirectory() as scratch:
        copy = Path(scratch, MANIFEST_NAME)
        copy.write_bytes(content)
        try:
            return members_of_manifest(read_manifest(copy))
        except InputError as error:
            raise InputError(name, error.problem, found=error.found) from None


def _list_files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk_videos(folder)]


def _describe(differences: Differences) -> Iterator[str]:
    yield from (f"  class added    {label}" for label in differences.classes_added)
    yield from (f"  class removed  {label}" for label in differences.classes_removed)
    yield from (f"  added    {clip}" for clip in differences.added)
    yield from (f"  removed  {clip}" for clip in differences.removed)
    yield from (f"  moved    {old} -> {new}" for old, new in differences.moved)
    yield from (f"  changed  {clip}: {what}" for clip, what in differences.changed)
    counts = {
        kind: len(getattr(differences, kind)) for kind in ("added", "removed", "moved", "changed")
    }
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    yield f"clips: {found}" if found else "no clip changed"
