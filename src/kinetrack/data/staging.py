"""The file of one key: found where it lies, or made in the staging folder, by worker processes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kinetrack.errors import InputError, WriteError
from kinetrack.files import copy_file, file_md5, write_json

How = Literal["made", "moved", "restored", "kept"]


class Record(NamedTuple):
    """What making a file gave: the MD5 of its bytes ("": no file), and what else was found.

    `facts` is plain data, as JSON has it.
    """

    md5: str
    facts: Mapping[str, Any]


# Writes the file of a source to a path. InputError: not this one; WriteError: not any one.
Make = Callable[[Any, Path], Record]


class Obtained(NamedTuple):
    """How a wanted file was come by: "made", "moved" from another name, "restored" from a cache,
    or "kept"; or the `problem`.
    """

    how: How
    record: Record
    problem: InputError | None = None


class Job(NamedTuple):
    """One key: where its file is wanted, and where it may be."""

    key: str
    source: Any
    targets: tuple[str, ...]
    record: Record | None
    others: tuple[str, ...]
    cached: Path | None


class Found(NamedTuple):
    """One key, done: which targets are right already, and a file to take for the others."""

    obtained: Obtained
    right: tuple[str, ...] = ()
    spare: Path | None = None


def staged_path(staging: Path, key: str) -> Path:
    """Under its key: whoever else writes it, as a worker that outlives its run, writes the same."""
    return staging / key[:2] / key


def record_path(staged: Path) -> Path:
    """Where the record of a staged file waits with it."""
    return staged.with_name(f"{staged.name}.json")


def make_staged(job: Job, *, make: Make, staging: Path) -> Found:
    """Make the file of a key in the staging folder; in a worker process.

    Raises:
        WriteError: there is no room, for this one or any other.
    """
    staged = staged_path(staging, job.key)
    try:
        record = make(job.source, staged)
    except WriteError:
        raise
    except InputError as problem:
        return Found(Obtained("made", Record("", {}), problem))
    if not record.md5:
        return Found(Obtained("made", record))
    write_json(record_path(staged), record._asdict())
    return Found(Obtained("made", record), spare=staged)


def find_made(job: Job, *, folder: Path, staging: Path) -> Found | None:
    """Find the bytes of a job's record in the folder or staged; in a worker process.

    None where they are in neither.
    """
    record, staged = job.record, staged_path(staging, job.key)
    assert record is not None
    right = _find_right(job, record, folder)
    if len(right) == len(job.targets):
        return Found(Obtained("kept", record), right)
    if _has_bytes(staged, record, root=staging):
        return Found(Obtained("kept", record), right, staged)
    for path in (*right, *job.others):
        if _has_bytes(folder / path, record, root=folder):
            return Found(Obtained("moved", record), right, folder / path)
    return None


def restore_cached(job: Job, *, folder: Path, staging: Path) -> Found | None:
    """Copy the bytes of a job's record from the cache, if they are right there; else None.

    Raises:
        WriteError: there is no room.
    """
    record, cached = job.record, job.cached
    assert record is not None
    assert cached is not None
    if not _has_bytes(cached, record, root=cached.parent):
        return None
    staged = staged_path(staging, job.key)
    try:
        copy_file(cached, staged)
    except WriteError:
        raise
    except OSError:  # gone meanwhile, or not to be read: it is made instead
        return None
    return Found(Obtained("restored", record), _find_right(job, record, folder), staged)


def _find_right(job: Job, record: Record, folder: Path) -> tuple[str, ...]:
    return tuple(path for path in job.targets if _has_bytes(folder / path, record, root=folder))


def _has_bytes(path: Path, record: Record, *, root: Path) -> bool:
    """Whether a file is what the record says; one behind a linked folder is not in its place."""
    try:
        in_place = path.parent.resolve() == root.resolve() / path.parent.relative_to(root)
        return in_place and path.is_file() and file_md5(path) == record.md5
    except OSError:
        return False


def read_record(path: Path) -> Record | None:
    """What a run that was killed has left; None when that is not to be used."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
