"""A video in steps, and for each step the window of frames that tells what happens in it.

Nothing here opens a file. Intervals are half open, [start, end); frames count from 0.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from kinetrack.errors import InputError
from kinetrack.using.frame_times import FrameTimes

_LONGEST_S = 86_400.0
_MOST_STEPS = 100_000
# A video need not be a frame longer than a whole number of steps for a number that is no sum of
# powers of two.
_SLACK = 1e-6


class Window(NamedTuple):
    """The step [start_s, end_s) of a video, and the frames of the window around its middle."""

    start_s: float
    end_s: float
    frames: range


def check_seconds(*, window_s: float, stride_s: float) -> None:
    """Refuse lengths that no video can be divided by.

    Raises:
        InputError: one is not above 0, or of more than a day.
    """
    for name, value_s in (("window", window_s), ("stride", stride_s)):
        if not 0 < value_s <= _LONGEST_S:  # neither is NaN
            raise InputError(
                f"the {name}",
                "is no length in seconds",
                found=value_s,
                expected=f"more than 0, at most {_LONGEST_S:g}",
            )


def count_steps(end_s: float, *, stride_s: float) -> int:
    """Count the steps of a video, of which the last may be shorter.

    Raises:
        InputError: there would be more than a hundred thousand.
    """
    steps = max(math.ceil(end_s / stride_s - _SLACK), 1)
    if steps > _MOST_STEPS:
        raise InputError(
            "the stride",
            "is too short for this video",
            found=f"{steps} steps",
            expected=f"at most {_MOST_STEPS}",
            remedy=f"a stride of {end_s / _MOST_STEPS:.2g} s or more",
        )
    return steps


def spread_windows(times: FrameTimes, *, window_s: float, stride_s: float) -> Iterator[Window]:
    """Divide a video into steps of `stride_s`, each with the window around its middle.

    The window is moved inside at both ends of the video. A video that is shorter than the window
    is one window.
    """
    steps = count_steps(times.end_s, stride_s=stride_s)
    for number in range(steps):
        start_s = number * stride_s
        end_s = times.end_s if number == steps - 1 else start_s + stride_s
        yield Window(start_s, end_s, _frames_around((start_s + end_s) / 2, times, window_s))


def _frames_around(middle_s: float, times: FrameTimes, window_s: float) -> range:
    last_s = times.end_s - window_s
    if last_s <= 0:
        return range(len(times.starts_s))
    start_s = min(max(middle_s - window_s / 2, 0), last_s)
    return times.frames_within(start_s, start_s + window_s)
