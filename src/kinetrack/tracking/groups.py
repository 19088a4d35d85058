"""Trainings that differ in seed and fold only, under a parent run with their mean and deviation."""

import hashlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinetrack.tracking.paging import MOST_METRICS_A_CALL, chunks
from kinetrack.tracking.projection import NOTE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# What a repetition may draw anew; all else is the same in a group.
REPEATED_PARAMS = ("train.seed", "split.seed", "split.fold", "sample.seed")
KIND_TAG = "kind"
GROUP = "group"
_GROUP_TAG = "group"
_PARENT_TAG = "mlflow.parentRunId"
_UPDATES_TAG = "group.updates"
_REPLACED_TAG = "group.replaced"
_SIDES = ("train/", "val/", "test/")


def update_groups(client: "MlflowClient", runs: Iterable["Run"]) -> int:
    """Put finished runs that repeat each other under a parent; return the number of parents.

    They have one baseline, one code and all params in common but for seeds and fold. The same
    training made twice counts once, and one without a test result waits while others have one.

    Args:
        runs: all of a store, deleted ones too: a parent that a person has deleted stays so.
    """
    groups: dict[tuple[str, str], _Group] = defaultdict(_Group)
    for run in runs:
        tags, is_active = run.data.tags, run.info.lifecycle_stage == "active"
        if tags.get(KIND_TAG) == GROUP and _GROUP_TAG in tags:
            group = groups[run.info.experiment_id, tags[_GROUP_TAG]]
            group.parent = run if is_active else group.parent
            group.is_deleted |= not is_active and _REPLACED_TAG not in tags
        elif is_active and run.info.status == "FINISHED" and "code_sha256" in tags:
            groups[run.info.experiment_id, group_key(run)].members.append(run)
    return sum(_update(client, place, key, group) for (place, key), group in groups.items())


@dataclass
class _Group:
    """Runs that repeat each other, and their parent so far."""

    members: list["Run"] = field(default_factory=list)
    parent: "Run | None" = None
    is_deleted: bool = False
    """Whether a person has deleted its parent."""

    def repetitions(self) -> list["Run"]:
        """The members that are compared: each repetition once."""
        tested = [run for run in self.members if any(map(_is_of_test, run.data.metrics))]
        return list({_repetition(run): run for run in tested or self.members}.values())


def _is_of_test(metric: str) -> bool:
    return metric.startswith("test/")


def group_key(run: "Run") -> str:
    """Hash what the runs of a group have in common."""
    tags = run.data.tags
    params = {key: x for key, x in run.data.params.items() if key not in REPEATED_PARAMS}
    baseline = tags.get("dvc.exp_baseline_rev") or tags.get("git.commit", "")
    common = json.dumps([baseline, tags["code_sha256"], sorted(params.items())])
    return hashlib.sha256(common.encode()).hexdigest()


def _repetition(run: "Run") -> tuple[str, ...]:
    return tuple(run.data.params.get(name, "") for name in REPEATED_PARAMS)


def _update(client: "MlflowClient", place: str, key: str, group: _Group) -> bool:
    """Bring a parent to what its group is; return whether there is one."""
    runs = group.repetitions()
    if len(runs) < 2:
        if group.parent:
            _replace(client, group.parent)
        return False
    if group.parent is None and group.is_deleted:
        return False
    figures = summarise([run.data.metrics for run in runs])
    parent = group.parent
    if parent and not set(parent.data.metrics) <= set(figures):
        _replace(client, parent)  # MLflow takes no metric back
        parent = None
    parent = parent or _make_parent(client, place, key, group.members)
    for run in group.members:
        if run.data.tags.get(_PARENT_TAG) != parent.info.run_id:
            client.set_tag(run.info.run_id, _PARENT_TAG, parent.info.run_id)
    if parent.data.metrics != figures or parent.info.status != "FINISHED":
        _log(client, parent, figures, runs)
    return True


def _replace(client: "MlflowClient", parent: "Run") -> None:
    """Delete a parent that is out of date; the tag says that no person did."""
    client.set_tag(parent.info.run_id, _REPLACED_TAG, "true")
    client.delete_run(parent.info.run_id)


def _make_parent(client: "MlflowClient", place: str, key: str, members: Sequence["Run"]) -> "Run":
    tags = {KIND_TAG: GROUP, _GROUP_TAG: key}
    begin = min(run.info.start_time for run in members)
    return client.create_run(place, start_time=begin, tags=tags)


def _log(
    client: "MlflowClient", parent: "Run", figures: Mapping[str, float], runs: Sequence["Run"]
) -> None:
    from mlflow.entities import Metric

    parent_id, now_ms = parent.info.run_id, int(time.time() * 1000)
    # MLflow shows the value of the largest step.
    step = int(parent.data.tags.get(_UPDATES_TAG, "0")) + 1
    metrics = [Metric(name, value, now_ms, step) for name, value in figures.items()]
    for part in chunks(metrics, MOST_METRICS_A_CALL):
        client.log_batch(parent_id, metrics=part)
    client.update_run(parent_id, name=_name(runs))
    client.set_tag(parent_id, NOTE_TAG, _describe(figures, runs))
    client.set_tag(parent_id, _UPDATES_TAG, str(step))
    end = max(run.info.end_time or 0 for run in runs) or now_ms
    client.set_terminated(parent_id, "FINISHED", end)


def summarise(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean and sample standard deviation of every metric of a side that all results have."""
    common = set.intersection(*(set(result) for result in results))
    figures: dict[str, float] = {"num_runs": float(len(results))}
    for key in sorted(name for name in common if name.startswith(_SIDES)):
        values = [result[key] for result in results]
        figures[f"{key}_mean"] = statistics.fmean(values)
        figures[f"{key}_std"] = statistics.stdev(values)
    return figures


def _name(runs: Sequence["Run"]) -> str:
    varied = [
        name.rpartition(".")[2]
        for index, name in enumerate(REPEATED_PARAMS)
        if len({_repetition(run)[index] for run in runs}) > 1
    ]
    first = min(runs, key=lambda run: run.info.start_time)
    return f"{len(runs)} runs by {' and '.join(dict.fromkeys(varied))}: {first.info.run_name}"


def _describe(figures: Mapping[str, float], runs: Sequence["Run"]) -> str:
    lines = [
        f"- {key} {figures[f'{key}_mean']:.4f} ± {figures[f'{key}_std']:.4f}"
        for key in (name.removesuffix("_mean") for name in figures if name.endswith("_mean"))
        if "accuracy" in key or "loss" in key
    ]
    return f"Mean and standard deviation of {len(runs)} runs:\n\n" + "\n".join(lines)
