"""`kinetrack gc`: free DVC's cache of what no version, run or registered model needs."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from kinetrack.errors import InputError, printable
from kinetrack.tracking import outage
from kinetrack.tracking.run_data import RunData, list_run_data
from kinetrack.tracking.settings import named_tracking_uri
from kinetrack.versioning.cache import cache_folder, object_path
from kinetrack.versioning.garbage import (
    Need,
    Plan,
    amount,
    hold_dvc,
    plan_collection,
    remove_objects,
    require_own_cache,
    without_derived,
)
from kinetrack.versioning.holdings import holds
from kinetrack.versioning.tracked import is_md5
from kinetrack.versioning.versions import (
    Kind,
    Version,
    list_checkouts,
    list_versions,
    locked_outputs,
    read_version,
    require_all_seen,
)

_REASONS: dict[Kind, str] = {
    "workspace": "the workspace",
    "tip": "branches and tags",
    "stash": "stashed and queued work",
    "experiment": "DVC's experiments",
    "commit": "older commits",
}
# What is here now, or a colleague checks out: never only to be made again.
_WHOLE: tuple[Kind, ...] = ("workspace", "tip", "stash")
_AT_WORK = "experiments at work"
_REGISTERED = "registered models"
_RUNS = "runs in MLflow"
_OLD_VIDEOS = "videos of older commits"
# What is data of a training; its model is not: that of the lock is an earlier one.
_DATA = ("data/videos/", "data/frames/", "data/splits", "data/tensors/")
_TAGS = ("data.videos_md5", "data.split_md5", "data.tensors_md5", "model_md5")
_RESUME = Path(".kinetrack/resume")
_Outputs = Callable[[dict[str, str]], dict[str, str]]


class GcOptions(NamedTuple):
    """What else goes, and what else is spared."""

    derived: bool = False
    """Frames and tensors go that are of neither workspace nor tips, where their videos are here."""
    old_videos: bool = False
    """Videos go that only older commits have."""
    all_commits: bool = False
    """All of older commits is spared."""
    shared_cache: Path | None = None
    """The cache outside of the project that may be freed."""


def collect_garbage(root: Path, options: GcOptions, *, yes: bool, as_json: bool) -> None:
    """Print what is needed and what is not; with `yes`, remove the latter.

    Raises:
        InputError: DVC is at work, the cache is also that of others, MLflow cannot be read, or a
            file that says what is needed is damaged. Nothing was removed then.
    """
    started_s = time.time()
    cache = cache_folder(root)
    require_own_cache(root, cache, consent=options.shared_cache)
    require_all_seen(root)
    with hold_dvc(root) if yes else nullcontext():
        runs = list_run_data(with_locks=True)
        needs = list(_find_needs(root, cache, options, runs))
        plan = plan_collection(root, cache, needs, started_s=started_s)
        freed = remove_objects(plan.unneeded) if yes else amount(plan.unneeded)
        leftovers = _remove_leftovers(root, yes=yes)
    if as_json:
        print(json.dumps(_to_json(plan, cache, leftovers, runs, is_done=yes), indent=2))
        return
    for line in _describe(plan, cache, runs):
        print(printable(line))
    what = f"{freed.objects:,} objects, {decimal(freed.num_bytes)}"
    more = f" and {len(leftovers)} leftovers of trainings" if leftovers else ""
    print(
        f"gc: freed {what}{more}" if yes else f"gc: would free {what}{more} -> kinetrack gc --yes"
    )


def _find_needs(
    root: Path, cache: Path, options: GcOptions, runs: Sequence[RunData]
) -> Iterator[Need]:
    """What is needed, the strongest reason first."""
    is_held = lru_cache(maxsize=None)(lambda md5: holds(cache, md5) == "yes")

    def slim(outputs: dict[str, str]) -> dict[str, str]:
        return without_derived(outputs, is_held=is_held) if options.derived else outputs

    versions = list_versions(root)
    _refuse_damaged(versions, root, cache)
    for kind in _WHOLE:
        yield _need(_REASONS[kind], (one.outputs for one in versions if one.kind == kind))
    checkouts = (read_version(folder) for folder in list_checkouts(root))
    yield _need(_AT_WORK, (one.outputs for one in checkouts))
    yield from _needs_of_runs(runs, slim)
    experiments = (slim(one.outputs) for one in versions if one.kind == "experiment")
    yield _need(_REASONS["experiment"], experiments)
    yield from _needs_of_commits(versions, options, slim)


def _need(reason: str, outputs: Iterable[dict[str, str]]) -> Need:
    return Need(reason, frozenset(md5 for one in outputs for md5 in one.values() if md5))


def _needs_of_runs(runs: Sequence[RunData], slim: _Outputs) -> Iterator[Need]:
    from kinetrack.tracking.registry import list_model_versions

    registered = list_model_versions()
    ids = {version.run_id for version in registered}
    outputs = [(run, slim(outputs_of_run(run))) for run in runs]
    yield _need(_REGISTERED, (one for run, one in outputs if run.run_id in ids))
    # What a version says itself counts too: its run may be erased.
    yield _need(_REGISTERED, ({tag: one.tags.get(tag, "") for tag in _TAGS} for one in registered))
    yield _need(_RUNS, (one for run, one in outputs if not run.is_deleted))


def outputs_of_run(run: RunData) -> dict[str, str]:
    """MD5 by path of the data that a run was trained on, and of its model, as far as it says."""
    tensors = f"data/tensors/{run.dataset}"
    places = (f"data/videos/{run.dataset}", "data/splits/split.json", tensors, "data/model")
    tags = (run.tags.get(tag, "") for tag in _TAGS)
    said = {place: md5 if is_md5(md5) else "" for place, md5 in zip(places, tags, strict=True)}
    locked = locked_outputs(run.lock)
    # The lock of a training's start: its data is the run's, its model an earlier one.
    if not all(said.values()):  # an older run may not say all
        return {**locked, **{place: md5 for place, md5 in said.items() if md5}}
    if locked.get(tensors) == said[tensors]:
        data = {path: md5 for path, md5 in locked.items() if path.startswith(_DATA)}
        return {**data, **said}
    return said


def _needs_of_commits(
    versions: Sequence[Version], options: GcOptions, slim: _Outputs
) -> Iterator[Need]:
    older = [one for one in versions if one.kind == "commit"]
    if options.all_commits:
        yield _need(_REASONS["commit"], (slim(one.outputs) for one in older))
    elif not options.old_videos:
        inputs = ({path: one.outputs[path] for path in one.inputs} for one in older)
        yield _need(_OLD_VIDEOS, inputs)


def _refuse_damaged(versions: Sequence[Version], root: Path, cache: Path) -> None:
    """Refuse where it cannot be known what is needed."""
    for version in versions:
        if version.problem and version.kind in _WHOLE:
            name = ", ".join(version.names) or version.origin.commit[:7]
            raise InputError(name, "has a dvc.lock or .dvc file in disorder", found=version.problem)
        if version.problem:
            commit = version.origin.commit[:7]
            sys.stderr.write(f"not all spared of commit {commit}, in disorder: {version.problem}\n")
    for path, md5 in versions[0].outputs.items():
        is_unlisted = md5.endswith(".dir") and not object_path(cache, md5).is_file()
        if is_unlisted and (root / path).is_dir():
            problem = "is here, but the list of its files is not in the cache"
            raise InputError(path, problem, remedy="kinetrack verify tells how to restore it")


def _remove_leftovers(root: Path, *, yes: bool) -> list[str]:
    """Checkpoints of trainings that have ended, which a kill kept from being removed."""
    found = sorted((root / _RESUME).glob(".*.finished"))
    if yes:
        for path in found:
            shutil.rmtree(path, ignore_errors=True)
    return [path.relative_to(root).as_posix() for path in found]


def _describe(plan: Plan, cache: Path, runs: Sequence[RunData]) -> Iterator[str]:
    yield f"cache: {cache}"
    yield f"MLflow: {outage.place()}, {len(runs):,} trainings"
    yield "needed by:"
    for reason, objects in plan.spared.items():
        count = amount(objects)
        yield f"  {reason:<24} {count.objects:>8,} objects {decimal(count.num_bytes):>10}"
    if plan.unlisted:
        told = ", ".join(f"{count} of {reason}" for reason, count in plan.unlisted.items())
        yield f"folders whose list is not in the cache, so nothing of them was found: {told}"
    if deleted := sum(run.is_deleted for run in runs):
        yield (
            f"deleted runs still in MLflow: {deleted} -> {mlflow_gc()} removes their files for good"
        )


def mlflow_address() -> str:
    """What sets MLflow's address for a command of a person; without a password."""
    uri = outage.address() if named_tracking_uri() else "sqlite:///mlruns/mlflow.db"
    return f"MLFLOW_TRACKING_URI={shlex.quote(uri)}"


def mlflow_gc() -> str:
    """The command that erases what was deleted in this store."""
    uri = named_tracking_uri() or "sqlite:///mlruns/mlflow.db"
    if not uri.startswith("sqlite"):
        return "mlflow gc --backend-store-uri DATABASE_OF_THE_SERVER"
    return f"{mlflow_address()} mlflow gc --backend-store-uri {shlex.quote(uri)}"


def _to_json(
    plan: Plan,
    cache: Path,
    leftovers: Sequence[str],
    runs: Sequence[RunData],
    *,
    is_done: bool,
) -> dict[str, object]:
    return {
        "cache": str(cache),
        "needed": {reason: amount(objects)._asdict() for reason, objects in plan.spared.items()},
        "unlisted": plan.unlisted,
        "is_freed": is_done,
        "unneeded": [{"md5": one.md5, "bytes": one.num_bytes} for one in plan.unneeded],
        "leftovers": leftovers,
        "deleted_runs": sum(run.is_deleted for run in runs),
    }
