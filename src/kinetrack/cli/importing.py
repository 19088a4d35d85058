"""`kinetrack import`: a collection of videos into a versioned data set."""

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout

from kinetrack.cli.import_report import Imported, print_report
from kinetrack.cli.presets import NAME_WORDS
from kinetrack.collecting.archive_formats import is_archive_name
from kinetrack.collecting.archives import extract_archive
from kinetrack.collecting.catalogue import CATALOGUE, check_counts
from kinetrack.collecting.collections import (
    LabelFrom,
    Plan,
    find_manifest,
    plan_folders,
    plan_manifest,
)
from kinetrack.collecting.download import download
from kinetrack.collecting.gathering import OpenedClip, gather, leave_out
from kinetrack.collecting.official import Difference, add_official, read_official
from kinetrack.data.manifest import read_manifest
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder
from kinetrack.params import DATASET_PATTERN, PARAMS_FILE, load_section, parse_section
from kinetrack.stages.frames import FramesParams
from kinetrack.versioning.commands import add_data, require_repository
from kinetrack.versioning.dataset_facts import DatasetFacts

_VIDEOS = Path("data/videos")
_DOWNLOADS = Path(".kinetrack/downloads")
_UNPACKED = ".unpacked"
_NEXT = """
Next: kinetrack use {name}
      kinetrack preset recipe --keep-dataset    # videos of a real collection
      kinetrack check
      make repro"""


class ImportOptions(NamedTuple):
    """What the command line says beside the source; paths are absolute."""

    name: str
    local: Path | None
    manifest: Path | None
    lists: Path | None
    label_from: LabelFrom
    group_pattern: str | None
    on_broken: Literal["fail", "skip"]
    checksum: str | None


class _Origin(NamedTuple):
    place: Path
    manifest: Path | None
    lists: Path | None


def import_collection(source: str, options: ImportOptions, *, root: Path) -> None:
    """Bring a collection in, put it under DVC and Git, and print what it holds.

    `source` is a name of the catalogue, an http(s) address, an archive, a folder or a manifest.

    Raises:
        InputError: anything in the source that cannot be taken as it is; nothing is left then but
            a finished download.
    """
    target = root / _VIDEOS / options.name
    _check_name(options.name)
    require_repository(root)
    with _telling_os_errors(target), _alone(root, options.name):
        _check_target(target)
        with _telling_interrupts("interrupted; nothing was imported"):
            origin = _find_origin(source, options, root / _DOWNLOADS)
            _refuse_project(origin, root)
            imported = _bring_in(origin, options, target, known=source)
        # Before anything is printed: a closed pipe must not leave it out of version control.
        _add(_VIDEOS / options.name, options, root)
        _forget_downloads(origin, root / _DOWNLOADS)
    print_report(imported)
    print(_NEXT.format(name=options.name))


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Hold a data set's name: two imports would write into one hidden folder."""
    path = root / f".kinetrack/import-{name}.lock"
    path.parent.mkdir(exist_ok=True)
    try:
        with FileLock(path, blocking=False):
            yield
    except Timeout:
        raise InputError(
            "--name", f"another import of {name} is running", remedy="wait, or choose another name"
        ) from None


@contextmanager
def _telling_os_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            error.filename or target, "cannot be read or written", found=error.strerror or error
        ) from None


