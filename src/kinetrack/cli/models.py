"""`kinetrack models`: the registered models, their results, and who still has their bytes."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kinetrack.cli.scores import ACCURACY, from_tags
from kinetrack.cli.screen import print_rows
from kinetrack.errors import InputError
from kinetrack.tracking.registry import ModelVersion, list_model_versions, look_for_files
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.holdings import holds

LABELS_TAG = "labels"
_UNKNOWN = "?"
_COLUMNS = ("model", "version", "alias", ACCURACY, "clips", "dataset", "commit", "run", "size")
_HELD = ("mlflow", "dvc")
_LEGEND = "\nmlflow, dvc: whether MLflow, and DVC's cache here, have the bytes of the model"
_NONE_YET = "no models are registered yet: kinetrack promote RUN --alias champion"
# What a tag that a person wrote leads to.
_NO_VALUE = (KeyError, ValueError, TypeError, OverflowError, OSError, RecursionError)


def print_models(root: Path | None, *, as_json: bool) -> None:
    """Print all versions of registered models by name and number.

    Args:
        root: the project, None outside of one: what DVC has is not known then.

    Raises:
        InputError: MLflow cannot be used or does not answer.
    """
    versions = list_model_versions()
    cache = _find_cache(root) if root and versions else None
    files = look_for_files(versions) if versions else []
    described = [
        _describe(version, cache, in_mlflow=is_there)
        for version, is_there in zip(versions, files, strict=True)
    ]
    if as_json:
        print(json.dumps(described, indent=2))
    elif described:
        print_rows((*_COLUMNS, *_HELD), map(_row, described), folded=("model",))
        print(_LEGEND)
    else:
        print(_NONE_YET)


def read_labels(tags: Mapping[str, str]) -> list[str] | None:
    """Return the classes of a version in the order of the logits; None where it does not say."""
    try:
        labels = json.loads(tags[LABELS_TAG])
    except _NO_VALUE:
        return None
    return [str(label) for label in labels] if isinstance(labels, list) else None


def _find_cache(root: Path) -> Path | None:
    try:
        return cache_folder(root)
    except InputError as error:  # what MLflow knows is worth showing without DVC
        print(f"what is cached is not known: {error}", file=sys.stderr)
        return None


def _describe(
    version: ModelVersion, cache: Path | None, *, in_mlflow: bool | None
) -> dict[str, Any]:
    """Plain values for JSON; None where the version does not say."""
    tags, score, md5 = version.tags, from_tags(version.tags), version.tags.get("model_md5")
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "registered": _to_time(version.created_ms),
        "metrics": score.metrics if score else {},
        "interval": list(score.interval) if score and score.interval else None,
        "num_clips": score.num_clips if score else None,
        "num_groups": score.num_groups if score else None,
        "labels": read_labels(tags),
        "dataset": tags.get("dataset"),
        "commit": tags.get("git.commit"),
        "dirty": tags.get("git.dirty"),
        "run_id": version.run_id or None,
        "model_id": version.model_id or None,
        "bytes": _to_number(tags.get("model.bytes")),
        "model_sha256": tags.get("model_sha256"),
        "model_md5": md5,
        "in_mlflow": in_mlflow,
        "in_dvc": holds(cache, md5) if cache and md5 else None,
    }


def _to_number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _to_time(time_ms: int) -> str | None:
    """A time as text; None for one that the calendar does not have."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
    except _NO_VALUE:
        return None


def _row(version: Mapping[str, Any]) -> list[str]:
    size, commit = version["bytes"], version["commit"] or "unknown"
    return [
        version["name"],
        str(version["version"]),
        ", ".join(version["aliases"]),
        _accuracy(version),
        str(version["num_clips"] or _UNKNOWN),
        version["dataset"] or _UNKNOWN,
        _UNKNOWN if commit == "unknown" else commit[:7] + "*" * (version["dirty"] == "true"),
        (version["run_id"] or _UNKNOWN)[:8],
        f"{size / 2**20:.1f} MiB" if size else _UNKNOWN,
        {True: "yes", False: "no", None: _UNKNOWN}[version["in_mlflow"]],
        version["in_dvc"] or _UNKNOWN,
    ]


def _accuracy(version: Mapping[str, Any]) -> str:
    value, interval = version["metrics"].get(ACCURACY), version["interval"]
    bounds = f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else ""
    return _UNKNOWN if value is None else f"{value:.4f}{bounds}"
