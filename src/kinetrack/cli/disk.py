"""`kinetrack disk`: what the versions of the data take, by data set, stage and version."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from kinetrack.cli.screen import table_console
from kinetrack.errors import InputError, printable
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.garbage import list_objects
from kinetrack.versioning.listings import read_listing
from kinetrack.versioning.versions import Version, list_versions

_STAGE = re.compile(r"data/(videos|frames|tensors)/([^/]+)")
_OTHER_STAGES = {"data/splits": "splits", "data/model": "model"}
_FOLDERS = (".kinetrack", "mlruns", "data")


class Use(NamedTuple):
    """Contents of some kind: each counted once, however many versions have it."""

    of: tuple[str, ...]
    """Data set and stage, or a version."""
    files: int
    num_bytes: int
    only_bytes: int
    """Of those that nothing else of its table has."""
    missing: int
    """Files that the cache has not, so that their size is not known."""


class DiskUse(NamedTuple):
    """All figures, in bytes."""

    stages: list[Use]
    versions: list[Use]
    cache: str
    cache_bytes: int
    unreferenced_bytes: int
    """Of objects that no version has; runs in MLflow may need them."""
    folders: dict[str, int]
    free_bytes: int


def print_disk(root: Path, *, as_json: bool) -> None:
    """Measure and print.

    Raises:
        InputError: the project is not under DVC, or its files of DVC's cannot be read.
    """
    use = measure_disk(root)
    if as_json:
        print(json.dumps(_to_json(use), indent=2))
        return
    _print_table(("data set", "stage"), use.stages)
    print()
    _print_table(("version",), use.versions)
    print()
    for line in _describe_totals(use):
        print(printable(line))


def measure_disk(root: Path) -> DiskUse:
    """Measure what all versions of the data take, and what else lies here."""
    cache = cache_folder(root)
    sizes = {one.md5: one.num_bytes for one in list_objects(cache)}
    stages: dict[tuple[str, ...], set[str]] = {}
    groups: dict[tuple[str, ...], set[str]] = {}
    for (path, md5), versions in _group_versions(list_versions(root)).items():
        files = _expand(cache, md5)
        for table, names in ((stages, {_name_stage(path)}), (groups, versions)):
            for name in names:
                table.setdefault(name, set()).update(files)
    used = set().union(*groups.values())
    return DiskUse(
        stages=sorted(_count(stages, sizes)),
        versions=list(_count(groups, sizes)),
        cache=str(cache),
        cache_bytes=sum(sizes.values()),
        unreferenced_bytes=sum(size for md5, size in sizes.items() if md5 not in used),
        folders={name: _size_of(root / name) for name in _FOLDERS if (root / name).is_dir()},
        free_bytes=shutil.disk_usage(root).free,
    )


def _group_versions(
    versions: Iterable[Version],
) -> dict[tuple[str, str], dict[tuple[str, ...], None]]:
    """Groups of versions, in order, by the path and MD5 of an output that they have."""
    found: dict[tuple[str, str], dict[tuple[str, ...], None]] = {}
    for version in versions:
        for output in version.outputs.items():
            found.setdefault(output, {})[_name_group(version)] = None
    return found


def _name_group(version: Version) -> tuple[str, ...]:
    if version.kind == "tip":
        return (", ".join(version.names),)
    groups = {
        "workspace": "the workspace",
        "commit": "older commits",
        "experiment": "DVC's experiments",
        "stash": "stashed and queued work",
    }
    return (groups[version.kind],)


def _name_stage(path: str) -> tuple[str, ...]:
    if match := _STAGE.fullmatch(path):
        return match[2], match[1]
    return "", _OTHER_STAGES.get(path, path)


def _expand(cache: Path, md5: str) -> list[str]:
    """MD5s of a folder's files and of their list; a damaged list is left to `kinetrack verify`."""
    if not md5.endswith(".dir"):
        return [md5]
    try:
        files = read_listing(cache, md5) or {}
    except InputError:
        files = {}
    return [md5, *files.values()]


def _count(groups: Mapping[tuple[str, ...], set[str]], sizes: Mapping[str, int]) -> Iterator[Use]:
    times = Counter(md5 for md5s in groups.values() for md5 in md5s)
    for name, md5s in groups.items():
        present = [md5 for md5 in md5s if md5 in sizes]
        yield Use(
            of=name,
            files=len(md5s),
            num_bytes=sum(sizes[md5] for md5 in present),
            only_bytes=sum(sizes[md5] for md5 in present if times[md5] == 1),
            missing=len(md5s) - len(present),
        )


def _size_of(folder: Path) -> int:
    """Bytes of the files below a folder; no link is followed."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += Path(parent, name).lstat().st_size
            except FileNotFoundError:  # a training writes here
                continue
    return total


def _print_table(names: Sequence[str], uses: Sequence[Use]) -> None:
    table = Table(box=None)
    for name in names:
        table.add_column(name)
    for name in ("files", "bytes", "only here", "not in the cache"):
        table.add_column(name, justify="right")
    for use in uses:
        words = (escape(printable(word)) for word in use.of)
        missing = f"{use.missing:,}" if use.missing else ""
        sizes = decimal(use.num_bytes), decimal(use.only_bytes)
        table.add_row(*words, f"{use.files:,}", *sizes, missing)
    table_console(soft_wrap=True).print(table)


def _describe_totals(use: DiskUse) -> Iterator[str]:
    unreferenced = decimal(use.unreferenced_bytes)
    yield (
        f"cache {use.cache}: {decimal(use.cache_bytes)}, of which no version has {unreferenced}"
        " (kinetrack gc tells what runs need of it)"
    )
    yield ", ".join(f"{name}/: {decimal(size)}" for name, size in use.folders.items())
    yield f"free on the disk: {decimal(use.free_bytes)}"


def _to_json(use: DiskUse) -> dict[str, object]:
    return {
        **use._asdict(),
        "stages": [one._asdict() for one in use.stages],
        "versions": [one._asdict() for one in use.versions],
    }
