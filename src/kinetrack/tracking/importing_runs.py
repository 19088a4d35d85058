"""Bringing runs of another tracking store into this one.

A run that was brought in has the tag `imported.from`, the id that it had where it was made, and
`imported.at` as soon as all of it is here. So a second import, also of a copy of that store, adds
nothing, and one after an interruption goes on. Files that were not found are looked for again.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinetrack.tracking.foreign import Foreign, files_of
from kinetrack.tracking.journal import TRAINING_TAG
from kinetrack.tracking.paging import (
    MOST_METRICS_A_CALL,
    MOST_PARAMS_A_CALL,
    all_pages,
    all_runs,
    chunks,
)
from kinetrack.tracking.store import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

FROM_TAG = "imported.from"
AT_TAG = "imported.at"
LACKS_TAG = "imported.lacks"
# Ids of other runs: they are set when those are here.
_PARENT_TAGS = ("mlflow.parentRunId", "mlflow.rootRunId")
_NAME_TAG = "mlflow.runName"  # MLflow sets it itself
_TERMINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass
class Import:
    """What an import knows, and what it has done."""

    source: Foreign
    target: "MlflowClient"
    here: dict[str, "Run"]
    """Runs of the target by all that may name them."""
    places: dict[str, str] = field(default_factory=dict)
    """Ids of experiments here, by those of the source."""
    runs: dict[str, "Run"] = field(default_factory=dict)
    """Runs here, by the ids of the source."""
    models: dict[str, str] = field(default_factory=dict)
    """Ids of logged models here, by those of the source."""
    added: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    without_files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def count(self, kind: str, *, is_new: bool) -> None:
        """Count a thing that was added, or that was here already."""
        counts = self.added if is_new else self.known
        counts[kind] = counts.get(kind, 0) + 1


def import_experiment(work: Import, experiment: "Experiment") -> int:
    """Copy the runs of an experiment into that of its name here; return how many it has."""
    place = experiment_id(work.target, experiment.name)
    work.places[experiment.experiment_id] = place
    there = work.target.get_experiment(place).tags
    for key, value in experiment.tags.items():
        if key not in there:
            work.target.set_experiment_tag(place, key, value)
    number = 0
    for run in _runs(work.source.client, [experiment.experiment_id]):
        work.runs[run.info.run_id] = _import_or_find(work, run, place)
        number += 1
    return number


def _import_or_find(work: Import, run: "Run", place: str) -> "Run":
    known = next((work.here[name] for name in _names_of(run) if name in work.here), None)
    if known is None or (is_imported(known) and is_unfinished(known.data.tags)):
        work.count("runs", is_new=True)
        return _import_run(work, run, known or _make_run(work.target, run, place))
    if is_imported(known) and LACKS_TAG in known.data.tags:
        _send_files(work, run, known)
    work.count("runs", is_new=False)
    return known


def is_imported(run: "Run") -> bool:
    """Whether a run here is to have what it has in the source: one that was deleted stays so."""
    return FROM_TAG in run.data.tags and run.info.lifecycle_stage == "active"


def is_unfinished(tags: Mapping[str, str]) -> bool:
    """Whether an import was interrupted before all of a thing was here."""
    return FROM_TAG in tags and AT_TAG not in tags


def _make_run(target: "MlflowClient", run: "Run", place: str) -> "Run":
    tags = {key: x for key, x in run.data.tags.items() if key not in (*_PARENT_TAGS, _NAME_TAG)}
    tags[FROM_TAG] = origin(run.data.tags, run.info.run_id)
    name = run.info.run_name
    return target.create_run(place, start_time=run.info.start_time, tags=tags, run_name=name)


def _import_run(work: Import, run: "Run", new: "Run") -> "Run":
    """Give a run all that it has in the source; what it has already is not doubled."""
    from mlflow.entities import Metric, Param

    target, run_id = work.target, new.info.run_id
    params = [Param(*pair) for pair in run.data.params.items()]
    for chunk in chunks(params, MOST_PARAMS_A_CALL):
        target.log_batch(run_id, params=chunk)
    # Without the models that they may be bound to, which are not here yet.
    metrics = [
        Metric(key, one.value, one.timestamp, one.step)
        for key in run.data.metrics
        for one in work.source.client.get_metric_history(run.info.run_id, key)
    ]
    for part in chunks(metrics, MOST_METRICS_A_CALL):
        target.log_batch(run_id, metrics=part)
    if run.inputs and run.inputs.dataset_inputs:
        target.log_inputs(run_id, datasets=run.inputs.dataset_inputs)
    _send_files(work, run, new)
    if run.info.status in _TERMINAL:
        target.set_terminated(run_id, run.info.status, run.info.end_time)
    target.set_tag(run_id, AT_TAG, now())
    return target.get_run(run_id)


def _send_files(work: Import, run: "Run", new: "Run") -> None:
    run_id = new.info.run_id
    with files_of(work.source, run.info.artifact_uri, run.info.run_id) as folder:
        if folder is None:
            work.target.set_tag(run_id, LACKS_TAG, "files")
            work.without_files.append(f"run {run.info.run_name} ({run.info.run_id})")
            return
        if any(folder.iterdir()):
            work.target.log_artifacts(run_id, str(folder))
    if LACKS_TAG in new.data.tags:
        work.target.delete_tag(run_id, LACKS_TAG)


def link_parents(work: Import) -> None:
    """Give runs that were brought in their parents, which are known now."""
    for run in _runs(work.source.client, list(work.places)):
        new = work.runs[run.info.run_id]
        for tag in _PARENT_TAGS:
            parent = work.runs.get(run.data.tags.get(tag, ""))
            if parent and is_imported(new) and tag not in new.data.tags:
                work.target.set_tag(new.info.run_id, tag, parent.info.run_id)


def origin(tags: dict[str, str], thing_id: str) -> str:
    """Return the id that a thing had where it was made: its store may have imported it too."""
    return tags.get(FROM_TAG, thing_id)


def now() -> str:
    """Return the time in words."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def index_runs(client: "MlflowClient") -> dict[str, "Run"]:
    """Return all runs of a store by all that may name them; what a person has deleted, too."""
    return {name: run for run in all_runs(client, deleted_too=True) for name in _names_of(run)}


def _names_of(run: "Run") -> list[str]:
    """What tells that two runs are one: a training may have a run in several stores."""
    tags = run.data.tags
    names = [run.info.run_id, tags.get(FROM_TAG), tags.get(TRAINING_TAG)]
    if group := tags.get("group"):
        names.append(f"group {group}")
    return [name for name in names if name]


def _runs(client: "MlflowClient", ids: list[str]) -> Iterator["Run"]:
    return all_pages(client.search_runs, ids, order_by=["start_time ASC"]) if ids else iter(())
