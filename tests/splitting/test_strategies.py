import random
import warnings
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from kinetrack.data.index import SIDES
from kinetrack.errors import InputError
from kinetrack.splitting.strategies import (
    GroupedClip,
    Sides,
    is_by_ucf101_rule,
    limit_training,
    split_by_fold,
    split_by_ratio,
    split_first_groups,
    split_officially,
)


def clip_of(label: str, group: int | str, number: int = 1, official: str = "") -> GroupedClip:
    group = f"{group:02}" if isinstance(group, int) else group
    return GroupedClip(label, f"v_{label}_g{group}_c{number:02}", group, official)


def clips_of(label: str, groups: int, *, clips_per_group: int = 1) -> list[GroupedClip]:
    places = product(range(1, groups + 1), range(1, clips_per_group + 1))
    return [clip_of(label, group, number) for group, number in places]


def groups_on(sides: Sides, side: str) -> set[str]:
    return {clip.group for clip, at in sides.items() if at == side}


# Classes of very different sizes, groups of one class and of several, in no order.
collections = st.sets(
    st.builds(clip_of, st.sampled_from("ABC"), st.integers(1, 12), st.integers(1, 4)),
    min_size=1,
    max_size=60,
).flatmap(lambda clips: st.permutations(sorted(clips)))
group_counts = st.integers(1, 10).flatmap(
    lambda train: st.tuples(st.just(train), st.integers(0, train - 1))
)
seeds = st.integers(0, 2**63 - 1)


@st.composite
def draw_split(draw: st.DrawFn, clips: list[GroupedClip]) -> Sides:
    """Any strategy with any settings that fit the clips."""
    val_share, seed = draw(st.sampled_from([0.0, 0.15])), draw(seeds)
    match draw(st.sampled_from(["first_groups", "official", "ratio", "kfold"])):
        case "first_groups":
            train, val = draw(group_counts)
            return split_first_groups(clips, train_groups=train, val_groups=val)
        case "official":
            # So late a fold that its test groups never are all of these.
            return split_officially(clips, fold=3, val_share=val_share, seed=seed)
        case "ratio":
            return split_by_ratio(
                clips, test_share=0.2, val_share=val_share, seed=seed, unit="group"
            )
        case _:
            folds = draw(st.integers(2, 5))
            clips = clips + clips_of("D", 13 + folds)  # enough groups for the folds
            return split_by_fold(
                clips,
                folds=folds,
                fold=draw(st.integers(1, folds)),
                val_share=val_share,
                seed=seed,
                unit="group",
            )


@given(data=st.data(), clips=collections)
def test_every_clip_is_on_one_side(data: st.DataObject, clips: list[GroupedClip]) -> None:
    sides = data.draw(draw_split(clips))
    assert [clip for clip in sides if clip.label != "D"] == sorted(clips)
    assert set(sides.values()) <= set(SIDES)


@given(data=st.data(), clips=collections)
def test_no_group_of_a_class_is_on_two_sides(data: st.DataObject, clips: list[GroupedClip]) -> None:
    found = defaultdict(set)
    for clip, side in data.draw(draw_split(clips)).items():
        found[clip.label, clip.group].add(side)
    assert {len(sides) for sides in found.values()} == {1}


@given(
    clips=collections,
    seed=seeds,
    shares=st.tuples(st.floats(0.05, 0.5), st.floats(0, 0.4)),
)
def test_no_group_of_the_collection_is_on_two_sides_by_ratio(
    clips: list[GroupedClip], seed: int, shares: tuple[float, float]
) -> None:
    test_share, val_share = shares
    sides = split_by_ratio(
        clips, test_share=test_share, val_share=val_share, seed=seed, unit="group"
    )
    found = [groups_on(sides, side) for side in SIDES]
    assert sum(map(len, found)) == len(set.union(*found)) == len({clip.group for clip in clips})


