import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.timing import Beat, Clock, frames_between

TICK_S = Fraction(1, 3000)
FRAME = 120  # ticks: 25 frames a second


def place_all(places: list[Fraction | int]) -> tuple[list[int], Beat]:
    """Frames at these places, counted in frames: their slots."""
    beat = Beat(ticks_per_frame=Fraction(FRAME), tick_s=TICK_S)
    return [beat.place(round(place * FRAME)) for place in places], beat


@pytest.mark.parametrize(
    ("ticks", "slots"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([5, 6, 9, 10], [0, 1, 4, 5]),
        ([-3, -2, 1], [0, 1, 4]),
        ([0, 2, 1, 3], [0, 2, 3, 4]),
        ([7, 7, 7], [0, 1, 2]),
        ([0, Fraction(14, 10), Fraction(16, 10)], [0, 1, 2]),
    ],
)
def test_a_frame_takes_the_nearest_slot_after_the_one_before(
    ticks: list[Fraction | int], slots: list[int]
) -> None:
    assert place_all(ticks)[0] == slots


@given(st.lists(st.fractions(-1000, 1000, max_denominator=1000), min_size=1))
def test_slots_rise_whatever_the_stamps_say(ticks: list[Fraction]) -> None:
    slots, _ = place_all(list(ticks))
    assert slots[0] == 0
    assert all(later > earlier for earlier, later in itertools.pairwise(slots))


@pytest.mark.parametrize(
    ("ticks", "is_variable"),
    [
        ([0], False),
        ([0, 1], False),
        (list(range(50)), False),
        ([*range(20), *range(30, 50)], False),  # a gap
        ([tick + Fraction(tick % 2, 20) for tick in range(50)], False),  # rounded stamps
        ([tick + Fraction(tick % 3, 3) for tick in range(50)], True),
        ([5 * tick for tick in range(50)], True),  # a rate that no two frames keep to
        ([tick + (-1) ** tick for tick in range(50)], False),  # jumbled
    ],
)
def test_variable_rate_is_told_from_gaps(ticks: list[Fraction | int], is_variable: bool) -> None:
    assert place_all(ticks)[1].is_variable == is_variable


@pytest.mark.parametrize(
    ("ticks", "is_jumbled"), [([0, 1, 5], False), ([0, 2, 1], True), ([0, 0, 1], True)]
)
def test_stamps_that_do_not_rise_are_jumbled(ticks: list[Fraction | int], is_jumbled: bool) -> None:
    assert place_all(ticks)[1].is_jumbled == is_jumbled


def test_times_count_from_the_first_stamp() -> None:
    clock = Clock(ticks_per_frame=Fraction(FRAME))
    times = [clock.read(stamp, shown_for=0) for stamp in [-700, -600, None, 300]]
    assert times == [0, 100, 100 + FRAME, 1000]
    assert (clock.first_stamp, clock.end) == (-700, 1000 + FRAME)


def test_end_is_that_of_the_frame_shown_last() -> None:
    clock = Clock(ticks_per_frame=Fraction(FRAME))
    clock.read(0, shown_for=900)
    clock.read(100, shown_for=200)
    assert clock.end == 900


def test_time_moves_on_where_a_tick_is_longer_than_a_frame() -> None:
    clock = Clock(ticks_per_frame=Fraction(1, 5))
    assert [clock.read(None, shown_for=0) for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("end_s", "number"),
    [(1, 25), (Fraction(999, 1000), 25), (Fraction(997, 1000), 24), (0, 0), (-1, 0)],
)
def test_only_whole_frames_fit(end_s: Fraction, number: int) -> None:
    assert frames_between(Fraction(0), Fraction(end_s), rate=Fraction(25)) == number
