import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.errors import InputError
from kinetrack.using.frame_times import FrameTimes, constant_times
from kinetrack.using.windows import check_seconds, count_steps, spread_windows


def windows(times: FrameTimes, window_s: float, stride_s: float) -> list[tuple[object, ...]]:
    """Start and end of each step, rounded, and the first frame and the end of its window."""
    return [
        (round(start_s, 3), round(end_s, 3), frames.start, frames.stop)
        for start_s, end_s, frames in spread_windows(times, window_s=window_s, stride_s=stride_s)
    ]


@pytest.mark.parametrize(
    ("num_frames", "window_s", "stride_s", "expected"),
    [
        # At both ends the window is moved inside.
        (50, 2, 1, [(0, 1, 0, 20), (1, 2, 5, 25), (2, 3, 15, 35), (3, 4, 25, 45), (4, 5, 30, 50)]),
        # The last step is as short as it comes.
        (25, 1, 1, [(0, 1, 0, 10), (1, 2, 10, 20), (2, 2.5, 15, 25)]),
        # A video that is not longer than the window is one window.
        (12, 5, 0.5, [(0, 0.5, 0, 12), (0.5, 1, 0, 12), (1, 1.2, 0, 12)]),
        (20, 2, 2, [(0, 2, 0, 20)]),
        # Steps longer than the window: what lies between is not looked at.
        (40, 1, 2, [(0, 2, 5, 15), (2, 4, 25, 35)]),
        (1, 1, 1, [(0, 0.1, 0, 1)]),
    ],
)
def test_windows_lie_around_the_middle_of_their_steps(
    num_frames: int, window_s: float, stride_s: float, expected: list[tuple[float, ...]]
) -> None:
    assert windows(constant_times(num_frames, 10), window_s, stride_s) == expected


@given(
    num_frames=st.integers(1, 3000),
    fps=st.sampled_from([1, 12.5, 15, 24000 / 1001, 25, 30000 / 1001, 60]),
    window_s=st.floats(0.01, 20),
    stride_s=st.floats(0.05, 20),
)
def test_steps_cover_the_video_and_windows_lie_in_it(
    num_frames: int, fps: float, window_s: float, stride_s: float
) -> None:
    times = constant_times(num_frames, fps)
    found = list(spread_windows(times, window_s=window_s, stride_s=stride_s))
    assert (found[0].start_s, found[-1].end_s) == (0, times.end_s)
    for step, following in pairwise(found):
        assert step.end_s == pytest.approx(following.start_s)
        assert step.frames.start <= following.frames.start
        assert step.frames.stop <= following.frames.stop
    longest = min(window_s * fps, num_frames)
    for step in found:
        assert step.end_s > step.start_s
        assert 0 <= step.frames.start <= step.frames.stop <= num_frames
        assert math.floor(longest - 0.02) <= len(step.frames) <= math.ceil(longest + 0.02)


def test_windows_follow_the_time_stamps() -> None:
    # Ten frames a second, then a gap of two seconds, then one frame a second.
    starts_s = np.array([0, 0.1, 0.2, 0.3, 0.4, 2.5, 3.5, 4.5])
    times = FrameTimes(starts_s, end_s=5.5, fps=10, is_constant=False)
    assert windows(times, 1, 1) == [
        (0, 1, 0, 5),
        (1, 2, 5, 5),
        (2, 3, 5, 6),
        (3, 4, 6, 7),
        (4, 5, 7, 8),
        (5, 5.5, 7, 8),
    ]


@pytest.mark.parametrize("length_s", [0, -1, math.nan, math.inf, 1e300])
def test_lengths_that_divide_no_video_are_refused(length_s: float) -> None:
    with pytest.raises(InputError, match="the window: is no length in seconds, found"):
        check_seconds(window_s=length_s, stride_s=1)
    with pytest.raises(InputError, match=r"the stride: .*expected more than 0, at most 86400"):
        check_seconds(window_s=1, stride_s=length_s)


def test_far_too_many_steps_are_refused() -> None:
    assert count_steps(100_000, stride_s=1) == 100_000
    with pytest.raises(InputError, match=r"found 600000 steps.*-> a stride of 0.006 s or more"):
        count_steps(600, stride_s=0.001)


def test_whole_number_of_steps_has_no_last_crumb() -> None:
    assert count_steps(3 * 0.1, stride_s=0.1) == 3
    assert count_steps(0.31, stride_s=0.1) == 4