@given(clips=collections, seed=seeds)
def test_each_clip_tests_in_one_fold(clips: list[GroupedClip], seed: int) -> None:
    clips = clips + clips_of("D", 3)
    tested: Counter[GroupedClip] = Counter()
    for fold in (1, 2, 3):
        sides = split_by_fold(clips, folds=3, fold=fold, val_share=0.2, seed=seed, unit="group")
        assert "test" in sides.values()
        found = [groups_on(sides, side) for side in SIDES]
        assert sum(map(len, found)) == len(set.union(*found))
        tested.update(clip for clip, side in sides.items() if side == "test")
    assert tested == Counter(set(clips))


@given(data=st.data(), clips=collections, seed=seeds)
def test_order_of_the_input_does_not_matter(
    data: st.DataObject, clips: list[GroupedClip], seed: int
) -> None:
    shuffled = data.draw(st.permutations(clips))
    for unit in ("group", "clip"):
        found = [
            split_by_ratio(order, test_share=0.2, val_share=0.15, seed=seed, unit=unit)
            for order in (clips, shuffled)
        ]
        assert list(found[0].items()) == list(found[1].items())


@given(clips=collections, seed=seeds)
def test_none_validates_that_was_not_asked_for(clips: list[GroupedClip], seed: int) -> None:
    for sides in (
        split_by_ratio(clips, test_share=0.2, val_share=0, seed=seed, unit="group"),
        split_officially(clips, fold=1, val_share=0, seed=seed),
        split_first_groups(clips, train_groups=3, val_groups=0),
    ):
        assert "val" not in sides.values()


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    seed=seeds,
    shares=st.tuples(st.floats(0.05, 0.5), st.floats(0.05, 0.4)),
)
def test_shares_of_a_class_are_met_within_its_largest_group(
    sizes: list[int], seed: int, shares: tuple[float, float]
) -> None:
    clips = [
        clip_of("A", group, number)
        for group, size in enumerate(sizes, start=1)
        for number in range(size)
    ]
    test_share, val_share = shares
    sides = split_by_ratio(
        clips, test_share=test_share, val_share=val_share, seed=seed, unit="group"
    )
    counts = Counter(sides.values())
    wanted = {"train": 1 - test_share - val_share, "val": val_share, "test": test_share}
    for side, share in wanted.items():
        assert abs(counts[side] - share * len(clips)) <= max(sizes)


def test_clips_without_groups_meet_the_shares_of_every_class() -> None:
    clips = clips_of("A", 100) + clips_of("B", 20)
    sides = split_by_ratio(clips, test_share=0.2, val_share=0.15, seed=0, unit="clip")
    counts = Counter((clip.label, side) for clip, side in sides.items())
    assert [counts["A", side] for side in SIDES] == [65, 15, 20]
    assert [counts["B", side] for side in SIDES] == [13, 3, 4]


def test_a_clip_is_of_no_official_side_unless_it_is_said() -> None:
    assert is_by_ucf101_rule([GroupedClip("A", "a", "1")])
    assert not is_by_ucf101_rule([GroupedClip("A", "a", "1"), GroupedClip("A", "b", "1", "test")])


def test_many_small_classes_do_not_add_up_to_an_empty_side() -> None:
    clips = [clip_of(f"C{label:02}", f"{label}-{group}") for label in range(40) for group in "abc"]
    sides = split_by_ratio(clips, test_share=0.2, val_share=0.15, seed=0, unit="group")
    counts = Counter(sides.values())
    assert [counts[side] for side in SIDES] == [79, 15, 26]
    assert len({clip.label for clip, side in sides.items() if side == "train"}) == 40


def test_a_group_of_several_classes_stays_whole() -> None:
    clips = clips_of("A", 10) + clips_of("B", 10)
    sides = split_by_ratio(clips, test_share=0.3, val_share=0.2, seed=0, unit="group")
    assert [len(groups_on(sides, side)) for side in SIDES] == [5, 2, 3]


def test_a_clip_by_itself_may_part_from_its_group_on_request_only() -> None:
    clips = clips_of("A", 1, clips_per_group=10)
    shares = {"test_share": 0.2, "val_share": 0.0, "seed": 0}
    together = split_by_ratio(clips, **shares, unit="group")
    assert set(together.values()) == {"train"}
    apart = split_by_ratio(clips, **shares, unit="clip")
    assert Counter(apart.values()) == {"train": 8, "test": 2}


