"""Stage `evaluate`: judge the model on the test clips, and add the result to its MLflow runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from kinetrack.data.index import TensorsRow
from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder, write_json
from kinetrack.learning.checkpoint import ModelCard, load_model, read_trained_on
from kinetrack.learning.device import choose_device, make_repeatable
from kinetrack.learning.memory import reuse_heap
from kinetrack.learning.packed_clips import View
from kinetrack.params import PARAMS_FILE, Section, load_section
from kinetrack.stages.door import run
from kinetrack.tables import read_csv, write_csv
from kinetrack.using.calibration import reliability_curve
from kinetrack.using.evaluation import (
    class_scores,
    confusion_counts,
    group_metrics,
    overall_metrics,
    true_class_ranks,
)
from kinetrack.using.examples import find_errors
from kinetrack.using.judging import judge, list_views, softmax
from kinetrack.versioning.lock import data_md5

if TYPE_CHECKING:
    from kinetrack.tracking.evaluations import Result


# Beside the confusion table; MLflow shows them too.
REPORTS = ("metrics.json", "per_class.csv", "predictions.csv", "reliability.csv")


def _require_int(value: object) -> object:
    """Of `Literal`, `true` and 1.0 are 1."""
    if type(value) is not int:
        raise ValueError("Input should be 1 or 5")
    return value


class EvaluateParams(Section):
    """Section `evaluate` of params.yaml."""

    top_k: Annotated[int, Field(ge=1, le=1_000_000)]
    """A prediction counts as right when the class is among this many most probable ones."""
    windows: Annotated[int, Field(ge=1, le=1000)]
    """Windows of each clip whose logits are averaged, evenly spread over what is packed of it."""
    crops: Annotated[Literal[1, 5], BeforeValidator(_require_int)]
    """Squares of each window: the middle one, or with 5 the corners too."""
    shuffle_control: bool
    """Whether the clips are also judged with their frames in an order of chance: what is left of
    the accuracy does not come from motion."""


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
    check_views(params, card.clip)
    side = read_sides(tensors)["test"]
    _check_side(side, card, tensors)
    _refuse_trained(side, read_trained_on(model_folder, card), model_folder)
    reuse_heap()
    make_repeatable(seed=0, threads=card.threads)
    answers = _answer(params, model.to(device), card, side, device=device)
    return _report(params, card, rows=side.rows, answers=answers, reports=reports)


def check_views(params: EvaluateParams, clip: ClipGeometry) -> None:
    """Refuse more views than a clip has.

    Raises:
        InputError: several windows of clips that were packed without spare frames, or several
            squares of frames without spare pixels.
    """
    if params.windows > 1 and clip.sampling != "random":
        raise InputError(
            PARAMS_FILE,
            "several windows need spare frames around the middle one",
            found=f"evaluate.windows {params.windows}, pack.sampling {clip.sampling}",
            remedy="evaluate.windows 1, or pack.sampling random with spare_frames",
        )
    if params.crops > 1 and not clip.spare_px:
        raise InputError(
            PARAMS_FILE,
            "several squares need spare pixels around the middle one",
            found=f"evaluate.crops {params.crops}, pack.spare_px 0",
            remedy="evaluate.crops 1, or pack.spare_px above 0",
        )


class _Answers(NamedTuple):
    """What a model says to each view of the clips, and to shuffled frames; logits (N, K) each."""

    views: list[NDArray[np.float64]]
    shuffled: NDArray[np.float64] | None


def _answer(
    params: EvaluateParams,
    model: torch.nn.Module,
    card: ModelCard,
    side: PackedSide,
    *,
    device: torch.device,
) -> _Answers:
    views = list_views(windows=params.windows, crops=params.crops)
    logits = [judge(model, card, side, view, device=device) for view in views]
    if not params.shuffle_control:
        return _Answers(logits, None)
    return _Answers(logits, judge(model, card, side, View(is_shuffled=True), device=device))


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
    answers: _Answers,
    reports: Path,
) -> Evaluation:
    labels = card.labels
    targets = np.array([labels.index(row.label) for row in rows])
    probabilities = softmax(np.mean(answers.views, axis=0))
    predicted = probabilities.argmax(axis=1)
    exact = _measure(params, targets, answers, groups=[row.group for row in rows])
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
    return Evaluation(card, metrics)


def _measure(
    params: EvaluateParams, targets: NDArray[np.int64], answers: _Answers, *, groups: list[str]
) -> dict[str, float]:
    """Figures of the averaged views, then of single ones and of the control."""
    probabilities = softmax(np.mean(answers.views, axis=0))
    views = [float((logits.argmax(axis=1) == targets).mean()) for logits in answers.views]
    metrics = {
        **overall_metrics(targets, probabilities, top_k=params.top_k),
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
