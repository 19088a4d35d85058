"""What changed in a folder under DVC since a Git revision."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from kinetrack.errors import InputError


class FolderChanges(NamedTuple):
    """Files that differ between a revision and the workspace, sorted; paths below the folder.

    A file that has the content of one that is gone is taken for moved: (old path, new path).
    """

    added: list[str]
    removed: list[str]
    modified: list[str]
    moved: list[tuple[str, str]]


def find_commit(revision: str, *, root: Path) -> str:
    """Return the id of the commit that a Git revision names.

    Raises:
        InputError: it names none.
    """
    commit = f"{revision}^{{commit}}"
    result = _run(["git", "rev-parse", "--verify", "--quiet", "--end-of-options", commit], root)
    if result.returncode != 0:
        raise InputError(
            revision, "is no Git revision of this project", remedy="git log --oneline lists them"
        )
    return result.stdout.strip()


def folder_changes(folder: str, *, revision: str, root: Path) -> FolderChanges:
    """Compare a folder under DVC as it lies on disk with the one of a Git revision.

    What is not yet committed to DVC counts too. `folder` is relative to `root`.

    Raises:
        InputError: no such revision or folder, it is not under DVC, or the list of its old files is
            not in the cache.
    """
    commit = find_commit(revision, root=root)
    if not (root / folder).is_dir():
        is_added = (root / f"{folder}.dvc").is_file()
        raise InputError(folder, "is not here", remedy=f"dvc pull {folder}.dvc" if is_added else "")
    difference = _read_difference(folder, commit=commit, root=root)
    changes = _changes_below(folder, difference)
    absent = {entry["path"] for entry in difference.get("not in cache", ())}
    if f"{folder}/" in absent and not any(changes):
        raise _not_in_cache(folder, folder, revision, root)
    return changes


def read_old_file(path: str, *, folder: str, revision: str, root: Path) -> bytes:
    """Read a file of a folder under DVC as it was at a Git revision; `path` is below the folder.

    Raises:
        InputError: no such revision, or the file is not in the cache.
    """
    commit, whole = find_commit(revision, root=root), f"{folder}/{path}"
    with TemporaryDirectory() as scratch:
        copy = Path(scratch, "old")
        if _run([*_DVC, "get", ".", whole, "--rev", commit, "-o", str(copy)], root).returncode:
            raise _not_in_cache(whole, folder, revision, root)
        return copy.read_bytes()


_DVC = (sys.executable, "-m", "dvc")


def _read_difference(folder: str, *, commit: str, root: Path) -> dict[str, Any]:
    result = _run([*_DVC, "diff", "--json", commit, "--targets", folder], root)
    if result.returncode != 0 and not (root / f"{folder}.dvc").is_file():
        raise InputError(folder, "is not under DVC", remedy=f"dvc add {folder}")
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise InputError(
            folder, "cannot be compared: dvc diff failed", found=lines[0] if lines else None
        )
    difference: dict[str, Any] = json.loads(result.stdout)
    return difference


def _changes_below(folder: str, difference: Mapping[str, Any]) -> FolderChanges:
    start = f"{folder}/"

    def below(paths: Iterable[str]) -> list[str]:
        # The folder's own entry is one too, with a slash behind it once DVC has hashed it.
        return sorted(path.removeprefix(start) for path in paths if not start.startswith(path))

    def listed(kind: str) -> list[str]:
        return below(entry["path"] for entry in difference.get(kind, ()))

    pairs = [entry["path"] for entry in difference.get("renamed", ())]
    moved = [
        (old.removeprefix(start), new.removeprefix(start))
        for old, new in sorted((pair["old"], pair["new"]) for pair in pairs)
    ]
    return FolderChanges(
        added=listed("added"), removed=listed("deleted"), modified=listed("modified"), moved=moved
    )


def _not_in_cache(path: str, folder: str, revision: str, root: Path) -> InputError:
    return InputError(
        path,
        f"as of {revision} is not in the cache",
        remedy=f"dvc fetch --all-commits {_target(folder, root)}",
    )


def _target(folder: str, root: Path) -> str:
    file = f"{folder}.dvc"
    return file if (root / file).is_file() else folder


def _run(command: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