def test_ten_seeds_give_ten_splits() -> None:
    clips = clips_of("A", 25, clips_per_group=4) + clips_of("B", 25, clips_per_group=5)
    tested = [
        groups_on(
            split_by_ratio(clips, test_share=0.2, val_share=0, seed=seed, unit="group"), "test"
        )
        for seed in range(10)
    ]
    assert len(set(map(frozenset, tested))) == 10
    assert len(set.union(*tested)) > 15


def test_a_seed_gives_the_same_split_on_every_machine() -> None:
    clips = clips_of("A", 10) + clips_of("B", 6, clips_per_group=2)
    sides = split_by_ratio(clips, test_share=0.2, val_share=0.2, seed=7, unit="group")
    assert groups_on(sides, "test") == {"02", "08"}
    assert groups_on(sides, "val") == {"04", "09"}
    sides = split_by_fold(clips, folds=3, fold=2, val_share=0.2, seed=7, unit="group")
    assert groups_on(sides, "test") == {"02", "03", "09"}
    assert groups_on(sides, "val") == {"05", "07"}
    clips = clips_of("A", 25)
    sides = split_officially(clips, fold=2, val_share=0.2, seed=7)
    assert groups_on(sides, "val") == {"02", "04", "06", "16", "22"}


def test_another_seed_validates_on_others() -> None:
    clips = clips_of("A", 25)
    found = [
        groups_on(split_officially(clips, fold=1, val_share=0.2, seed=seed), "val")
        for seed in range(10)
    ]
    assert len(set(map(frozenset, found))) == 10


def test_one_more_clip_moves_few_groups() -> None:
    clips = clips_of("A", 25, clips_per_group=5) + clips_of("B", 25, clips_per_group=4)
    settings = {"test_share": 0.2, "val_share": 0.15, "seed": 0, "unit": "group"}
    before = split_by_ratio(clips, **settings)
    after = split_by_ratio([*clips, clip_of("A", 3, 6)], **settings)
    moved = {clip.group for clip in clips if before[clip] != after[clip]}
    assert len(moved) <= 5


def test_another_fold_validates_on_others() -> None:
    clips = clips_of("A", 25, clips_per_group=2)
    folds = [
        split_by_fold(clips, folds=5, fold=fold, val_share=0.16, seed=0, unit="group")
        for fold in range(1, 6)
    ]
    assert [len(groups_on(sides, "val")) for sides in folds] == [4] * 5
    assert len(set().union(*(groups_on(sides, "val") for sides in folds))) > 10


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"split\.folds: is more than there are groups, found 4"):
        split_by_fold(clips_of("A", 3), folds=4, fold=1, val_share=0, seed=0, unit="group")


def test_as_many_folds_as_groups_leave_one_out() -> None:
    clips = clips_of("A", 3, clips_per_group=3) + clips_of("B", 4)
    for fold in range(1, 5):
        sides = split_by_fold(clips, folds=4, fold=fold, val_share=0, seed=0, unit="group")
        assert len(groups_on(sides, "test")) == 1


def draw_collection(random: random.Random) -> list[GroupedClip]:
    """Groups of one class, of several or mixed, some much larger than others."""
    most, kind = random.randint(6, 40), random.choice(["own", "shared", "mixed"])
    return [
        clip_of(label, f"{group}" if is_shared else f"{label}{group}", number)
        for label in "ABCDEFGH"[: random.randint(2, 8)]
        for group in range(random.randint(4, most))
        for is_shared in [kind == "shared" or (kind == "mixed" and random.random() < 0.3)]
        for number in range(random.randint(1, random.choice([2, 4, 7, 15])))
    ]


def mean_deviation(part_of: dict[GroupedClip, int], folds: int) -> float:
    """Clips of a class that a fold has too many or lacks, as a share of all clips."""
    counts = Counter((clip.label, part) for clip, part in part_of.items())
    sizes = Counter(clip.label for clip in part_of)
    return sum(
        abs(counts[label, fold] - size / folds)
        for label, size in sizes.items()
        for fold in range(1, folds + 1)
    ) / len(part_of)


