"""Stage `evaluate`: judge the model on the test clips, and add the result to its MLflow runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
import typer
from pydantic import BeforeValidator, Field

from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import ModelCard, load_model, read_trained_on
from kinetrack.learning.device import choose_device, make_repeatable
from kinetrack.learning.memory import reuse_heap
from kinetrack.learning.packed_clips import View
from kinetrack.params import PARAMS_FILE, Section, load_section
from kinetrack.stages.door import run
from kinetrack.stages.evaluate_reports import Answers, write_reports
from kinetrack.tables import read_csv
from kinetrack.using.examples import find_errors
from kinetrack.using.judging import judge, list_views
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
    """Whether the clips are also judged with their frames in random order: what is left of
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
    metrics = write_reports(
        reports, labels=card.labels, rows=side.rows, answers=answers, top_k=params.top_k
    )
    return Evaluation(card, metrics)


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


def _answer(
    params: EvaluateParams,
    model: torch.nn.Module,
    card: ModelCard,
    side: PackedSide,
    *,
    device: torch.device,
) -> Answers:
    views = list_views(windows=params.windows, crops=params.crops)
    logits = [judge(model, card, side, view, device=device) for view in views]
    if not params.shuffle_control:
        return Answers(logits, None)
    return Answers(logits, judge(model, card, side, View(is_shuffled=True), device=device))


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
