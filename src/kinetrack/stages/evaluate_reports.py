"""The reports of the stage `evaluate`: figures, tables of classes and bins, predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinetrack.data.index import TensorsRow
from kinetrack.files import atomic_folder, write_json
from kinetrack.tables import write_csv
from kinetrack.using.calibration import reliability_curve
from kinetrack.using.evaluation import (
    class_scores,
    confusion_counts,
    group_metrics,
    overall_metrics,
    true_class_ranks,
)
from kinetrack.using.judging import softmax


class Answers(NamedTuple):
    """What a model says to each view of the clips, and to shuffled frames; logits (N, K) each."""

    views: list[NDArray[np.float64]]
    shuffled: NDArray[np.float64] | None


def write_reports(
    reports: Path,
    *,
    labels: list[str],
    rows: Sequence[TensorsRow],
    answers: Answers,
    top_k: int,
) -> dict[str, float]:
    """Write the reports on these test clips into a folder, all of them or none.

    Args:
        labels: of the model, in the order of the logits.

    Returns:
        The figures, as `metrics.json` has them.

    Raises:
        WriteError: no room, or no permission; earlier reports are as they were.
    """
    targets = np.array([labels.index(row.label) for row in rows])
    probabilities = softmax(np.mean(answers.views, axis=0))
    predicted = probabilities.argmax(axis=1)
    exact = _measure(targets, answers, groups=[row.group for row in rows], top_k=top_k)
    metrics = {name: round(value, 6) for name, value in exact.items()}
    scores = class_scores(targets, predicted, labels=labels)
    counts = confusion_counts(targets, predicted, num_classes=len(labels))
    curve = reliability_curve(targets, probabilities)
    with atomic_folder(reports) as folder:
        write_json(folder / "metrics.json", metrics)
        _write_rounded(folder / "per_class.csv", [score._asdict() for score in scores])
        _write_rounded(folder / "reliability.csv", [one._asdict() for one in curve])
        _write_confusion(folder / "confusion.csv", counts, labels)
        table = _list_predictions(rows, targets, probabilities, labels)
        if answers.shuffled is not None:
            for row, place in zip(table, answers.shuffled.argmax(axis=1), strict=True):
                row["shuffled_predicted"] = labels[place]
        write_csv(folder / "predictions.csv", list(table[0]), table)
    return metrics


def _measure(
    targets: NDArray[np.int64], answers: Answers, *, groups: list[str], top_k: int
) -> dict[str, float]:
    """Figures of the averaged views, then of single ones and of the control."""
    probabilities = softmax(np.mean(answers.views, axis=0))
    views = [float((logits.argmax(axis=1) == targets).mean()) for logits in answers.views]
    metrics = {
        **overall_metrics(targets, probabilities, top_k=top_k),
        **group_metrics(probabilities.argmax(axis=1) == targets, groups),
        "num_views": len(views),
        "view_accuracy": sum(views) / len(views),
    }
    if answers.shuffled is not None:
        metrics["shuffled_accuracy"] = float((answers.shuffled.argmax(axis=1) == targets).mean())
    return metrics


def _write_rounded(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    rounded = [
        {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    write_csv(path, list(rounded[0]), rounded)


def _write_confusion(path: Path, counts: NDArray[np.int64], labels: list[str]) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [
        {
            "actual": actual,
            "predicted": predicted,
            "num_clips": int(counts[i, j]),
            "share": round(float(shares[i, j]), 6),
        }
        for i, actual in enumerate(labels)
        for j, predicted in enumerate(labels)
    ]
    write_csv(path, list(rows[0]), rows)


def _list_predictions(
    rows: Sequence[TensorsRow],
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    labels: list[str],
) -> list[dict[str, Any]]:
    ranks = true_class_ranks(targets, probabilities).tolist()
    return [
        _prediction(row, values, labels, rank=rank)
        for row, values, rank in zip(rows, probabilities, ranks, strict=True)
    ]


def _prediction(
    row: TensorsRow, probabilities: NDArray[np.float64], labels: list[str], *, rank: int
) -> dict[str, Any]:
    """One line of the predictions table; `rank` is 1 where the class was the most probable."""
    target = labels.index(row.label)
    predicted = int(probabilities.argmax())
    return {
        "clip": row.clip,
        "group": row.group,
        "video": row.video,
        "actual": row.label,
        "predicted": labels[predicted],
        "correct": predicted == target,
        "probability": round(float(probabilities[predicted]), 6),
        "actual_probability": round(float(probabilities[target]), 6),
        "rank": rank,
        **{
            f"p_{label}": round(float(value), 6)
            for label, value in zip(labels, probabilities, strict=True)
        },
    }
