"""Trainings that differ in seed and fold only, under a parent run with their mean and deviation."""

import hashlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

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
_SIDES = ("train/", "val/", "test/")


def update_groups(client: "MlflowClient", runs: Iterable["Run"]) -> int:
    """Put finished runs that repeat each other under a parent; return the number of parents.

    They have one baseline, one code and all params in common but for seeds and fold. The same
    training made twice counts once.

    Args:
        runs: all of a store that are not deleted.
    """
    members: dict[tuple[str, str], list[Run]] = defaultdict(list)
    parents: dict[tuple[str, str], Run] = {}
    for run in runs:
        tags = run.data.tags
        if tags.get(KIND_TAG) == GROUP:
            parents[run.info.experiment_id, tags.get(_GROUP_TAG, "")] = run
        elif run.info.status == "FINISHED" and "code_sha256" in tags:
            members[run.info.experiment_id, group_key(run)].append(run)
    count = 0
    for (place, key), group in members.items():
        different = {_repetition(run): run for run in group}
        if len(different) > 1:
            parent = parents.get((place, key)) or _make_parent(client, place, key, group)
            _update(client, parent, group, list(different.values()))
            count += 1
    return count


def group_key(run: "Run") -> str:
    """Hash what the runs of a group have in common."""
    tags = run.data.tags
    params = {key: x for key, x in run.data.params.items() if key not in REPEATED_PARAMS}
    baseline = tags.get("dvc.exp_baseline_rev") or tags.get("git.commit", "")
    common = json.dumps([baseline, tags["code_sha256"], sorted(params.items())])
    return hashlib.sha256(common.encode()).hexdigest()


def _repetition(run: "Run") -> tuple[str, ...]:
    return tuple(run.data.params.get(name, "") for name in REPEATED_PARAMS)


def _make_parent(client: "MlflowClient", place: str, key: str, group: Sequence["Run"]) -> "Run":
    tags = {KIND_TAG: GROUP, _GROUP_TAG: key}
    begin = min(run.info.start_time for run in group)
    return client.create_run(place, start_time=begin, tags=tags)


def _update(
    client: "MlflowClient", parent: "Run", group: Sequence["Run"], different: Sequence["Run"]
) -> None:
    parent_id = parent.info.run_id
    for run in group:
        if run.data.tags.get(_PARENT_TAG) != parent_id:
            client.set_tag(run.info.run_id, _PARENT_TAG, parent_id)
    figures = summarise([run.data.metrics for run in different])
    if parent.data.metrics == figures:
        return
    for key, value in figures.items():
        client.log_metric(parent_id, key, value, step=len(different))
    client.update_run(parent_id, name=_name(different))
    client.set_tag(parent_id, NOTE_TAG, _describe(figures, different))
    end = max(run.info.end_time or 0 for run in group) or int(time.time() * 1000)
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
