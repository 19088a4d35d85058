"""Print all places that have a clip, and take it out of the present version."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kinetrack.cli.forget.clips import Dataset, find_clips, remove_clips
from kinetrack.cli.forget.steps import Step, plan_steps
from kinetrack.cli.forget.traces import Traces, find_traces, read_sources
from kinetrack.errors import InputError, printable
from kinetrack.params import PARAMS_FILE, load_params
from kinetrack.tracking.run_data import RunData
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.erasing import describe_version
from kinetrack.versioning.tracked import list_tracked

_MOST_NAMED = 20


def forget(
    names: Sequence[str], *, dataset: str | None, root: Path, yes: bool, as_json: bool
) -> None:
    """Print all places that have a clip, with the commands that erase them.

    With `yes` the clips are taken out of the present version first. Nothing else is changed.

    Raises:
        InputError: no such clip or data set, or one that a stage makes; MLflow or the lists of
            DVC's cache cannot be read.
    """
    name = dataset or str(load_params(root / PARAMS_FILE)["dataset"])
    cache = cache_folder(root)
    place = Dataset(name, root=root, cache=cache)
    _require_removable(place)
    sources = read_sources(root, cache)
    known = sources.read_videos(place)
    clips = find_clips(names, known)
    if yes:
        was_there = remove_clips(place, clips, known)
        sources = read_sources(root, cache)
        done = "is out of the present version" if was_there else "was not in it any more"
        print(f"forget: {', '.join(clips)} {done}", file=sys.stderr if as_json else sys.stdout)
    traces = find_traces(place, clips, sources)
    steps = list(plan_steps(place, clips, traces))
    if as_json:
        print(json.dumps(_to_json(clips, place, traces, steps), indent=2))
        return
    for line in _describe(place, clips, traces, steps):
        print(printable(line))


def _require_removable(dataset: Dataset) -> None:
    owners = {one.path: one for one in list_tracked(dataset.root)}
    owner = owners.get(dataset.path)
    if (owner and owner.is_stage) or (owner is None and dataset.name == "sample"):
        raise InputError(
            dataset.path,
            "is made by a stage: its clips show nobody",
            remedy="kinetrack forget --dataset NAME for one of yours",
        )
    if owner is None:
        names = sorted(Path(path).name for path in owners if path.startswith("data/videos/"))
        raise InputError(
            dataset.path,
            "is not under DVC",
            expected=f"one of {', '.join(names)}" if names else None,
            remedy=f"dvc add {dataset.path}",
        )


def _describe(
    dataset: Dataset, clips: Sequence[str], traces: Traces, steps: Sequence[Step]
) -> Iterator[str]:
    root = dataset.root
    yield f"{', '.join(clips)} of {dataset.name}"
    yield from _list_few(
        "versions that have them",
        [describe_version(one, root=root) for one in traces.search.versions],
    )
    if traces.search.unlisted:
        number = len(traces.search.unlisted)
        yield (
            f"not known of {number} versions, whose lists are not here"
            " -> dvc fetch --all-commits, then again"
        )
    if traces.unknown_runs:
        runs = ", ".join(run_id[:8] for run_id in traces.unknown_runs[:_MOST_NAMED])
        yield f"not known of {len(traces.unknown_runs)} runs, of whose data nothing is here: {runs}"
    if traces.unnamed:
        number = len(traces.unnamed)
        yield f"folders in the cache that have them and no version or run names: {number}"
    if not traces.has_own_cache:
        yield "the cache may be that of other projects too: what only those name was not searched"
    yield from _list_few(
        "contents", [_describe_holder(traces, one.md5) for one in traces.search.holders]
    )
    for path, others in traces.parts.items():
        yield f"the video {path} stays: it also shows {_few(others)}"
    for remote in traces.remotes:
        told = f"not known: {remote.problem}" if remote.problem else f"{len(remote.paths)} contents"
        yield f"remote {remote.name}: {told}"
    sure = {model.md5: model.is_sure for model in traces.models}
    yield from _list_few(
        "models trained on them",
        [f"{md5[:8]}" + ("" if known else " (by its data)") for md5, known in sure.items()],
    )
    yield from _list_few("runs in MLflow", [*_describe_runs(traces.runs, sure)])
    yield from _list_few(
        "registered versions", [f"{name}/{number}" for name, number in traces.model_versions]
    )
    yield "to erase all of it, in this order:"
    for number, step in enumerate(steps, start=1):
        yield f"{number}. {step.title}"
        yield from (f"   {command}" for command in step.commands)
    if traces.present:
        yield "forget: nothing was changed; after step 2 the same command names what is left"


def _describe_holder(traces: Traces, md5: str) -> str:
    (holder,) = (one for one in traces.search.holders if one.md5 == md5)
    where = "in the cache" if md5 in traces.objects else "not in the cache"
    if holder.shared_with:
        where = f"STAYS: also the content of {_few(holder.shared_with)}; forget that clip too"
    return f"{_few(holder.paths)}: {md5[:8]}, {where}"


def _few(names: Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _list_few(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"{title}: {len(items)}"
        yield from (f"  {item}" for item in items[:_MOST_NAMED])
        if len(items) > _MOST_NAMED:
            yield f"  ... and {len(items) - _MOST_NAMED} more; --json names all"


def _to_json(
    clips: Sequence[str], dataset: Dataset, traces: Traces, steps: Sequence[Step]
) -> dict[str, object]:
    root = dataset.root
    return {
        "dataset": dataset.name,
        "clips": list(clips),
        "is_present": traces.present,
        "versions": [
            {
                "commit": one.origin.commit,
                "kind": one.kind,
                "description": describe_version(one, root=root),
            }
            for one in traces.search.versions
        ],
        "unknown_versions": [one.origin.commit for one in traces.search.unlisted],
        "unknown_runs": traces.unknown_runs,
        "unnamed": traces.unnamed,
        "has_own_cache": traces.has_own_cache,
        "contents": [
            {**one._asdict(), "cached": str(traces.objects.get(one.md5, ""))}
            for one in traces.search.holders
        ],
        "parts": traces.parts,
        "remotes": [one._asdict() for one in traces.remotes],
        "run_cache": [str(path) for path in traces.remembered],
        "weights": [str(path) for path in traces.weights.values()],
        "models": [one._asdict() for one in traces.models],
        "runs": [run.run_id for run in traces.runs],
        "model_versions": traces.model_versions,
        "local": [*traces.local, *traces.checkouts],
        "steps": [step._asdict() for step in steps],
    }


def _describe_runs(runs: Sequence[RunData], models: Mapping[str, bool]) -> Iterator[str]:
    """Name runs, and say what of them shows or has learned from the clips."""
    for run in runs:
        has_learned = run.tags.get("model_md5") in models
        learned = "trained on them" if has_learned else "its data held them"
        state = "deleted, its files are still there" if run.is_deleted else ""
        yield f"{run.run_id[:8]} {run.name} ({', '.join(filter(None, (learned, state)))})"
