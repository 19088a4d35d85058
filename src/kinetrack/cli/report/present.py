"""The report of the model in its place, by the files that DVC recorded."""

import sys
from pathlib import Path

from kinetrack.cli.report.told import Told, describe_making, find_sides, read_dropped, to_score
from kinetrack.cli.reported import (
    EVALUATION,
    HISTORY,
    MODEL,
    Locked,
    read_lock,
    read_metrics,
    read_table,
)
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import ModelCard, load_model
from kinetrack.tracking.records import RunRecord, find_latest_of_model
from kinetrack.using.evaluation import ClassScore
from kinetrack.using.report import Report, describe_sides


def tell_present(root: Path) -> Told:
    """Read what there is to say of the model here; its run too, where MLflow has it.

    Raises:
        InputError: nothing was trained and evaluated yet, or the reports are not of this model.
    """
    locked = read_lock(root)
    model, card = load_model(root / MODEL)
    run = _find_run(card, locked)
    sides = find_sides(root, locked.dataset, tensors_md5=locked.tensors_md5)
    folder = root / EVALUATION
    scores = read_table(folder / "per_class.csv", set(ClassScore._fields))
    report = Report(
        dataset=locked.dataset,
        card=card,
        metrics=read_metrics(root),
        scores=[to_score(row) for row in scores],
        confusion=read_table(folder / "confusion.csv", {"actual", "predicted", "num_clips"}),
        reliability=read_table(folder / "reliability.csv", {"low", "high", "num_clips"}),
        history=read_table(root / HISTORY, {"epoch"}),
        predictions=read_table(folder / "predictions.csv", {"clip", "actual", "predicted"}),
        sides=describe_sides([row for side in sides for row in side.rows]),
        dropped=read_dropped(root),
        params=locked.params,
        made=describe_making(root, run),
    )
    return Told(report, model, sides[-1] if sides else None, run)


def _find_run(card: ModelCard, locked: Locked) -> RunRecord | None:
    """The newest run that made the model of this data; None where MLflow has none, or is away."""
    try:
        return find_latest_of_model(card.weights_sha256, tensors_md5=locked.tensors_md5)
    except InputError as error:
        sys.stderr.write(f"report: the run is not known: {error}\n")
        return None
