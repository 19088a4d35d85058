import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kinetrack.data.sampling import ClipGeometry, uniform_indices

counts = st.integers(1, 500)


@given(num_frames=counts, more=st.integers(0, 2000))
def test_long_clip_is_sampled_by_the_rule_of_the_lecture(num_frames: int, more: int) -> None:
    length = num_frames + more
    step = length // num_frames
    expected = np.arange(0, step * num_frames, step).tolist()
    assert uniform_indices(length, num_frames) == expected


@given(num_available=counts, more=st.integers(1, 500))
def test_short_clip_is_stretched_over_all_its_frames(num_available: int, more: int) -> None:
    indices = uniform_indices(num_available, num_available + more)
    assert len(indices) == num_available + more
    assert indices == sorted(indices)
    assert set(indices) == set(range(num_available))


@given(num_available=counts, more=st.integers(1, 500))
def test_stretched_frames_repeat_evenly(num_available: int, more: int) -> None:
    indices = uniform_indices(num_available, num_available + more)
    repeats = [indices.count(index) for index in range(num_available)]
    assert max(repeats) - min(repeats) <= 1


@pytest.mark.parametrize(
    ("num_available", "num_frames", "indices"),
    [
        (4, 4, [0, 1, 2, 3]),
        (9, 4, [0, 2, 4, 6]),
        (7, 4, [0, 1, 2, 3]),
        (3, 1, [0]),
        (1, 3, [0, 0, 0]),
        (2, 4, [0, 0, 1, 1]),
        (3, 4, [0, 0, 1, 2]),
    ],
)
def test_indices_by_hand(num_available: int, num_frames: int, indices: list[int]) -> None:
    assert uniform_indices(num_available, num_frames) == indices


@pytest.mark.parametrize(("num_available", "num_frames"), [(0, 4), (4, 0), (-1, 4), (4, -1)])
def test_counts_must_be_positive(num_available: int, num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"positive, got {num_available} and {num_frames}"):
        uniform_indices(num_available, num_frames)


GEOMETRY = {
    "num_frames": 32,
    "sampling": "uniform",
    "short_clips": "fail",
    "resize_px": 64,
    "size_px": 64,
}


def test_geometry_may_cut_out_all_that_is_left() -> None:
    assert ClipGeometry.model_validate(GEOMETRY).size_px == 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size_px": 65}, "size_px should be at most resize_px"),
        ({"num_frames": 0}, "greater than 0"),
        ({"num_frames": True}, "valid integer"),
        ({"num_frames": 32.0}, "valid integer"),
        ({"resize_px": -1}, "greater than 0"),
        ({"sampling": "random"}, "'uniform'"),
        ({"short_clips": "skip"}, "'stretch' or 'fail'"),
        ({"stride": 2}, "Extra inputs"),
    ],
)
def test_geometry_that_makes_no_sense_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ClipGeometry.model_validate(GEOMETRY | change)
