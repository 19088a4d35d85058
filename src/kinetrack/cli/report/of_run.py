"""The report of any run that was evaluated, by the files that MLflow has of it."""

import json
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from kinetrack.cli.report.told import Told, describe_making, find_sides, read_dropped, to_score
from kinetrack.cli.reported import parse_table
from kinetrack.data.index import SIDES, DroppedRow
from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.learning.checkpoint import ModelCard, load_model
from kinetrack.params import load_yaml
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.records import (
    RunRecord,
    find_record,
    read_artifact,
    read_histories,
    refuse_run,
)
from kinetrack.using.evaluation import ClassScore
from kinetrack.using.report import Report, describe_sides

_EVALUATION = "evaluation"
_PARAMS = "params.yaml"
_SPLIT = "data/splits/split.json"
_EVALUATE = (
    "bring its model back (its commit, or dvc exp apply), dvc repro evaluate, kinetrack track"
)


def tell_run(name: str, root: Path) -> Told:
    """Read what there is to say of a run.

    Args:
        name: as `find_record` takes it.

    Raises:
        InputError: no such run, one without a finished model or without a whole evaluation;
            MLflow does not answer.
    """
    run = find_record(name)
    _require_result(run)
    model, card = _fetch_model(run)
    dataset = run.params.get("dataset", "")
    sides = find_sides(root, dataset, tensors_md5=run.tags.get("data.tensors_md5", ""))
    report = Report(
        dataset=dataset,
        card=card,
        metrics=_read_metrics(run),
        scores=[to_score(row) for row in _read_table(run, "per_class", set(ClassScore._fields))],
        confusion=_read_table(run, "confusion", {"actual", "predicted", "num_clips"}),
        reliability=_read_table(run, "reliability", {"low", "high", "num_clips"}),
        history=_read_history(run),
        predictions=_read_table(run, "predictions", {"clip", "actual", "predicted"}),
        sides=describe_sides([row for side in sides for row in side.rows]),
        dropped=_find_dropped(run, root),
        params=_read_params(run),
        made=describe_making(root, run),
    )
    return Told(report, model, sides[-1] if sides else None, run)


def _require_result(run: RunRecord) -> None:
    if run.tags.get("kind") == "group":
        raise refuse_run(run, "is a group of runs", remedy="name one of them")
    if run.status != "FINISHED" or "model_sha256" not in run.tags:
        found = f"status {run.status.lower()}"
        raise refuse_run(run, "has no finished model", found, "a finished training")


def _fetch_model(run: RunRecord) -> tuple[nn.Module, ModelCard]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        fetch_model(f"run:{run.run_id}", folder)
        model, card = load_model(folder)
    recorded = run.tags["model_sha256"]
    if card.weights_sha256 != recorded:
        problem = "its model in MLflow is not the one that it made"
        raise refuse_run(run, problem, f"sha256 {card.weights_sha256}", f"sha256 {recorded}")
    return model, card


def _read_file(run: RunRecord, name: str) -> bytes:
    content = read_artifact(run, f"{_EVALUATION}/{name}")
    if content is None:
        problem = f"has no whole evaluation: MLflow has no {_EVALUATION}/{name} of it"
        raise refuse_run(run, problem, remedy=_EVALUATE)
    return content


def _read_table(run: RunRecord, name: str, columns: set[str]) -> list[dict[str, str]]:
    place = f"{_EVALUATION}/{name}.csv of run {run.run_id[:8]}"
    return parse_table(_read_file(run, f"{name}.csv"), columns, place=place, remedy=_EVALUATE)


def _read_metrics(run: RunRecord) -> dict[str, float]:
    try:
        metrics: dict[str, float] = json.loads(_read_file(run, "metrics.json"))
    except ValueError as error:
        problem = f"its {_EVALUATION}/metrics.json cannot be read"
        raise refuse_run(run, problem, error, remedy=_EVALUATE) from None
    return metrics


def _read_history(run: RunRecord) -> list[dict[str, str]]:
    """Rows as `history.csv` has them; `nan` for a side that was not watched."""
    names = [f"{side}/{kind}" for side in SIDES for kind in ("loss", "accuracy")]
    found = read_histories(run, names)
    epochs = sorted(found["train/loss"])
    if not epochs:
        raise refuse_run(run, "has no epoch in MLflow", remedy="kinetrack track")
    return [
        {
            "epoch": str(epoch),
            **{name.replace("/", "_"): str(found[name].get(epoch, "nan")) for name in names},
        }
        for epoch in epochs
    ]


def _read_params(run: RunRecord) -> dict[str, Any]:
    """Sections of the run's own params.yaml; nothing of a run that kept none."""
    content = read_artifact(run, _PARAMS)
    if content is None:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, _PARAMS)
        path.write_bytes(content)
        try:
            values = load_yaml(path)
        except InputError as error:
            raise refuse_run(run, f"its {_PARAMS} cannot be read", error.problem) from None
    sections = values.items() if isinstance(values, dict) else ()
    return {str(name): value for name, value in sections if isinstance(value, dict)}


def _find_dropped(run: RunRecord, root: Path) -> list[DroppedRow] | None:
    """What the run's split has dropped, if it is that split which is here; else None."""
    split = root / _SPLIT
    if split.is_file() and file_md5(split) == run.tags.get("data.split_md5"):
        return read_dropped(root)
    return None
