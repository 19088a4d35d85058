"""`kinetrack forget CLIP...`: a clip out of the present version, and where else it still is."""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.cli.forget_clips import Dataset, find_clips, remove_clips
from kinetrack.cli.forget_traces import (
    TrainedModel,
    describe_runs,
    find_local_files,
    find_models,
    find_other_files,
    find_runs,
    find_weights,
    mlflow_commands,
    read_fingerprints,
)
from kinetrack.cli.gc import mlflow_address, mlflow_gc
from kinetrack.errors import InputError, printable
from kinetrack.params import PARAMS_FILE, load_params
from kinetrack.tracking.run_data import RunData, list_run_data
from kinetrack.versioning import remotes
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.commits import git
from kinetrack.versioning.erasing import (
    Search,
    describe_version,
    find_objects,
    find_remembered_runs,
    search_versions,
)
from kinetrack.versioning.tracked import list_tracked
from kinetrack.versioning.versions import Version, list_checkouts, list_versions

_MOST_NAMED = 20


class RemoteCopies(NamedTuple):
    """What a remote has of the objects, or why nobody knows."""

    name: str
    paths: list[str]
    commands: list[str]
    problem: str = ""


class Step(NamedTuple):
    """Commands that erase something, and what they do."""

    title: str
    commands: list[str]


class Traces(NamedTuple):
    """Everything that still has the clips or names them."""

    search: Search
    present: bool
    """Whether the present version has them."""
    parts: dict[str, tuple[str, ...]]
    """Other clips by the path of a video that shows a forgotten one too: it stays."""
    objects: dict[str, Path]
    """In the cache, by MD5, without those that other clips share."""
    weights: dict[str, Path]
    """In the cache, by MD5, of models that were trained on them, but for the present one."""
    remotes: list[RemoteCopies]
    remembered: list[Path]
    models: list[TrainedModel]
    runs: list[RunData]
    model_versions: list[tuple[str, int]]
    local: list[str]
    checkouts: list[str]


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
    versions = list_versions(root)
    known = place.read_all(versions)
    clips = find_clips(names, known)
    if yes:
        was_there = remove_clips(place, clips, known)
        versions = list_versions(root)
        done = "is out of the present version" if was_there else "was not in it any more"
        print(f"forget: {', '.join(clips)} {done}", file=sys.stderr if as_json else sys.stdout)
    traces = _find_traces(place, clips, versions, cache)
    steps = list(_plan_steps(place, clips, traces))
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


def _find_traces(
    dataset: Dataset, clips: Sequence[str], versions: Sequence[Version], cache: Path
) -> Traces:
    root = dataset.root
    search = search_versions(
        versions,
        cache,
        dataset.chooser(clips),
        places=(dataset.path, *dataset.made),
    )
    runs = list_run_data()
    fingerprints = read_fingerprints(search.folders, cache, clips)
    name = dataset.name
    models = find_models(
        versions, runs, search, dataset=name, cache=cache, fingerprints=fingerprints
    )
    touched = find_runs(runs, search, models, dataset=name)
    videos = dataset.read_all(versions)
    other = [path for path in dataset.made if path not in versions[0].outputs]
    own = [one.md5 for one in search.holders if not one.shared_with]
    here = versions[0].outputs.get("data/model")  # until it is trained again
    weights = find_weights((model for model in models if model.md5 != here), cache)
    return Traces(
        search=search,
        present=any(not one.all_clips().isdisjoint(clips) for one in videos[:2]),
        parts=videos[0].partly_of(clips),
        objects=find_objects(cache, own),
        weights=find_objects(cache, weights),
        remotes=_ask_remotes(root, [*own, *sorted(weights)]),
        remembered=find_remembered_runs(
            cache, search.folders | {("data/model", model.md5) for model in models}
        ),
        models=models,
        runs=touched,
        model_versions=_find_model_versions(touched),
        local=[
            *find_local_files(root, dataset.name, clips),
            *find_other_files(root, other, dataset.chooser(clips)),
        ],
        checkouts=[str(path.relative_to(root)) for path in list_checkouts(root)],
    )


