"""The page of a comparison: differences with their intervals, and who gets which clips right."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import PackedSide
from kinetrack.parallel import with_progress
from kinetrack.tracking.figures import draw_intervals
from kinetrack.using.comparison import (
    Difference,
    JudgedClip,
    accuracy,
    accuracy_interval,
    are_grouped,
    class_recalls,
    macro_f1,
)
from kinetrack.using.pages.charts import to_svg
from kinetrack.using.pages.document import write_page
from kinetrack.using.pages.strips import Strip, draw_strip

# Of each result: a strip takes 20 to 40 KB in the page.
_MOST_CHANGED = 24


class Contender(NamedTuple):
    """A result beside the first one; of the first itself, nothing is to be told but its name."""

    name: str
    clips: Sequence[JudgedClip]
    address: str = ""
    """Where MLflow's pages show its run; may be empty."""
    difference: Difference | None = None
    changed: Sequence[tuple[JudgedClip, JudgedClip]] = ()
    """Clips that only one of the two gets right, as the first one and as this one has them."""


class PackedClips(NamedTuple):
    """Packed test clips, for pictures."""

    side: PackedSide
    geometry: ClipGeometry


class _Line(NamedTuple):
    """A result in the table."""

    contender: Contender
    accuracy: float
    interval: tuple[float, float] | None
    f1: float
    recalls: dict[str, float]


class _Change(NamedTuple):
    """A clip that only one of the two gets right."""

    before: JudgedClip
    after: JudgedClip
    strip: Strip


def write_comparison_page(
    path: Path,
    contenders: Sequence[Contender],
    *,
    notes: Sequence[str],
    packed: PackedClips | None,
) -> None:
    """Write results on the same test clips, the others beside the first.

    Args:
        notes: what a reader should know before believing the figures.
        packed: without them there are no pictures.
    """
    first, *others = contenders
    write_page(
        path,
        "comparison.html",
        first=first,
        num_clips=len({(clip.label, clip.clip) for clip in first.clips}),
        lines=[_measure(one) for one in contenders],
        others=others,
        num_groups=len({clip.group for clip in first.clips}) if are_grouped(first.clips) else None,
        labels=list(class_recalls(first.clips)),
        chart=_draw(others),
        changes=[_list_changes(one, packed) for one in others],
        notes=notes,
    )


def _measure(contender: Contender) -> _Line:
    clips = contender.clips
    interval = accuracy_interval(clips)
    return _Line(contender, accuracy(clips), interval, macro_f1(clips), class_recalls(clips))


def _draw(others: Sequence[Contender]) -> Markup:
    rows = [
        (one.name, one.difference.difference, one.difference.interval)
        for one in others
        if one.difference
    ]
    return to_svg(draw_intervals(rows), description="differences and their intervals")


def _list_changes(contender: Contender, packed: PackedClips | None) -> list[_Change]:
    pairs = contender.changed[:_MOST_CHANGED]
    return [
        _Change(before, after, _draw_strip(before, packed))
        for before, after in with_progress(pairs, total=len(pairs), description="pictures")
    ]


def _draw_strip(clip: JudgedClip, packed: PackedClips | None) -> Strip:
    if packed is None:
        return Strip([], [], problem="")
    return draw_strip(packed.side, (clip.label, clip.clip), packed.geometry)
