"""What the time stamps of a video say: when a frame is shown, and where at a constant rate.

Stamps and times are whole numbers of ticks, of the video's time base.
"""

from fractions import Fraction

# Time stamps may be rounded to a thousandth of a second, as in Matroska.
_MILLISECOND = Fraction(1, 1000)


class Clock:
    """Times since the first frame of a video; one frame apart where no stamp says."""

    def __init__(self, *, ticks_per_frame: Fraction) -> None:
        self._frame_ticks = max(round(ticks_per_frame), 1)
        self._time = -self._frame_ticks
        self.first_stamp: int | None = None
        self.end = 0

    def read(self, stamp: int | None, *, shown_for: int) -> int:
        """When the next frame is shown; `end` moves to where it ends. 0 is no `shown_for`."""
        if stamp is None:
            self._time += self._frame_ticks
        else:
            self.first_stamp = stamp if self.first_stamp is None else self.first_stamp
            self._time = stamp - self.first_stamp
        self.end = max(self.end, self._time + (shown_for or self._frame_ticks))
        return self._time


class Beat:
    """The places that frames take at a constant rate, and how well they keep to it."""

    def __init__(self, *, ticks_per_frame: Fraction, tick_s: Fraction) -> None:
        self._slots_per_tick = 1 / ticks_per_frame
        self._step_per_tick = float(self._slots_per_tick)
        self._allowed = 0.25 + float(_MILLISECOND / tick_s / ticks_per_frame)
        self._first = self._previous = 0
        self._last_slot = -1
        self._steps = self._single = self._off = 0
        self.is_jumbled = False

    def place(self, time: int) -> int:
        """The slot of the next frame, from 0: the nearest to its time, and after the one before."""
        if self._last_slot < 0:
            self._first = time
        else:
            self._count_step((time - self._previous) * self._step_per_tick)
        self._previous = time
        slot = round((time - self._first) * self._slots_per_tick)
        self._last_slot = max(slot, self._last_slot + 1)
        return self._last_slot

    def _count_step(self, step: float) -> None:
        whole = round(step)
        self._steps += 1
        self._single += whole == 1
        self._off += abs(step - whole) > self._allowed
        self.is_jumbled |= step <= 0

    @property
    def is_variable(self) -> bool:
        """Whether the rate is no constant one: many frames off the beat, or most beats empty."""
        if self.is_jumbled:  # such stamps tell the order of decoding, not times
            return False
        return self._off > 0.1 * self._steps or self._single < 0.5 * self._steps


def frames_between(start_s: Fraction, end_s: Fraction, *, rate: Fraction) -> int:
    """How many whole frames fit in between; 2 ms are allowed for rounded stamps."""
    return max(int((end_s - start_s + 2 * _MILLISECOND) * rate), 0)
