"""`kinetrack report`: a page and a model card of the model in its place, also for its run."""

import os
import sys
from pathlib import Path

from kinetrack.cli.data import PAGES_FOLDER, open_browser
from kinetrack.cli.reported import (
    EVALUATION,
    HISTORY,
    MODEL,
    Locked,
    read_lock,
    read_metrics,
    read_table,
)
from kinetrack.data.index import SIDES, DroppedRow, read_index
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError, printable
from kinetrack.files import make_folder
from kinetrack.learning.checkpoint import ModelCard, load_model
from kinetrack.tracking.lineage import UNKNOWN, git_facts
from kinetrack.tracking.records import (
    RunRecord,
    add_files,
    find_latest_of_model,
    run_address,
)
from kinetrack.using.evaluation import ClassScore
from kinetrack.using.model_card import write_model_card
from kinetrack.using.pages.report import write_report_page
from kinetrack.using.report import Made, Report, describe_sides
from kinetrack.versioning.lock import data_md5

_PAGE = PAGES_FOLDER / "report.html"
_CARD = PAGES_FOLDER / "model_card.md"
# Beside the other artifacts of a run.
_ARTIFACTS = "report"
_DROPPED = "data/splits/dropped.csv"


def print_report(root: Path, *, open_page: bool) -> None:
    """Write the page and the model card, add both to the model's run, and say where they are.

    Raises:
        InputError: nothing was trained and evaluated yet, or the reports are not of this model.
    """
    locked = read_lock(root)
    model, card = load_model(root / MODEL)
    run = _find_run(card, locked)
    sides = _read_sides(root, locked)
    report = _read_report(root, card, locked, run=run, sides=sides)
    make_folder(root / PAGES_FOLDER)
    test = sides[-1] if sides else None
    write_report_page(root / _PAGE, report, model=model, side=test)
    write_model_card(root / _CARD, report)
    print(f"page {_PAGE}, model card {_CARD}")
    print(printable(_add_to_run(root, run)))
    if open_page:
        open_browser(root / _PAGE)


def _find_run(card: ModelCard, locked: Locked) -> RunRecord | None:
    """The newest run that made the model of this data; None where MLflow has none, or is away."""
    try:
        return find_latest_of_model(card.weights_sha256, tensors_md5=locked.tensors_md5)
    except InputError as error:
        sys.stderr.write(f"report: the run is not known: {error}\n")
        return None


def _add_to_run(root: Path, run: RunRecord | None) -> str:
    if run is None:
        return "no run in MLflow has them: kinetrack track makes it, then again kinetrack report"
    try:
        add_files(run.run_id, [root / _PAGE, root / _CARD], folder=_ARTIFACTS)
    except InputError as error:
        return f"not added to run {run.run_id[:8]}: {error}"
    return f"artifacts of run {run.name} ({run.run_id[:8]}), in {_ARTIFACTS}/"


def _read_sides(root: Path, locked: Locked) -> list[PackedSide]:
    """The packed clips of each side, if they are those that were evaluated."""
    folder = Path("data/tensors") / locked.dataset
    if data_md5(folder.as_posix(), root=root) != locked.tensors_md5:
        return []
    try:
        sides = read_sides(root / folder)
    except InputError:  # not pulled: the page says so
        return []
    return [sides[side] for side in SIDES]


def _read_report(
    root: Path,
    card: ModelCard,
    locked: Locked,
    *,
    run: RunRecord | None,
    sides: list[PackedSide],
) -> Report:
    folder = root / EVALUATION
    scores = read_table(folder / "per_class.csv", set(ClassScore._fields))
    return Report(
        dataset=locked.dataset,
        card=card,
        metrics=read_metrics(root),
        scores=[_to_score(row) for row in scores],
        confusion=read_table(folder / "confusion.csv", {"actual", "predicted", "num_clips"}),
        reliability=read_table(folder / "reliability.csv", {"low", "high", "num_clips"}),
        history=read_table(root / HISTORY, {"epoch"}),
        predictions=read_table(folder / "predictions.csv", {"clip", "actual", "predicted"}),
        sides=describe_sides([row for side in sides for row in side.rows]),
        dropped=_read_dropped(root),
        params=locked.params,
        made=_describe_making(root, run),
    )


def _to_score(row: dict[str, str]) -> ClassScore:
    precision, recall, f1 = (float(row[name]) for name in ("precision", "recall", "f1"))
    return ClassScore(row["label"], precision, recall, f1, int(row["num_clips"]))


def _read_dropped(root: Path) -> list[DroppedRow]:
    path = root / _DROPPED
    return read_index(path, DroppedRow, remedy="dvc repro split") if path.exists() else []


def _describe_making(root: Path, run: RunRecord | None) -> Made:
    """What the run says of itself; without one, the checkout as it is now."""
    tags = run.tags if run else git_facts(root, environ=os.environ)
    commit = tags.get("git.commit", UNKNOWN)
    return Made(
        run_id=run.run_id if run else "",
        run_name=run.name if run else "",
        run_address=run_address(run) if run else "",
        commit="" if commit == UNKNOWN else commit,
        has_changes=tags.get("git.dirty") == "true",
    )
