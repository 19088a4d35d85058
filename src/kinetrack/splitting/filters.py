"""Clips that no side holds: those that cannot be used as they are, each with its reason."""

from collections.abc import Sequence
from typing import NamedTuple

from kinetrack.data.index import DroppedRow, FramesRow, Side


class FilteredSplit(NamedTuple):
    """A split after a filter, and what the filter took out."""

    kept: list[tuple[FramesRow, Side]]
    dropped: list[DroppedRow]
    num_left_out: int = 0
    """Sound clips that nobody asked for."""


def drop_incomplete(sides: Sequence[tuple[FramesRow, Side]], *, max_missing: int) -> FilteredSplit:
    """Take out broken clips and those that lack more than `max_missing` frames."""
    kept, dropped = [], []
    for row, side in sides:
        reason = _reason_to_drop(row, max_missing)
        if reason:
            dropped.append(DroppedRow(clip=row.clip, label=row.label, side=side, reason=reason))
        else:
            kept.append((row, side))
    return FilteredSplit(kept=kept, dropped=dropped)


def _reason_to_drop(row: FramesRow, max_missing: int) -> str:
    if row.status == "broken":
        return row.reason
    if row.missing_frames > max_missing:
        return f"{row.missing_frames} frames missing of {row.num_frames + row.missing_frames}"
    return ""
