"""Everything that still has clips that are to be forgotten, or names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.cli.forget.clips import Dataset
from kinetrack.cli.forget.models import (
    TrainedModel,
    find_local_files,
    find_models,
    find_other_files,
    find_runs,
    find_weights,
    read_fingerprints,
)
from kinetrack.errors import InputError
from kinetrack.tracking.run_data import RunData, list_run_data
from kinetrack.versioning import remotes
from kinetrack.versioning.erasing import Search, find_objects, find_remembered_runs, search_versions
from kinetrack.versioning.versions import Version, list_checkouts


class RemoteCopies(NamedTuple):
    """What a remote has of the objects, or why nobody knows."""

    name: str
    paths: list[str]
    commands: list[str]
    problem: str = ""


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


def find_traces(
    dataset: Dataset, clips: Sequence[str], versions: Sequence[Version], cache: Path
) -> Traces:
    """Search versions, cache, remotes, MLflow and this machine.

    Raises:
        InputError: MLflow or a list of DVC's cache cannot be read.
    """
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