def parts_of_sklearn(clips: list[GroupedClip], folds: int) -> dict[GroupedClip, int]:
    labels, groups = [clip.label for clip in clips], [clip.group for clip in clips]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some class has fewer clips than folds
        parts = [tested for _, tested in splitter.split(np.zeros(len(clips)), labels, groups)]
    return {clips[place]: fold for fold, tested in enumerate(parts, 1) for place in tested}


def test_classes_are_as_balanced_over_folds_as_by_sklearn() -> None:
    draws, folds = random.Random(0), 5
    ours, theirs = [], []
    for _ in range(20):
        clips = draw_collection(draws)
        part_of = {
            clip: fold
            for fold in range(1, folds + 1)
            for clip, side in split_by_fold(
                clips, folds=folds, fold=fold, val_share=0, seed=0, unit="group"
            ).items()
            if side == "test"
        }
        ours.append(mean_deviation(part_of, folds))
        theirs.append(mean_deviation(parts_of_sklearn(clips, folds), folds))
    assert np.mean(ours) <= 1.2 * np.mean(theirs)


@given(clips=collections, counts=group_counts)
def test_first_groups_train_the_next_validate_the_rest_test(
    clips: list[GroupedClip], counts: tuple[int, int]
) -> None:
    train_groups, val_groups = counts
    sides = split_first_groups(clips, train_groups=train_groups, val_groups=val_groups)
    for label in {clip.label for clip in clips}:
        groups = sorted({clip.group for clip in clips if clip.label == label})
        expected = (
            ["train"] * (train_groups - val_groups) + ["val"] * val_groups + ["test"] * len(groups)
        )
        found = {clip.group: side for clip, side in sides.items() if clip.label == label}
        assert [found[group] for group in groups] == expected[: len(groups)]


def test_first_groups_are_counted_in_each_class_and_by_appearance() -> None:
    clips = [clip_of("A", group) for group in (3, 7)] + [clip_of("B", group) for group in (1, 3, 7)]
    sides = split_first_groups(clips, train_groups=2, val_groups=0)
    assert list(sides.values()) == ["train", "train", "train", "train", "test"]


@pytest.mark.parametrize(
    ("fold", "tested"), [(1, range(1, 8)), (2, range(8, 15)), (3, range(15, 22))]
)
def test_without_official_sides_the_rule_of_ucf101_holds(fold: int, tested: range) -> None:
    sides = split_officially(clips_of("A", 25), fold=fold, val_share=0, seed=0)
    assert groups_on(sides, "test") == {f"{group:02}" for group in tested}
    assert groups_on(sides, "train") == {f"{n:02}" for n in range(1, 26)} - groups_on(sides, "test")


@pytest.mark.parametrize("group", ["26", "00", "a", "", "-1", "1.0", "\u0663", "1\n"])
def test_a_group_that_ucf101_has_not_is_named(group: str) -> None:
    clips = [*clips_of("A", 8), clip_of("B", group)]
    with pytest.raises(InputError, match=r"B/v_B.*neither an official side nor a group of UCF101"):
        split_officially(clips, fold=1, val_share=0, seed=0)


def test_a_fold_that_ucf101_has_not_is_named() -> None:
    with pytest.raises(InputError, match=r"split\.fold: is no official fold.*found 4, expected 1"):
        split_officially(clips_of("A", 25), fold=4, val_share=0, seed=0)


WORDS = [
    clip_of("A", 1, official="train test"),
    clip_of("A", 2, official="test train"),
    clip_of("B", 3, official="train train"),
]


@pytest.mark.parametrize(
    ("fold", "expected"), [(1, ["train", "test", "train"]), (2, ["test", "train", "train"])]
)
def test_an_official_side_stands_in_the_word_of_the_fold(fold: int, expected: list[str]) -> None:
    assert list(split_officially(WORDS, fold=fold, val_share=0, seed=0).values()) == expected