def _ask_remotes(root: Path, md5s: Sequence[str]) -> list[RemoteCopies]:
    found = []
    for remote in remotes.list_remotes(root):
        try:
            opened = remotes.open_remote(root, remote.name)
            there = sorted(opened.which_are_there(md5s))
        except InputError as error:
            found.append(RemoteCopies(remote.name, [], [], problem=str(error)))
        else:
            paths = [opened.path_of(md5) for md5 in there]
            commands = opened.remove_commands(there) if there else []
            found.append(RemoteCopies(remote.name, paths, commands))
    return found


def _find_model_versions(runs: Sequence[RunData]) -> list[tuple[str, int]]:
    from kinetrack.tracking.registry import list_model_versions

    ids = {run.run_id for run in runs}
    return [(one.name, one.version) for one in list_model_versions() if one.run_id in ids]


def _plan_steps(dataset: Dataset, clips: Sequence[str], traces: Traces) -> Iterator[Step]:
    """What erases everything, in an order in which nothing that is still needed goes."""
    quoted = " ".join(map(shlex.quote, clips))
    if traces.present:
        # A clip may begin with a dash.
        again = f"kinetrack forget --dataset {shlex.quote(dataset.name)} --yes -- {quoted}"
        yield Step("take them out of the present version", [again])
    yield from _steps_of_versions(dataset, traces)
    if traces.runs:
        versions = traces.model_versions
        commands = mlflow_commands(traces.runs, versions, variable=mlflow_address(), gc=mlflow_gc())
        title = "erase the runs and models, once a new one is trained and promoted"
        yield Step(title, commands)
    if traces.weights:
        yield Step("erase the models from the cache", [_remove(traces.weights.values(), dataset)])
    if traces.objects:
        title = "erase their bytes from the cache; older versions lack them from then on"
        yield Step(title, [_remove(traces.objects.values(), dataset)])
    for remote in traces.remotes:
        if remote.commands:
            yield Step(f"erase bytes and models from the remote {remote.name}", remote.commands)
    yield from _steps_of_leftovers(dataset, traces)
    yield _step_of_names()


def _steps_of_versions(dataset: Dataset, traces: Traces) -> Iterator[Step]:
    if traces.present or any(one.kind == "workspace" for one in traces.search.versions):
        message = shlex.quote(f"Forget clips of {dataset.name}")
        yield Step(
            "make frames, tensors and model without them, and commit",
            [
                "dvc repro",
                f"git add -u && git commit -m {message}",
                *(["dvc push"] if remotes.list_remotes(dataset.root) else []),
            ],
        )
    held = [one for one in traces.search.versions if one.kind == "tip"]
    here = git(dataset.root, "branch", "--show-current")
    names = [name for one in held for name in one.names if name not in here]
    if names:
        shown = ", ".join(dict.fromkeys(names))
        yield Step(
            f"do the same on each branch that goes on; give up tags and branches: {shown}",
            ["# git switch BRANCH && dvc checkout, then as above; git branch -D, git tag -d"],
        )
    experiments = [one for one in traces.search.versions if one.kind == "experiment"]
    if experiments:
        listed = " ".join(shlex.quote(one.origin.experiment) for one in experiments)
        yield Step("give up DVC's experiments that have them", [f"dvc exp remove {listed}"])


def _steps_of_leftovers(dataset: Dataset, traces: Traces) -> Iterator[Step]:
    if traces.remembered:
        remove = _remove(traces.remembered, dataset)
        yield Step("have DVC not bring back what was made of them", [remove])
    if traces.local:
        remove = shlex.join(["rm", "-rf", *traces.local])
        yield Step("remove what this machine keeps beside DVC", [remove])
    if traces.checkouts:
        yield Step(
            "remove the checkouts of DVC's experiments, once none runs",
            [shlex.join(["rm", "-rf", *traces.checkouts])],
        )


def _step_of_names() -> Step:
    return Step(
        "their names still stand in lists of older versions (of folders, index.csv, split.json), in"
        " the cache and on remotes, and in reports/evaluate/predictions.csv in Git's history: where"
        " a name tells of a person, begin a new repository with the present version",
        [],
    )


def _remove(paths: Iterable[Path], dataset: Dataset) -> str:
    root = dataset.root
    shown = (path.relative_to(root) if path.is_relative_to(root) else path for path in paths)
    return f"rm -f {' '.join(shlex.quote(str(path)) for path in shown)}"


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
    yield from _list_few("runs in MLflow", [*describe_runs(traces.runs, sure)])
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
