"""Clips that share content: under two labels, on two sides, or twice on one side."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kinetrack.data.index import DroppedRow, FramesRow, Side
from kinetrack.splitting.filters import FilteredSplit
from kinetrack.splitting.splits import clip_id

# Of two equal clips on two sides the earlier here stays: figures on the test side stay comparable.
_STAYS_FIRST: tuple[Side, ...] = ("test", "val", "train")


class Placed(NamedTuple):
    """A clip on its side."""

    row: FramesRow
    side: Side

    def __str__(self) -> str:
        return f"{clip_id(self.row)} ({self.side})"


class Leak(NamedTuple):
    """A clip that must go; the reason names its twin, another clip that shares content with it."""

    clip: Placed
    reason: str


def find_leaks(sides: Iterable[tuple[FramesRow, Side]]) -> list[Leak]:
    """Find the clips that must go so that the others share nothing, sorted by class and name.

    Clips are equal when they have the same frames. Under two labels all of them go, since nobody
    knows which is right. On two sides the test clip stays, or else the val clip; on one side the
    first by class and name. Of segments that overlap in one file, those on two sides are treated
    so too; on one side, or under two labels there, they may well be meant.
    """
    placed = [Placed(row, side) for row, side in sides]
    contradictions = list(_find_contradictions(placed))
    gone = {leak.clip for leak in contradictions}
    rest = [clip for clip in placed if clip not in gone]
    return sorted(
        [*contradictions, *_find_twins(rest)],
        key=lambda leak: (leak.clip.row.label, leak.clip.row.clip),
    )


def drop_leaks(sides: Sequence[tuple[FramesRow, Side]], leaks: Iterable[Leak]) -> FilteredSplit:
    """Take out the clips that must go."""
    reasons = {clip_id(leak.clip.row): leak.reason for leak in leaks}
    return FilteredSplit(
        kept=[(row, side) for row, side in sides if clip_id(row) not in reasons],
        dropped=[
            DroppedRow(clip=row.clip, label=row.label, side=side, reason=reasons[clip_id(row)])
            for row, side in sides
            if clip_id(row) in reasons
        ],
    )


def _find_contradictions(placed: Sequence[Placed]) -> Iterator[Leak]:
    """Clips that another label has too."""
    first_of: dict[str, dict[str, Placed]] = {}  # frames, then label
    for clip in _in_order(placed):
        first_of.setdefault(clip.row.frames_sha256, {}).setdefault(clip.row.label, clip)
    for clip in placed:
        twins = first_of[clip.row.frames_sha256] if clip.row.frames_sha256 else {}
        others = [twin for label, twin in twins.items() if label != clip.row.label]
        if others:
            yield Leak(clip, f"{_describe(clip, others[0])}, under another label")


def _find_twins(placed: Sequence[Placed]) -> Iterator[Leak]:
    """Clips that one that stays makes superfluous."""
    staying: dict[str, Placed] = {}
    segments: dict[tuple[str, Side], list[Placed]] = {}
    for clip in _in_order(placed):
        row = clip.row
        if row.frames_sha256 and row.frames_sha256 in staying:
            yield Leak(clip, _describe(clip, staying[row.frames_sha256]))
        elif overlapped := _find_overlapped(clip, segments):
            yield Leak(clip, f"overlaps {overlapped} in the same video")
        else:
            staying[row.frames_sha256] = clip
            segments.setdefault((row.video_sha256, clip.side), []).append(clip)


def _find_overlapped(clip: Placed, segments: dict[tuple[str, Side], list[Placed]]) -> Placed | None:
    """A clip of another side that has a part of this one."""
    if not clip.row.video_sha256:
        return None
    others = [
        other
        for side in _STAYS_FIRST
        if side != clip.side
        for other in segments.get((clip.row.video_sha256, side), [])
    ]
    return next((other for other in others if _overlap(clip.row, other.row)), None)


def _in_order(placed: Iterable[Placed]) -> list[Placed]:
    """Those that stay first."""
    return sorted(
        placed, key=lambda clip: (_STAYS_FIRST.index(clip.side), clip.row.label, clip.row.clip)
    )


def _describe(clip: Placed, twin: Placed) -> str:
    is_one_file = clip.row.video_sha256 == twin.row.video_sha256
    is_one = is_one_file and _segment(clip.row) == _segment(twin.row)
    return f"{'is the same video as' if is_one else 'has the frames of'} {twin}"


def _overlap(row: FramesRow, other: FramesRow) -> bool:
    (start, end), (other_start, other_end) = _segment(row), _segment(other)
    return start < other_end and other_start < end


def _segment(row: FramesRow) -> tuple[float, float]:
    """The interval [start, end) of its video that a clip is, in seconds."""
    start = 0.0 if row.start_s is None else row.start_s
    return start, math.inf if row.end_s is None else row.end_s