@pytest.mark.parametrize(
    ("clips", "fold", "val_share", "message"),
    [
        (WORDS, 3, 0, r"split\.fold: is beyond the official sides of A/v_A_g01_c01, found 3"),
        ([*WORDS, clip_of("C", 1), clip_of("C", 2)], 1, 0, r"C/v_C_g01_c01: has no .*; 2 such"),
        ([*WORDS, clip_of("C", 1, official=" ")], 1, 0, r"C/v_C_g01_c01: .* as others have, exp"),
        ([*WORDS, clip_of("C", 1)], 1, 0, r"C/v_C_g01_c01: has no official side"),
        ([*WORDS, clip_of("C", 1, official="train dev")], 2, 0, r"C/v_C_g01.*has an .*found dev"),
        ([*WORDS, clip_of("C", 1, official="val")], 1, 0.1, r"split\.val_share: takes .*pected 0$"),
        (WORDS, 1, 0.9, r"split\.val_share: leaves no clip to train.*less than 0\.667"),
        ([*WORDS, clip_of("C", 1, official="test")], 1, 0.5, r"leaves no clip .*less than 0\.500"),
    ],
)
def test_official_sides_that_do_not_fit_are_named(
    clips: list[GroupedClip], fold: int, val_share: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split_officially(clips, fold=fold, val_share=val_share, seed=0)


def test_official_sides_may_hold_val() -> None:
    sides = split_officially([*WORDS, clip_of("C", 1, official="val")], fold=1, val_share=0, seed=0)
    assert groups_on(sides, "val") == {"01"}


def test_clips_that_validate_are_taken_from_the_training_groups() -> None:
    clips = clips_of("A", 25, clips_per_group=4) + clips_of("B", 25, clips_per_group=4)
    before = split_officially(clips, fold=1, val_share=0, seed=0)
    after = split_officially(clips, fold=1, val_share=0.12, seed=0)
    assert groups_on(after, "test") == groups_on(before, "test")
    assert len(groups_on(after, "val")) == 3
    assert not groups_on(after, "val") & groups_on(after, "train")


def groups_by_class(sides: Sides) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for clip, side in sides.items():
        if side == "train":
            found[clip.label].add(clip.group)
    return found


@given(clips=collections, data=st.data(), most=st.integers(1, 13), seed=seeds)
def test_fewer_groups_train_and_nothing_else_changes(
    clips: list[GroupedClip], data: st.DataObject, most: int, seed: int
) -> None:
    sides = data.draw(draw_split(clips))
    limited = limit_training(sides, max_groups=most, seed=seed)
    assert limited.items() <= sides.items()
    for side in ("val", "test"):
        assert [at for at in limited.values() if at == side] == [
            at for at in sides.values() if at == side
        ]
    all_groups, left = groups_by_class(sides), groups_by_class(limited)
    assert {label: len(groups) for label, groups in left.items()} == {
        label: min(most, len(groups)) for label, groups in all_groups.items()
    }
    whole = [clip for clip in sides if clip.group in left[clip.label] and sides[clip] == "train"]
    assert [clip for clip, side in limited.items() if side == "train"] == whole
    more = groups_by_class(limit_training(sides, max_groups=most + 1, seed=seed))
    assert all(groups <= more[label] for label, groups in left.items())


def test_another_seed_trains_other_groups_and_another_class_its_own() -> None:
    clips = [clip for label in "AB" for clip in clips_of(label, 20)]
    sides = split_first_groups(clips, train_groups=15, val_groups=0)
    drawn = [groups_by_class(limit_training(sides, max_groups=3, seed=seed)) for seed in range(9)]
    assert len({tuple(sorted(groups["A"])) for groups in drawn}) > 5
    assert any(groups["A"] != groups["B"] for groups in drawn)


def test_the_groups_that_train_are_the_same_on_every_machine() -> None:
    sides = split_first_groups(clips_of("A", 12), train_groups=10, val_groups=0)
    limited = limit_training(sides, max_groups=4, seed=7)
    assert groups_on(limited, "train") == {"03", "05", "08", "09"}
