"""Stage `evaluate`: judge the model on the test clips, and add the result to its MLflow runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import PositiveInt

from kinetrack.data.index import TensorsRow
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder, read_csv, write_csv, write_json
from kinetrack.learning.batches import ClipBatches, PackedClips
from kinetrack.learning.checkpoint import ModelCard, load_model, read_trained_on
from kinetrack.learning.device import choose_device, make_repeatable
from kinetrack.learning.memory import MicroBatch, reuse_heap
from kinetrack.learning.processes import alone
from kinetrack.learning.training import Recipe, predict_probabilities
from kinetrack.params import Section, load_section
from kinetrack.stages.door import run
from kinetrack.using.evaluation import (
    ClassScore,
    class_scores,
    confusion_counts,
    overall_metrics,
    true_class_ranks,
)
from kinetrack.using.examples import find_errors
from kinetrack.versioning.lock import data_md5

if TYPE_CHECKING:
    from kinetrack.tracking.evaluations import Result


# Beside the confusion table; MLflow shows them too.
REPORTS = ("metrics.json", "per_class.csv", "predictions.csv")


class EvaluateParams(Section):
    """Section `evaluate` of params.yaml."""

    top_k: PositiveInt
    """A prediction counts as right when the class is among this many most probable ones."""


class Evaluation(NamedTuple):
    """Result of a model on the test clips."""

    card: ModelCard
    metrics: dict[str, float]


def evaluate_model(
    params: EvaluateParams,
    *,
    tensors: Path,
    model_folder: Path,
    reports: Path,
    device: torch.device,
) -> Evaluation:
    """Judge a model on the test side and write the reports; all of them or none.

    Raises:
        InputError: no usable model or tensors, no test clip, a class that the model does not
            know, a test clip that it was trained on, or clips of another geometry than its own.
    """
    model, card = load_model(model_folder)
    side = read_sides(tensors)["test"]
    _check_side(side, card, tensors)
    _refuse_trained(side, read_trained_on(model_folder, card), model_folder)
    reuse_heap()
    make_repeatable(seed=0, threads=card.threads)
    clips = PackedClips(side, labels=card.labels, geometry=card.clip)
    batches = ClipBatches(clips, batch_size=card.micro_batch, team=alone(device))
    probabilities = predict_probabilities(
        model.to(device),
        batches.of_epoch(0),
        recipe=Recipe(input=card.input),
        micro=MicroBatch(card.micro_batch),
        device=device,
    )
    targets = np.array([card.labels.index(row.label) for row in side.rows])
    return _report(
        params,
        card,
        rows=side.rows,
        targets=targets,
        probabilities=probabilities.numpy(),
        reports=reports,
    )


def _check_side(side: PackedSide, card: ModelCard, tensors: Path) -> None:
    if not side.rows:
        raise InputError(tensors, "holds no test clip", remedy="give split a test part")
    unknown = sorted({row.label for row in side.rows} - set(card.labels))
    if unknown:
        raise InputError(
            tensors,
            f"holds class {unknown[0]} that the model does not know",
            expected=", ".join(card.labels),
            remedy="dvc repro train",
        )


def _refuse_trained(side: PackedSide, trained_on: frozenset[str], model_folder: Path) -> None:
    seen = [row for row in side.rows if row.frames_sha256 in trained_on]
    if seen:
        raise InputError(
            model_folder,
            "was trained on clips that are test clips here",
            found=f"{len(seen)} of {len(side.rows)}, the first: {seen[0].label}/{seen[0].clip}",
            expected="the test clips of the split that it was trained with",
            remedy="dvc repro train, or split as for this model",
        )


def _report(
    params: EvaluateParams,
    card: ModelCard,
    *,
    rows: Sequence[TensorsRow],
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    reports: Path,
) -> Evaluation:
    predicted = probabilities.argmax(axis=1)
    exact = overall_metrics(targets, probabilities, top_k=params.top_k)
    metrics = {name: round(value, 6) for name, value in exact.items()}
    counts = confusion_counts(targets, predicted, num_classes=len(card.labels))
    with atomic_folder(reports) as folder:
        write_json(folder / "metrics.json", metrics)
        _write_class_scores(
            folder / "per_class.csv", class_scores(targets, predicted, labels=card.labels)
        )
        _write_confusion(folder / "confusion.csv", counts, card.labels)
        _write_predictions(folder / "predictions.csv", rows, targets, probabilities, card.labels)
    return Evaluation(card, metrics)


def _write_class_scores(path: Path, scores: list[ClassScore]) -> None:
    rows = [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in row}
        for row in (score._asdict().items() for score in scores)
    ]
    write_csv(path, list(ClassScore._fields), rows)


def _write_confusion(path: Path, counts: NDArray[np.int64], labels: list[str]) -> None:
    rows = [
        {"actual": actual, "predicted": predicted, "num_clips": int(counts[i, j])}
        for i, actual in enumerate(labels)
        for j, predicted in enumerate(labels)
    ]
    write_csv(path, list(rows[0]), rows)


def _write_predictions(
    path: Path,
    rows: Sequence[TensorsRow],
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    labels: list[str],
) -> None:
    ranks = true_class_ranks(targets, probabilities).tolist()
    table = [
        _prediction(row, values, labels, rank=rank)
        for row, values, rank in zip(rows, probabilities, ranks, strict=True)
    ]
    write_csv(path, list(table[0]), table)


def _prediction(
    row: TensorsRow, probabilities: NDArray[np.float64], labels: list[str], *, rank: int
) -> dict[str, Any]:
    """One line of the predictions table; `rank` is 1 where the class was the most probable."""
    target = labels.index(row.label)
    predicted = int(probabilities.argmax())
    return {
        "clip": row.clip,
        "group": row.group,
        "actual": row.label,
        "predicted": labels[predicted],
        "correct": predicted == target,
        "probability": round(float(probabilities[predicted]), 6),
        "actual_probability": round(float(probabilities[target]), 6),
        "rank": rank,
    }


def describe_result(
    metrics: dict[str, float],
    card: ModelCard,
    reports: Path,
    *,
    tensors_md5: str | None,
    tensors: Path | None,
) -> "Result":
    """What MLflow shows of an evaluation; the runs that it is of are found by model and tensors.

    The test side has no part in the weights, so the same model may come from other tensors.
    Without the `tensors` themselves there are no pictures of errors.
    """
    from kinetrack.tracking.evaluations import Result

    tags = {"model_sha256": card.weights_sha256}
    if tensors_md5:
        tags["data.tensors_md5"] = tensors_md5
    files = [reports / name for name in REPORTS if (reports / name).is_file()]
    errors = []
    if tensors and (reports / "predictions.csv").is_file():
        predictions = read_csv(reports / "predictions.csv")
        errors = find_errors(read_sides(tensors)["test"], card.clip, predictions)
    return Result(tags, metrics, reports / "confusion.csv", files, errors)


def main(tensors: Path, model: Path, reports: Path) -> None:
    """Evaluate MODEL on the test clips of TENSORS and write the REPORTS."""
    from kinetrack.tracking.evaluations import add_evaluation

    evaluation = evaluate_model(
        load_section(EvaluateParams, "evaluate"),
        tensors=tensors,
        model_folder=model,
        reports=reports,
        device=choose_device(),
    )
    tensors_md5 = data_md5(tensors.as_posix(), root=Path.cwd())
    result = describe_result(
        evaluation.metrics, evaluation.card, reports, tensors_md5=tensors_md5, tensors=tensors
    )
    runs = add_evaluation(result)
    metrics = evaluation.metrics
    typer.echo(f"evaluate: accuracy {metrics['accuracy']:.4f} on {metrics['num_clips']} test clips")
    typer.echo(f"  added to {runs} MLflow run{'s' * (runs != 1)}")


if __name__ == "__main__":
    run("evaluate")
