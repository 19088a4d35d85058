import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.index import FramesRow, Side
from kinetrack.splitting.filters import drop_incomplete

from factories import frames_row


def row_of(number: int, *, status: str = "ok", missing: int = 0) -> FramesRow:
    return frames_row(f"v_A_c{number:02}", label="A", group="1", status=status, missing=missing)


@pytest.mark.parametrize(
    ("missing", "max_missing", "reason"),
    [
        (0, 0, None),
        (1, 1, None),
        (1, 0, "1 frames missing of 11"),
        (2, 1, "2 frames missing of 12"),
    ],
)
def test_clip_with_too_many_missing_frames_is_dropped_with_the_reason(
    missing: int, max_missing: int, reason: str | None
) -> None:
    row = row_of(1, missing=missing)
    filtered = drop_incomplete([(row, "val")], max_missing=max_missing)
    assert filtered.kept == ([] if reason else [(row, "val")])
    found = [(lost.clip, lost.label, lost.side, lost.reason) for lost in filtered.dropped]
    assert found == ([("v_A_c01", "A", "val", reason)] if reason else [])


def test_broken_clip_is_dropped_with_its_own_reason() -> None:
    filtered = drop_incomplete([(row_of(1, status="broken"), "train")], max_missing=99)
    assert [lost.reason for lost in filtered.dropped] == ["cannot be opened as a video"]


def test_flagged_clip_stays() -> None:
    filtered = drop_incomplete([(row_of(1, status="flagged"), "train")], max_missing=0)
    assert len(filtered.kept) == 1


@given(missing=st.lists(st.integers(0, 4), max_size=30), most=st.integers(0, 4))
def test_every_clip_is_kept_or_dropped(missing: list[int], most: int) -> None:
    sides: list[tuple[FramesRow, Side]] = [
        (row_of(number, missing=count), "train") for number, count in enumerate(missing)
    ]
    filtered = drop_incomplete(sides, max_missing=most)
    named = [row.clip for row, _ in filtered.kept] + [lost.clip for lost in filtered.dropped]
    assert sorted(named) == sorted(row.clip for row, _ in sides)
    assert all(row.missing_frames <= most for row, _ in filtered.kept)
