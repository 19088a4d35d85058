"""Bringing a folder of made files up to date: what is there already is not made again.

Every file is wanted under a *key*, a checksum of all that its bytes depend on. A *record* says
which bytes a key gave (their MD5) and what else was found. So a file is right when it has the
bytes of its key's record, wherever it lies: in its place, under another name in the folder, in the
staging folder of a run that was killed, or in a cache.

New files wait in the staging folder until all are there; then they take their places within
moments, and the index is written last. A run that is killed at any moment loses the files that
were being made, no others.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kinetrack.data.staging import (
    Found,
    How,
    Job,
    Make,
    Obtained,
    Record,
    find_made,
    make_staged,
    read_record,
    record_path,
    restore_cached,
    staged_path,
)
from kinetrack.errors import InputError, WriteError
from kinetrack.files import (
    copy_file,
    discard,
    make_folder,
    remove,
    rename,
    write_alone,
    write_text,
)
from kinetrack.parallel import map_clips


class Wanted(NamedTuple):
    """A file that a folder shall hold; `source` is what it is made of, sent to the workers."""

    path: str
    key: str
    source: Any


class Known(NamedTuple):
    """What earlier runs tell: records by key, and by MD5 where files lay below the folder."""

    records: dict[str, Record]
    paths: dict[str, list[str]]

    def add(self, key: str, record: Record, path: str) -> None:
        """Learn of one file of an earlier run."""
        self.records[key] = record
        self.paths.setdefault(record.md5, []).append(path)


def describe_work(obtained: Iterable[How], *, made: str) -> str:
    """Count what was made anew and what was there already: "1 decoded, 0 moved, 237 kept"."""
    counts = Counter(obtained)
    restored = [f"{counts['restored']} from the cache"] if counts["restored"] else []
    shown = [f"{counts['made']} {made}", f"{counts['moved']} moved", *restored]
    return ", ".join([*shown, f"{counts['kept']} kept"])


@contextmanager
def update_folder(
    folder: Path, *, known: Known, find_cached: Callable[[str], Path | None]
) -> Iterator["FolderUpdate"]:
    """Yield a way to bring a folder up to date; nobody else may write it meanwhile.

    `find_cached` names a file elsewhere that should have an MD5.

    Raises:
        InputError: another process is writing the folder.
    """
    folder = folder.resolve()
    with write_alone(folder):
        update = FolderUpdate(folder, known, find_cached)
        if update.staging.is_symlink():  # not ours
            remove(update.staging)
        yield update


class FolderUpdate:
    """A folder on its way: `obtain` every file, then `finish`."""

    def __init__(
        self, folder: Path, known: Known, find_cached: Callable[[str], Path | None]
    ) -> None:
        self._folder = folder
        self.staging = folder.with_name(f".{folder.name}.partial")
        self._known = known
        self._find_cached = find_cached
        self._found: dict[str, Found] = {}
        self._jobs: list[Job] = []

    def obtain(self, wanted: Sequence[Wanted], make: Make, *, description: str) -> list[Obtained]:
        """Have every file, in its place or in the staging folder; make what is nowhere.

        The folder itself stays as it is. Results come in the order of `wanted`; a file that cannot
        be made is told there and stops no other.

        Raises:
            WriteError: there is no room; what was made so far waits for the next run.
        """
        self._jobs = self._plan(wanted)
        recorded = [job for job in self._jobs if job.record]
        self._found = self._map(find_made, recorded, "comparing what is there")
        cached = [self._look_up(job) for job in recorded if job.key not in self._found]
        self._found |= self._map(
            restore_cached, [job for job in cached if job.cached], "from the cache"
        )
        lacking = [job for job in self._jobs if job.key not in self._found]
        # Sent to the workers only now: to load what makes a file may take longer than to look.
        work = partial(make_staged, make=make, staging=self.staging)
        made = map_clips(work, lacking, description=description)
        self._found |= {job.key: found for job, found in zip(lacking, made, strict=True)}
        return list(self._tell(wanted))

    def _map(
        self, look: Callable[..., Found | None], jobs: Sequence[Job], description: str
    ) -> dict[str, Found]:
        """What one way to look finds, by key."""
        work = partial(look, folder=self._folder, staging=self.staging)
        found = map_clips(work, jobs, description=description)
        return {job.key: one for job, one in zip(jobs, found, strict=True) if one}

    def _look_up(self, job: Job) -> Job:
        return job._replace(cached=self._find_cached(job.record.md5) if job.record else None)

    def _tell(self, wanted: Iterable[Wanted]) -> Iterator[Obtained]:
        made = set()
        for item in wanted:
            found = self._found[item.key]
            if item.path in found.right:
                yield found.obtained._replace(how="kept")
            elif item.key in made:  # its twin's file is copied
                yield found.obtained._replace(how="moved")
            else:
                made.add(item.key)
                yield found.obtained

    def _plan(self, wanted: Iterable[Wanted]) -> list[Job]:
        by_key: dict[str, list[Wanted]] = {}
        for item in wanted:
            by_key.setdefault(item.key, []).append(item)
        return [self._plan_key(items) for items in by_key.values()]

    def _plan_key(self, items: Sequence[Wanted]) -> Job:
        key, source = items[0].key, items[0].source
        targets = tuple(item.path for item in items)
        left = record_path(staged_path(self.staging, key))
        record = self._known.records.get(key) or read_record(left)
        if record is None:
            return Job(key, source, targets, None, (), None)
        others = tuple(set(self._known.paths.get(record.md5, ())) - set(targets))
        return Job(key, source, targets, record, others, None)

    def finish(self, tables: Mapping[str, Callable[[Path], None]]) -> None:
        """Give every file its place, remove all others, and write the tables, the index last.

        `tables` are writers by file name, the index the last of them.

        Raises:
            InputError: there is no room, or no way to rename into the folder, or a file has the
                name of a table; the folder is as it was.
        """
        self._refuse_names(tables)
        for name, write in tables.items():
            write(self.staging / name)
        ready, moves = self._gather()
        *_, index = tables
        folders = {(self._folder / path).parent for path in ready} | {self._folder}
        for folder in folders:
            if not _is_blocked(folder):
                make_folder(folder)
                self._try_to_rename_into(folder)
        # What needs room is there by now; from here on files only change their names.
        remove(self._folder / index)  # its presence means that all is there
        for spare, staged in moves.items():
            rename(spare, staged)
        _remove_others(
            self._folder, {path for job in self._jobs for path in self._right(job)}, folders
        )
        for path, staged in ready.items():
            make_folder((self._folder / path).parent)
            rename(staged, self._folder / path)
        for name in tables:
            rename(self.staging / name, self._folder / name)
        remove(self.staging)

    def _refuse_names(self, tables: Iterable[str]) -> None:
        for job in self._jobs:
            for path in job.targets:
                if path.split("/")[0] in tables:
                    raise InputError(
                        self._folder / path,
                        "would lie where a table belongs",
                        remedy="rename the class",
                    )

    def _try_to_rename_into(self, folder: Path) -> None:
        """Move a file there and back, as all others will be: not so to another file system."""
        probe = self.staging / ".probe"
        if not probe.exists():
            write_text(probe, "")
        try:
            rename(probe, folder / probe.name)
            rename(folder / probe.name, probe)
        except WriteError as error:
            discard(folder / probe.name)
            raise WriteError(
                folder,
                "cannot take files from the folder beside the output",
                found=error.found,
                expected=f"one file system with {self.staging.parent}, and the right to write",
                remedy="mount or link the folder above it instead, or see to the permissions",
            ) from None

    def _right(self, job: Job) -> tuple[str, ...]:
        return self._found[job.key].right

    def _gather(self) -> tuple[dict[str, Path], dict[Path, Path]]:
        """Have a staged file for each place that lacks its own, or tell what to move there.

        Copies are made here, since they need room; the folder itself is not touched.
        """
        staying = {self._folder / path for job in self._jobs for path in self._right(job)}
        moves: dict[Path, Path] = {}
        ready: dict[str, Path] = {}
        for job in self._jobs:
            spare = self._found[job.key].spare
            lacking = [path for path in job.targets if path not in self._right(job)]
            if spare is None or not lacking:
                continue
            own = staged_path(self.staging, job.key)
            ready[lacking[0]] = own
            for number, path in enumerate(lacking[1:], start=1):
                ready[path] = own.with_name(f"{own.name}.{number}")
                copy_file(spare, ready[path])
            if spare in staying or spare in moves:
                copy_file(spare, own)
            elif spare != own:
                make_folder(own.parent)
                moves[spare] = own
        return ready, moves


def _is_blocked(folder: Path) -> bool:
    """Whether a file has the name of a folder that is wanted."""
    return any(path.is_symlink() or path.is_file() for path in (folder, *folder.parents))


def _remove_others(folder: Path, staying: set[str], needed: set[Path]) -> None:
    """Remove every file below a folder but these, and other folders that are empty then."""
    for parent, folders, files in os.walk(folder, topdown=False):
        paths = [Path(parent, name) for name in (*files, *folders)]
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                if path not in needed:
                    _remove_if_empty(path)
            elif path.relative_to(folder).as_posix() not in staying:
                remove(path)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        remove(folder)
