"""`kinetrack runs`: the trainings that MLflow knows, and what DVC still has of them."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from kinetrack.cli.screen import print_rows
from kinetrack.errors import InputError
from kinetrack.tracking.groups import GROUP, KIND_TAG
from kinetrack.tracking.listing import Entry, ListedRun, list_runs
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.holdings import Held, holds

_MOST = 20
_DATA_TAG = "data.tensors_md5"
_MODEL_TAG = "model_md5"
_UNKNOWN = "?"
_COLUMNS = ("run", "name", "status", "dataset", "experiment", "val", "test", "commit")
_CACHED = ("data", "model")
_LEGEND = (
    "\n*: in a name, other params than the preset's; in a commit, with changes that it has not."
    " data, model: whether DVC's cache has their bytes"
)
_SHORTENED = ("name", "experiment")


def print_runs(root: Path, *, as_json: bool, experiment: str | None, show_all: bool) -> None:
    """Print the newest trainings, or all; parents stand above those that repeat each other.

    Raises:
        InputError: no such experiment, or MLflow cannot be used or does not answer.
    """
    listing = list_runs(experiment=experiment, most=None if show_all else _MOST)
    held = _find_held(listing.runs(), root)
    if as_json:
        print(json.dumps([run for one in listing.entries for run in describe(one, held)], indent=2))
    elif not listing.entries:
        print(f"no runs in experiment {experiment}" if experiment else "no runs yet: make repro")
    else:
        _print_table(listing.entries, held)
        print(_LEGEND + "; older runs: kinetrack runs --all" * listing.has_more)


def describe(entry: Entry, held: Mapping[str, Held]) -> list[dict[str, Any]]:
    """Describe a training, or a parent and its trainings, each as plain values for JSON."""
    parent = entry.run.run_id
    children = (_describe(run, parent=parent, held=held) for run in entry.children)
    return [_describe(entry.run, parent=None, held=held), *children]


def _find_held(runs: Sequence[ListedRun], root: Path) -> dict[str, Held]:
    """What DVC's cache has, by md5; each one is looked for once."""
    named = (run.tags.get(tag) for run in runs for tag in (_DATA_TAG, _MODEL_TAG))
    md5s = {md5 for md5 in named if md5}
    if not md5s:
        return {}
    try:
        cache = cache_folder(root)
    except InputError as error:  # what MLflow knows is worth showing without DVC
        print(f"what is cached is not known: {error}", file=sys.stderr)
        return {}
    return {md5: holds(cache, md5) for md5 in md5s}


def _describe(run: ListedRun, *, parent: str | None, held: Mapping[str, Held]) -> dict[str, Any]:
    kind = GROUP if run.tags.get(KIND_TAG) == GROUP else "training"
    mean = "_mean" if kind == GROUP else ""
    return {
        "run_id": run.run_id,
        "kind": kind,
        "parent": parent,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "begun": _to_text(run.begun_ms),
        "ended": _to_text(run.ended_ms),
        "dataset": run.params.get("dataset"),
        "dvc_experiment": run.tags.get("dvc.exp_name"),
        "val_accuracy": _finite(run.metrics.get(f"val/accuracy{mean}")),
        "test_accuracy": _finite(run.metrics.get(f"test/accuracy{mean}")),
        "commit": run.tags.get("git.commit"),
        "dirty": run.tags.get("git.dirty"),
        "data_cached": held.get(run.tags.get(_DATA_TAG, "")),
        "model_cached": held.get(run.tags.get(_MODEL_TAG, "")),
        "metrics": {key: _finite(value) for key, value in sorted(run.metrics.items())},
        "params": dict(sorted(run.params.items())),
        "tags": {key: x for key, x in sorted(run.tags.items()) if not key.startswith("mlflow.")},
    }


def _finite(value: float | None) -> float | None:
    """None for what JSON has no word for."""
    return value if value is not None and isfinite(value) else None


def _to_text(time_ms: int | None) -> str | None:
    """A time as text; None for one that the calendar does not have."""
    try:
        return datetime.fromtimestamp((time_ms or 0) / 1000, UTC).isoformat() if time_ms else None
    except (OverflowError, ValueError, OSError):
        return None


def _print_table(entries: Iterable[Entry], held: Mapping[str, Held]) -> None:
    rows = (_row(run) for entry in entries for run in describe(entry, held))
    print_rows((*_COLUMNS, *_CACHED), rows, shortened=_SHORTENED)


def _row(run: Mapping[str, Any]) -> list[str]:
    is_group = run["kind"] == GROUP
    cells = [
        ("  " if run["parent"] else "") + run["run_id"][:8],
        run["name"],
        run["status"].lower(),
        run["dataset"] or ("" if is_group else _UNKNOWN),
        run["dvc_experiment"] or "",
        _accuracy(run, "val"),
        _accuracy(run, "test"),
        "" if is_group else _commit(run),
    ]
    cached = (run["data_cached"], run["model_cached"])
    return [*cells, *("" if is_group else one or _UNKNOWN for one in cached)]


def _accuracy(run: Mapping[str, Any], side: str) -> str:
    value, deviation = run[f"{side}_accuracy"], run["metrics"].get(f"{side}/accuracy_std")
    if value is None:
        return ""
    return f"{value:.4f}" if deviation is None else f"{value:.3f}±{deviation:.3f}"


def _commit(run: Mapping[str, Any]) -> str:
    if run["commit"] in (None, "unknown"):
        return _UNKNOWN
    return str(run["commit"])[:7] + ("*" if run["dirty"] == "true" else "")