@contextmanager
def _telling_interrupts(told: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(f"import: {told}", file=sys.stderr)
        raise


def _refuse_project(origin: _Origin, root: Path) -> None:
    holds_project = root.resolve().is_relative_to(origin.place.resolve())
    if holds_project and origin.manifest is None:
        raise InputError(origin.place, "holds this project", remedy="give a folder of videos")


def _add(folder: Path, options: ImportOptions, root: Path) -> None:
    facts = DatasetFacts(group_pattern=options.group_pattern)
    remedy = f"rm -rf {folder} {folder}.dvc, then import it again"
    told = f"interrupted; {folder} is not under version control yet"
    with _telling_interrupts(f"{told} -> {remedy}"):
        add_data(folder, root=root, facts=facts)


def _forget_downloads(origin: _Origin, downloads: Path) -> None:
    for path in (origin.place, origin.lists):
        if path is not None and path.is_relative_to(downloads):
            shutil.rmtree(path.parent)


def choose_pattern(given: str | None, *, no_groups: bool, source: str = "") -> str | None:
    """The pattern of the groups: as given, none, a known collection's own, or of `params.yaml`.

    Raises:
        InputError: both are asked for, or the pattern has no group.
    """
    if no_groups and given is not None:
        raise InputError("--no-groups", "contradicts --group-pattern")
    now = _read_frames_params()
    if given is not None:
        frames = {**now.model_dump(), "group_pattern": given}
        now = parse_section(FramesParams, "frames", {"frames": frames}, PARAMS_FILE)
    elif source in CATALOGUE:  # that of params.yaml is of the data set in use now
        now = now.model_copy(update={"group_pattern": CATALOGUE[source].group_pattern})
    return None if no_groups else now.group_pattern


def _read_frames_params() -> FramesParams:
    return load_section(FramesParams, "frames")


def _check_name(name: str) -> None:
    if not re.fullmatch(DATASET_PATTERN, name) or name == "sample":
        raise InputError(
            "--name",
            "is no name for a data set",
            found=repr(name) if name else "none",
            expected=f"{NAME_WORDS}; not sample, the built-in one",
            remedy=f"--name {_suggest_name(name)}",
        )


def _suggest_name(name: str) -> str:
    near = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")
    return near if near and near != "sample" else "NAME"


def _check_target(target: Path) -> None:
    described = target.with_name(f"{target.name}.dvc")
    is_there, is_described = target.exists() or target.is_symlink(), described.exists()
    if is_there and is_described:
        folder = _VIDEOS / target.name
        remedy = f"choose another --name; to add clips: copy them in, then dvc add {folder}"
        raise InputError(target, "is there already", remedy=remedy)
    if is_there:
        remedy = f"dvc add {_VIDEOS / target.name}, or remove it, or choose another --name"
        raise InputError(target, "is there already, but not under DVC", remedy=remedy)
    if is_described:
        remedy = f"dvc pull {_VIDEOS / described.name}, or choose another --name"
        raise InputError(described, "is there already, its data elsewhere", remedy=remedy)


def _find_origin(source: str, options: ImportOptions, downloads: Path) -> _Origin:
    known, lists = CATALOGUE.get(source), options.lists
    _refuse_idle_options(options, is_known=known is not None, is_address="://" in source)
    if known and options.local is None:
        lists = lists or _fetch(known.lists_url, downloads, None)
        return _Origin(_fetch(known.archive_url, downloads, options.checksum), None, lists)
    if "://" in source:
        return _Origin(_fetch(source, downloads, options.checksum), options.manifest, lists)
    place = options.local or Path(source)
    if place.suffix.lower() in (".csv", ".json") and not place.is_dir():
        return _Origin(place.parent, place, lists)
    if not place.exists():
        raise InputError(
            place,
            "is not there",
            expected=f"a folder, an archive, a manifest, an address or {', '.join(CATALOGUE)}",
        )
    return _Origin(place, options.manifest, lists)


def _refuse_idle_options(options: ImportOptions, *, is_known: bool, is_address: bool) -> None:
    """Refuse an option that would have no effect on this source."""
    is_fetched = is_address or (is_known and options.local is None)
    if options.checksum and not is_fetched:
        raise InputError("--checksum", "is for what is downloaded")
    if options.local and not is_known:
        raise InputError("--local", f"is for {', '.join(CATALOGUE)} alone")


def _fetch(url: str, downloads: Path, checksum: str | None) -> Path:
    # A folder for each address: two of them may end in the same name.
    folder = downloads / hashlib.sha256(url.encode()).hexdigest()[:16]
    fetched = download(url, folder, checksum=checksum)
    print(f"{url}\n  sha256:{fetched.sha256}")
    return fetched.path


def _bring_in(origin: _Origin, options: ImportOptions, target: Path, *, known: str) -> Imported:
    with atomic_folder(target) as folder, _named_below(folder):
        is_archive = not origin.place.is_dir()
        if is_archive:
            extract_archive(origin.place, _make(folder / _UNPACKED), description="unpacking")
        plan = _plan(folder / _UNPACKED if is_archive else origin.place, origin, options)
        plan, difference = _add_lists(plan, origin.lists)
        opened = gather(plan, folder, group_pattern=options.group_pattern, may_move=is_archive)
        skipped = [one for one in opened if one.problem]
        if options.on_broken == "fail":
            _refuse_broken(skipped, folder)
        elif skipped:
            opened = leave_out(opened, folder, plan)
        if known in CATALOGUE:
            check_counts(known, CATALOGUE[known], [one.clip for one in opened])
        shutil.rmtree(folder / _UNPACKED, ignore_errors=True)
        _check_target(target)  # it may have come meanwhile, with dvc pull
    return Imported(opened, skipped, plan, difference)


@contextmanager
def _named_below(folder: Path) -> Iterator[None]:
    """Name what is in the hidden folder by its place in the collection: nobody else sees it."""
    try:
        yield
    except InputError as error:
        path = Path(error.path)
        for hidden in (folder / _UNPACKED, folder):
            if path != hidden and path.is_relative_to(hidden):
                error.path = path.relative_to(hidden)
                break
        raise


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _plan(source: Path, origin: _Origin, options: ImportOptions) -> Plan:
    manifest = origin.manifest or find_manifest(source)
    if manifest is None:
        return plan_folders(source, label_from=options.label_from)
    if options.label_from != "top":
        raise InputError("--label-from", "has no effect: the labels come from a manifest")
    return plan_manifest(source, read_manifest(manifest), manifest=manifest)


def _add_lists(plan: Plan, lists: Path | None) -> tuple[Plan, Difference]:
    if lists is None:
        return plan, Difference([], [])
    if not is_archive_name(lists.name):
        return add_official(plan, read_official(lists))
    with TemporaryDirectory() as unpacked:
        extract_archive(lists, Path(unpacked), description="lists")
        return add_official(plan, read_official(Path(unpacked)))


def _refuse_broken(broken: list[OpenedClip], folder: Path) -> None:
    if broken:
        raise InputError(
            broken[0].clip.path.relative_to(folder),
            broken[0].problem,
            found=f"{len(broken)} such videos" if len(broken) > 1 else None,
            remedy="mend or remove it, or leave such videos out: --on-broken skip",
        )
