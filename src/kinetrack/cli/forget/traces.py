"""Everything that still has clips that are to be forgotten, or names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.cli.forget.clips import Dataset, Videos
from kinetrack.cli.forget.models import (
    TrainedModel,
    find_local_files,
    find_models,
    find_other_files,
    find_pulled_models,
    find_runs,
    find_unknown_runs,
    find_weights,
    read_fingerprints,
)
from kinetrack.cli.gc import outputs_of_run
from kinetrack.errors import InputError
from kinetrack.tracking.run_data import RunData, list_run_data
from kinetrack.versioning import remotes
from kinetrack.versioning.erasing import Search, find_objects, find_remembered_runs, search_versions
from kinetrack.versioning.garbage import is_own_cache
from kinetrack.versioning.listings import list_listings, read_listing
from kinetrack.versioning.versions import Version, list_checkouts, list_versions


class Sources(NamedTuple):
    """What may have clips: versions, runs, and folders in the cache that none of them names."""

    cache: Path
    versions: list[Version]
    runs: list[RunData]
    of_runs: set[tuple[str, str]]
    """Path and MD5 of what runs were trained on, and of their models."""
    unnamed: dict[str, dict[str, str]]
    """MD5s of files by their paths, by the MD5 of a folder whose own path nobody knows."""
    has_own_cache: bool
    """Otherwise other projects may use it, and `unnamed` is empty."""

    def read_videos(self, dataset: Dataset) -> list[Videos]:
        """Read the workspace, the present version, then all else that there is of a data set."""
        of_runs = sorted(md5 for path, md5 in self.of_runs if path == dataset.path)
        of_versions = [one.outputs.get(dataset.path, "") for one in self.versions]
        return dataset.read_all([*of_versions, *of_runs, *self.unnamed])


def read_sources(root: Path, cache: Path) -> Sources:
    """Read what may have clips.

    Raises:
        InputError: MLflow, or a list of the cache, cannot be read.
    """
    versions, runs = list_versions(root), list_run_data(with_locks=True)
    of_runs = {pair for run in runs for pair in outputs_of_run(run).items()}
    named = {md5 for one in versions for md5 in one.outputs.values()} | {md5 for _, md5 in of_runs}
    is_own = is_own_cache(root, cache)
    unnamed = (md5 for md5 in list_listings(cache) if is_own and md5 not in named)
    listed = {md5: read_listing(cache, md5) or {} for md5 in unnamed}
    return Sources(cache, versions, runs, of_runs, listed, is_own)


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
    unnamed: list[tuple[str, str]]
    """Path and MD5 of the folders in the cache that have them and that no version or run names."""
    has_own_cache: bool
    """Otherwise other projects may use it, whose folders were not searched."""
    unknown_runs: list[str]
    """Of the data set; no list of their data or their model is here."""


def find_traces(dataset: Dataset, clips: Sequence[str], sources: Sources) -> Traces:
    """Search versions, cache, remotes, MLflow and this machine.

    Raises:
        InputError: MLflow or a list of DVC's cache cannot be read.
    """
    root, name, choose = dataset.root, dataset.name, dataset.chooser(clips)
    cache, versions, runs, of_runs, unnamed, _ = sources
    places = (dataset.path, *dataset.made)
    # Only of what has them is the path known.
    having = [
        (place, md5)
        for md5, files in unnamed.items()
        for place in places
        if choose(place, md5, files)
    ]
    search = search_versions(versions, cache, choose, places=places, others=[*of_runs, *having])
    fingerprints = read_fingerprints(search.folders, cache, clips)
    models = find_models(
        versions, runs, search, dataset=name, cache=cache, fingerprints=fingerprints, others=unnamed
    )
    touched = find_runs(runs, search, models, dataset=name)
    videos = sources.read_videos(dataset)
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
            *find_local_files(root, name, clips),
            *find_pulled_models(root, fingerprints),
            *find_other_files(root, other, choose),
        ],
        checkouts=[str(path.relative_to(root)) for path in list_checkouts(root)],
        unnamed=having,
        has_own_cache=sources.has_own_cache,
        unknown_runs=[run.run_id for run in find_unknown_runs(runs, dataset=name, cache=cache)],
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
