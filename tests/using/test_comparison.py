"""Two results on the same clips: against counting by hand, enumeration and scipy."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from kinetrack.using.comparison import (
    JudgedClip,
    accuracy,
    accuracy_interval,
    changed_sides,
    class_recalls,
    compare,
    differing_clips,
    macro_f1,
    mcnemar_p_value,
    parse_predictions,
    with_groups,
)
from kinetrack.using.intervals import group_interval

LABELS = ("Jump", "Run", "Walk")
# Of each clip: its group, its class, what two models say.
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(LABELS),
        st.sampled_from(LABELS),
        st.sampled_from(LABELS),
    ),
    min_size=1,
    max_size=24,
)
HEADER = b"clip,group,actual,predicted,probability,actual_probability\n"


def judged(number: int, group: str, label: str, predicted: str, *, sure: float = 0.5) -> JudgedClip:
    probability = sure if predicted == label else 1 - sure
    return JudgedClip(label, f"clip{number}", group, predicted, probability, sure)


def two_results(rows: Sequence[tuple[str, ...]]) -> tuple[list[JudgedClip], list[JudgedClip]]:
    first = [judged(number, row[0], row[1], row[2]) for number, row in enumerate(rows)]
    second = [judged(number, row[0], row[1], row[3]) for number, row in enumerate(rows)]
    return first, second


def walks(told: Sequence[str], groups: str = "") -> list[JudgedClip]:
    """Clips of one class and what was said; each its own group where none are given."""
    named = groups or [str(number) for number in range(len(told))]
    return [
        judged(number, group, "Walk", predicted)
        for number, (predicted, group) in enumerate(zip(told, named, strict=True))
    ]


@given(num_lost=st.integers(0, 40), num_won=st.integers(0, 40))
def test_the_p_value_is_that_of_all_tosses_that_are_at_most_as_likely(num_lost, num_won):
    tosses = num_lost + num_won
    likely = [comb(tosses, heads) for heads in range(tosses + 1)]
    expected = Fraction(sum(one for one in likely if one <= likely[num_won]), 2**tosses)
    assert mcnemar_p_value(num_lost, num_won) == pytest.approx(float(expected))


def test_the_p_value_is_that_of_statistics_books():
    # Clips won and lost 9 : 1, of any number that both tell right or wrong.
    assert mcnemar_p_value(1, 9) == pytest.approx(22 / 1024)


@given(rows=ROWS)
@settings(max_examples=25)
def test_figures_are_those_counted_by_hand(rows):
    first, second = two_results(rows)
    found = compare(first, second)
    right = [(one == label, other == label) for _, label, one, other in rows]
    share = [Fraction(sum(pair[side] for pair in right), len(rows)) for side in (0, 1)]
    assert found.accuracies == pytest.approx(tuple(map(float, share)))
    assert found.difference == pytest.approx(float(share[1] - share[0]))
    assert (found.num_lost, found.num_won) == (
        right.count((True, False)),
        right.count((False, True)),
    )
    expected = f1_by_hand([row[1] for row in rows], [row[3] for row in rows]) - f1_by_hand(
        [row[1] for row in rows], [row[2] for row in rows]
    )
    assert found.f1_difference == pytest.approx(expected)
    clips = Counter(row[1] for row in rows)
    for label, difference in found.recall_differences.items():
        gained = [(row[3] == label) - (row[2] == label) for row in rows if row[1] == label]
        assert difference == pytest.approx(sum(gained) / clips[label])
    assert list(found.recall_differences) == sorted(clips)


def f1_by_hand(actual: Sequence[str], predicted: Sequence[str]) -> float:
    scores = []
    for label in {*actual, *predicted}:
        both = sum(a == p == label for a, p in zip(actual, predicted, strict=True))
        scores.append(2 * both / (actual.count(label) + predicted.count(label)))
    return sum(scores) / len(scores)


def gains_by_group(first: Sequence[JudgedClip], second: Sequence[JudgedClip]) -> np.ndarray:
    """What the second one wins in each group, and the clips of each (2, G)."""
    gains, clips = Counter[str](), Counter[str]()
    for one, other in zip(first, second, strict=True):
        gains[one.group] += other.is_right - one.is_right
        clips[one.group] += 1
    return np.array([[gains[group] for group in clips], list(clips.values())])


@given(rows=ROWS)
@settings(max_examples=30)
def test_the_interval_cuts_off_a_fortieth_of_all_possible_draws_of_groups(rows):
    first, second = two_results(rows)
    gains, clips = gains_by_group(first, second)
    assume(len(gains) > 1)
    assume(any(a.is_right != b.is_right for a, b in zip(first, second, strict=True)))
    assume(abs(gains.sum()) < clips.sum())
    draws = [list(draw) for draw in product(range(len(gains)), repeat=len(gains))]
    differences = np.array([gains[draw].sum() / clips[draw].sum() for draw in draws])
    found = compare(first, second).interval
    assert found is not None
    for low, values in ((found[0], differences), (-found[1], -differences)):
        # 2,000 of these draws by chance: four deviations of the share are 0.014.
        assert np.mean(values < low - 1e-9) <= 0.025 + 0.014
        assert np.mean(values <= low + 1e-9) >= 0.025 - 0.014


def draw_results(seed: int, *, num_groups: int) -> tuple[list[JudgedClip], list[JudgedClip]]:
    """Two models of equal accuracy, but groups where the one or the other is better."""
    chance = np.random.default_rng(seed)
    rows = []
    for group in range(num_groups):
        gain = chance.choice([-0.4, 0.0, 0.4])
        for _ in range(chance.integers(4, 12)):
            told = [
                "Walk" if chance.random() < 0.6 + side * gain / 2 else "Run" for side in (-1, 1)
            ]
            rows.append((f"g{group}", "Walk", *told))
    return two_results(rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_the_paired_percentile_bootstrap_of_scipy(seed):
    first, second = draw_results(seed, num_groups=12 + 6 * seed)
    expected = stats.bootstrap(
        tuple(gains_by_group(first, second)),
        lambda gains, clips, axis: gains.sum(axis=axis) / clips.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=9999,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    found = compare(first, second).interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


@pytest.mark.slow
def test_no_difference_is_inside_almost_as_often_as_said_and_p_values_promise_too_much():
    covered, are_small = [], []
    for seed in range(200):
        found = compare(*draw_results(seed, num_groups=20))
        low, high = found.interval or (1, 1)
        covered.append(low <= 0 <= high)
        are_small.append(found.p_value < 0.05)
    # Of 4,000 pairs 0.93 and 0.19; three deviations of a share of 200 are 0.055 and 0.085.
    assert 0.875 <= np.mean(covered) <= 0.985
    assert np.mean(are_small) > 0.105


def test_a_pair_of_results_is_closer_than_two_intervals_say():
    """Both are wrong on the same hard clips, so one more right clip is seen."""
    first = walks(["Walk"] * 20 + ["Run"] * 20)
    second = walks(["Walk"] * 30 + ["Run"] * 10)
    low, high = compare(first, second).interval or (0, 0)
    assert 0 < low < 0.25 < high
    alone, other = accuracy_interval(first), accuracy_interval(second)
    assert alone is not None
    assert other is not None
    assert other[0] < alone[1]


def test_equal_predictions_are_no_difference_and_yet_not_certain():
    clips = walks(["Walk", "Run"] * 5)
    found = compare(clips, clips)
    assert (found.difference, found.p_value, found.num_lost, found.num_won) == (0, 1, 0, 0)
    assert (found.f1_difference, found.recall_differences) == (0, {"Walk": 0})
    bound = stats.binomtest(0, 10).proportion_ci(method="exact").high
    assert found.interval == pytest.approx((-bound, bound))
    assert changed_sides(clips, clips) == []


def test_all_changed_is_the_largest_difference_and_not_certain():
    first, second = walks(["Run"] * 10), walks(["Walk"] * 10)
    found = compare(first, second)
    assert (found.difference, found.num_lost, found.num_won) == (1, 0, 10)
    assert found.p_value == pytest.approx(2 / 1024)
    low, high = found.interval or (0, 0)
    assert high == 1
    assert 0 < low < 1
    assert compare(second, first).interval == pytest.approx((-1, -low))


def test_one_group_says_nothing_of_others():
    assert compare(walks(["Run", "Walk"], "aa"), walks(["Walk", "Walk"], "aa")).interval == (-1, 1)


def test_the_same_gain_in_every_group_is_not_certain():
    first = walks(["Walk", "Run"] * 3, "aabbcc")
    low, high = compare(first, walks(["Walk"] * 6, "aabbcc")).interval or (0, 0)
    others = stats.binomtest(0, 3).proportion_ci(method="exact").high  # the share of other groups
    assert (low, high) == pytest.approx((0.5 - 1.5 * others, 0.5 + 0.5 * others))


def test_clips_that_win_together_are_one_win_to_the_interval_alone():
    told = ["Walk"] * 8 + ["Run"] * 8
    groups = "aaaaaaaabbbbbbbb"
    found = compare(walks(["Run"] * 16, groups), walks(told, groups))
    assert found.p_value < 0.01
    assert (found.interval or (1, 1))[0] == 0


def test_without_groups_there_is_no_interval():
    first, second = two_results([("", "Walk", "Run", "Walk"), ("a", "Walk", "Walk", "Walk")])
    assert compare(first, second).interval is None
    assert accuracy_interval(first) is None


@given(rows=ROWS, order=st.randoms())
@settings(max_examples=15)
def test_it_neither_depends_on_the_order_of_clips_nor_changes_when_turned_round(rows, order):
    first, second = two_results(rows)
    found = compare(first, second)
    turned = compare(second, first)
    assert turned.p_value == found.p_value
    assert turned.difference == -found.difference
    assert turned.f1_difference == -found.f1_difference
    low, high = found.interval or (0, 0)
    assert turned.interval == pytest.approx((-high, -low), abs=0.02)
    order.shuffle(first)
    order.shuffle(second)
    assert compare(first, second) == found


@given(rows=ROWS)
@settings(max_examples=25)
def test_single_figures_are_those_of_the_comparison(rows):
    first, second = two_results(rows)
    found = compare(first, second)
    assert (accuracy(first), accuracy(second)) == found.accuracies
    assert macro_f1(second) - macro_f1(first) == found.f1_difference
    assert class_recalls(first).keys() == found.recall_differences.keys()
    rights = [one.is_right for one in first]
    assert accuracy_interval(first) == group_interval(rights, [one.group for one in first])


@given(rows=ROWS)
@settings(max_examples=25)
def test_clips_that_changed_sides_are_the_won_and_the_lost(rows):
    first, second = two_results(rows)
    found, changed = compare(first, second), changed_sides(first, second)
    assert Counter(one.is_right for one, _ in changed) == Counter(
        {True: found.num_lost, False: found.num_won}
    )
    for one, other in changed:
        assert one.key == other.key
        assert one.is_right != other.is_right


def test_the_clips_that_changed_most_come_first_with_both_probabilities():
    first = [judged(0, "a", "Walk", "Walk", sure=0.6), judged(1, "a", "Walk", "Walk", sure=0.9)]
    second = [judged(0, "a", "Walk", "Run", sure=0.4), judged(1, "a", "Walk", "Run", sure=0.1)]
    found = [
        (one.clip, one.actual_probability, other.actual_probability)
        for one, other in changed_sides(first, second)
    ]
    assert found == [("clip1", 0.9, 0.1), ("clip0", 0.6, 0.4)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (judged(1, "a", "Walk", "Run"), []),
        (judged(1, "", "Walk", "Run"), []),
        (judged(1, "b", "Walk", "Walk"), ["Walk/clip1"]),
        (judged(1, "a", "Run", "Walk"), ["Run/clip1", "Walk/clip1"]),
        (judged(2, "a", "Walk", "Walk"), ["Walk/clip1", "Walk/clip2"]),
        (None, ["Walk/clip1"]),
    ],
)
def test_clips_with_another_name_class_or_group_differ(other, expected):
    first = [judged(0, "a", "Walk", "Walk"), judged(1, "a", "Walk", "Walk")]
    second = [first[0], *([other] if other else [])]
    assert differing_clips(first, second) == expected
    assert differing_clips(second, first) == expected
    if expected:
        for function in (compare, changed_sides, with_groups):
            with pytest.raises(ValueError, match=f"not the same clips: {expected[0]}"):
                function(first, second)


def test_groups_are_taken_over_by_clip():
    known = [judged(0, "a", "Walk", "Run"), judged(1, "b", "Run", "Run")]
    told = [judged(0, "", "Walk", "Walk"), judged(1, "", "Run", "Walk")]
    found = {one.name: (one.group, one.predicted) for one in with_groups(told, known)}
    assert found == {"Walk/clip0": ("a", "Walk"), "Run/clip1": ("b", "Walk")}


def test_predictions_are_read_by_the_names_of_their_columns():
    content = (
        "\ufeffrank,actual_probability,predicted,probability,group,clip,p_Run,actual\n"
        '2,0.25,Run,0.5,g1,"b, c",0.5,Walk\n'
        "1,0.75,Walk,0.75,,a,0.1,Walk\n"
        "1,1,Run,1,g1,a,0,Run\n"
    ).encode()
    assert parse_predictions(content) == [
        JudgedClip("Run", "a", "g1", "Run", 1, 1),
        JudgedClip("Walk", "a", "", "Walk", 0.75, 0.75),
        JudgedClip("Walk", "b, c", "g1", "Run", 0.5, 0.25),
    ]


def test_an_older_table_has_no_groups():
    content = b"clip,actual,predicted,probability,actual_probability\na,Walk,Walk,1,1\n"
    assert [one.group for one in parse_predictions(content)] == [""]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it holds no clip"),
        (HEADER, "it holds no clip"),
        (b"\xff\xfe", "can't decode"),
        (b'a\n"' + b"x" * 200_000, "field larger than field limit"),
        (b"clip,actual\na,Walk\n", "a row has no predicted"),
        (HEADER + b"a,1,Walk\n", "a row has no predicted"),
        (HEADER + b",1,Walk,Walk,1,1\n", "a row has no clip"),
        (HEADER + b"a,1,Walk,Walk,much,1\n", "could not convert string to float"),
        (HEADER + b"a,1,Walk,Walk,1,nan\n", "actual_probability nan is not between 0 and 1"),
        (HEADER + b"a,1,Walk,Walk,1.5,1\n", "probability 1.5 is not between 0 and 1"),
        (HEADER + b"a,1,Walk,Run,1,0\n" * 2, "clip Walk/a stands there twice"),
    ],
)
def test_what_is_no_table_of_predictions_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        parse_predictions(content)
