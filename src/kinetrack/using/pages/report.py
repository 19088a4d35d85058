"""The page of a trained model: how good it is, where it errs, where it looks, what made it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from torch import nn

from kinetrack.data.tensors import PackedSide
from kinetrack.parallel import with_progress
from kinetrack.tracking.figures import draw_confusion, draw_metric, draw_reliability
from kinetrack.using.examples import surest_errors
from kinetrack.using.pages.charts import to_svg
from kinetrack.using.pages.document import write_page
from kinetrack.using.pages.strips import Strip, draw_strip
from kinetrack.using.report import Report, class_shares, least_sure_hits
from kinetrack.using.saliency import class_saliency

_MOST_STRIPS = 8
_MOST_SHARES = 3
# Of more classes a table of all pairs is too wide to read; a picture shows where they lie.
_MOST_CELLS = 12
_MOST_CONFUSED = 15
_MOST_DROPPED = 50


class _Shown(NamedTuple):
    """A test clip on the page."""

    clip: str
    group: str
    actual: str
    predicted: str
    shares: list[tuple[str, float]]
    strip: Strip


class _Cell(NamedTuple):
    """A pair of classes in the confusion table."""

    num_clips: int
    share: float
    is_right: bool


def write_report_page(
    path: Path, report: Report, *, model: nn.Module, side: PackedSide | None
) -> None:
    """Write what there is to say of a model, with pictures of its errors.

    Args:
        model: that of the report, in evaluation mode, on the CPU.
        side: the packed test clips; without them there are no pictures.
    """
    errors = surest_errors(report.predictions)[:_MOST_STRIPS]
    hits = least_sure_hits(report.predictions, most=_MOST_STRIPS)
    rows = [*errors, *hits]
    shown = [
        _show(row, report, model, side)
        for row in with_progress(rows, total=len(rows), description="pictures")
    ]
    write_page(
        path,
        "report.html",
        report=report,
        charts=_draw_charts(report),
        confusion=_tabulate(report) if len(report.card.labels) <= _MOST_CELLS else None,
        confused=report.confused[:_MOST_CONFUSED],
        errors=shown[: len(errors)],
        num_errors=sum(one.num_clips for one in report.confused),
        hits=shown[len(errors) :],
        dropped=(report.dropped or [])[:_MOST_DROPPED],
        params=_list_params(report.params),
    )


def _show(
    row: Mapping[str, str], report: Report, model: nn.Module, side: PackedSide | None
) -> _Shown:
    labels = report.card.labels
    explain = partial(_explain, model, report, labels.index(row["predicted"]))
    shares = class_shares(row, labels)
    kept = [pair for pair in shares[:_MOST_SHARES] if pair[0] != row["actual"]]
    actual = [(row["actual"], float(row["actual_probability"]))]
    return _Shown(
        clip=row["clip"],
        group=row.get("group", ""),
        actual=row["actual"],
        predicted=row["predicted"],
        shares=sorted(kept + actual, key=lambda pair: -pair[1]),
        strip=draw_strip(side, (row["actual"], row["clip"]), report.card.clip, explain),
    )


def _explain(
    model: nn.Module, report: Report, class_index: int, clip: NDArray[np.uint8]
) -> NDArray[np.float32]:
    return class_saliency(model, report.card, clip, class_index)


def _draw_charts(report: Report) -> dict[str, Markup]:
    charts = {
        metric: to_svg(draw_metric(report.history, metric), description=f"{metric} of every epoch")
        for metric in ("loss", "accuracy")
    }
    charts["calibration"] = to_svg(
        draw_reliability(report.reliability), description="probability and share that is right"
    )
    if len(report.card.labels) > _MOST_CELLS:
        counts = [[cell.num_clips for cell in cells] for _, cells in _tabulate(report)]
        charts["confusion"] = to_svg(
            draw_confusion(counts, report.card.labels), description="confusion matrix"
        )
    return charts


def _tabulate(report: Report) -> list[tuple[str, list[_Cell]]]:
    """Return for each class what its clips were taken for, both in the order of the labels."""
    rows = {(row["actual"], row["predicted"]): row for row in report.confusion}
    return [
        (actual, [_cell(rows[actual, predicted]) for predicted in report.card.labels])
        for actual in report.card.labels
    ]


def _cell(row: Mapping[str, str]) -> _Cell:
    return _Cell(int(row["num_clips"]), float(row["share"]), row["actual"] == row["predicted"])


def _list_params(params: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return every param by its name, `section.key`, as text."""
    found = []
    for section, values in params.items():
        if isinstance(values, Mapping):
            found += [(f"{section}.{key}", str(value)) for key, value in values.items()]
        else:
            found.append((section, str(values)))
    return found
