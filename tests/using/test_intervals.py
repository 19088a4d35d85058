"""The interval of an accuracy: against scipy and a slow way, and how often it holds the truth."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kinetrack.using.intervals import group_interval

CLIPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=30)


def draw_clips(seed: int, *, num_groups: int) -> tuple[list[bool], list[str]]:
    """Groups of 1 to 9 clips, each group with a difficulty of its own."""
    chance = np.random.default_rng(seed)
    sizes = chance.integers(1, 10, num_groups)
    groups = np.repeat([f"g{number}" for number in range(num_groups)], sizes)
    accuracies = np.repeat(chance.beta(2, 1, num_groups), sizes)
    return (chance.random(len(groups)) < accuracies).tolist(), groups.tolist()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_it_is_the_percentile_bootstrap_over_groups_of_scipy(seed, confidence):
    is_right, groups = draw_clips(seed, num_groups=8 + 4 * seed)
    names = sorted(set(groups))
    pairs = list(zip(groups, is_right, strict=True))
    num_right = np.array([sum(right for group, right in pairs if group == one) for one in names])
    num_clips = np.array([groups.count(one) for one in names])
    expected = stats.bootstrap(
        (num_right, num_clips),
        lambda right, clips, axis: right.sum(axis=axis) / clips.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=9999,
        confidence_level=confidence,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    found = group_interval(is_right, groups, confidence=confidence, draws=9999, seed=seed)
    assert found == pytest.approx((expected.low, expected.high), abs=0.012)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_drawing_group_by_group_gives(seed):
    is_right, groups = draw_clips(seed, num_groups=10)
    chance, names = random.Random(seed), sorted(set(groups))
    accuracies = []
    for _ in range(3000):
        drawn: list[bool] = []
        for name in chance.choices(names, k=len(names)):
            drawn += [x for x, group in zip(is_right, groups, strict=True) if group == name]
        accuracies.append(sum(drawn) / len(drawn))
    accuracies.sort()
    expected = accuracies[int(0.025 * 3000)], accuracies[int(0.975 * 3000)]
    assert group_interval(is_right, groups, draws=3000) == pytest.approx(expected, abs=0.03)


def is_covered(seed: int, *, by_group: bool) -> bool:
    chance = np.random.default_rng(seed)
    accuracies = chance.choice([0.4, 1.0], 40)  # of a group; 0.7 of all
    groups = np.repeat([str(number) for number in range(40)], 8).tolist()
    is_right = (chance.random(320) < np.repeat(accuracies, 8)).tolist()
    units = groups if by_group else [str(number) for number in range(320)]
    low, high = group_interval(is_right, units, draws=300, seed=seed)
    return low <= 0.7 <= high


def test_the_truth_is_inside_as_often_as_said():
    covered = np.mean([is_covered(seed, by_group=True) for seed in range(200)])
    assert 0.89 <= covered <= 0.99


def test_clips_taken_for_groups_would_promise_too_much():
    assert np.mean([is_covered(seed, by_group=False) for seed in range(100)]) < 0.8


@given(clips=CLIPS, order=st.randoms())
def test_bounds_are_in_order_and_do_not_depend_on_that_of_clips(clips, order):
    found = group_interval(*zip(*clips, strict=True), draws=50)
    assert 0 <= found[0] <= found[1] <= 1
    order.shuffle(clips)
    assert group_interval(*zip(*clips, strict=True), draws=50) == found


@given(clips=CLIPS)
def test_wrong_and_right_are_mirrored(clips):
    is_right, groups = zip(*clips, strict=True)
    low, high = group_interval(is_right, groups, draws=50)
    mirrored = group_interval([not right for right in is_right], groups, draws=50)
    assert mirrored == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("is_right", [[True, True], [True, False], [False, False]])
def test_one_group_says_nothing_of_others(is_right):
    assert group_interval(is_right, ["a", "a"]) == (0, 1)


@pytest.mark.parametrize("num_groups", [2, 5, 30])
def test_all_right_is_not_certain(num_groups):
    groups = [str(number) for number in range(num_groups)] * 3
    low, high = group_interval([True] * len(groups), groups)
    exact = stats.binomtest(num_groups, num_groups).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((exact.low, 1))


@pytest.mark.parametrize("num_groups", [2, 5, 30])
def test_the_same_accuracy_in_every_group_is_not_certain(num_groups):
    """Another group may be all right or all wrong, but most are as these, of 3 or 6 clips."""
    pattern = [([True, False, False], "a"), ([True, False, False] * 2, "b")]
    is_right, groups = [], []
    for number in range(num_groups):
        rights, name = pattern[number % 2]
        is_right += rights
        groups += [f"{name}{number}"] * len(rights)
    low, high = group_interval(is_right, groups)
    others = stats.binomtest(0, num_groups).proportion_ci(method="exact").high
    assert (low, high) == pytest.approx(((1 - others) / 3, 1 / 3 + others * 2 / 3))


@pytest.mark.parametrize(("is_right", "groups"), [([], []), ([True], []), ([True], ["a", "b"])])
def test_other_numbers_of_clips_than_groups_are_refused(is_right, groups):
    with pytest.raises(ValueError, match=r"clips, \d groups"):
        group_interval(is_right, groups)
