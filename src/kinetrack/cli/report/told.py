"""A report with the model and the clips that its pictures take."""

import os
from pathlib import Path
from typing import NamedTuple

from torch import nn

from kinetrack.data.index import SIDES, DroppedRow, read_index
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.tracking.lineage import UNKNOWN, git_facts
from kinetrack.tracking.records import RunRecord, run_address
from kinetrack.using.evaluation import ClassScore
from kinetrack.using.report import Made, Report
from kinetrack.versioning.lock import data_md5

DROPPED = "data/splits/dropped.csv"


class Told(NamedTuple):
    """All that a page tells and shows."""

    report: Report
    model: nn.Module
    test_side: PackedSide | None
    """The packed test clips; None where others are here, or none."""
    run: RunRecord | None


def find_sides(root: Path, dataset: str, *, tensors_md5: str) -> list[PackedSide]:
    """Return the packed clips of each side, if it is these that are here; else nothing."""
    folder = Path("data/tensors") / dataset
    if not tensors_md5 or data_md5(folder.as_posix(), root=root) != tensors_md5:
        return []
    try:
        sides = read_sides(root / folder)
    except InputError:  # not pulled: the page says so
        return []
    return [sides[side] for side in SIDES]


def read_dropped(root: Path) -> list[DroppedRow]:
    """Read what the split that is here has dropped.

    Raises:
        InputError: its list is damaged.
    """
    path = root / DROPPED
    return read_index(path, DroppedRow, remedy="dvc repro split") if path.exists() else []


def to_score(row: dict[str, str]) -> ClassScore:
    """Return a row of `per_class.csv` as numbers."""
    precision, recall, f1 = (float(row[name]) for name in ("precision", "recall", "f1"))
    return ClassScore(row["label"], precision, recall, f1, int(row["num_clips"]))


def describe_making(root: Path, run: RunRecord | None) -> Made:
    """Return what the run says of itself; without one, of the checkout as it is now."""
    tags = run.tags if run else git_facts(root, environ=os.environ)
    commit = tags.get("git.commit", UNKNOWN)
    return Made(
        run_id=run.run_id if run else "",
        run_name=run.name if run else "",
        run_address=run_address(run) if run else "",
        commit="" if commit == UNKNOWN else commit,
        has_changes=tags.get("git.dirty") == "true",
    )
