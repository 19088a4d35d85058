"""Who trains, who validates, who tests: from clips to sides, before anything is decoded."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from kinetrack.data.index import SIDES, Side
from kinetrack.errors import InputError
from kinetrack.splitting.sharing import share_out

Unit = Literal["group", "clip"]
# UCF101's rule: which of its 25 groups test in each of its official folds; all others train.
_UCF101_TEST_GROUPS = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}
_UCF101_GROUP = re.compile(r"0*([1-9]|1[0-9]|2[0-5])")


class GroupedClip(NamedTuple):
    """A clip as the strategies see it; `official` is one word a fold, or "" without any."""

    label: str
    clip: str
    group: str
    official: str = ""

    @property
    def place(self) -> str:
        """What names it in a message."""
        return f"{self.label}/{self.clip}"


Sides = dict[GroupedClip, Side]
UCF101_RULE = "no clip names its official side: UCF101's rule by group number is taken"


def is_by_ucf101_rule(clips: Iterable[GroupedClip]) -> bool:
    """Whether the strategy "official" has no sides of the authors to go by."""
    return not any(clip.official for clip in clips)


def split_first_groups(
    clips: Iterable[GroupedClip], *, train_groups: int, val_groups: int
) -> Sides:
    """Give each clip its side by the lecture's rule: per class, the first groups train.

    Groups are counted in the order in which the sorted clips of a class bring them up. The last
    `val_groups` of the `train_groups` validate; all groups after `train_groups` test.
    """
    places: dict[str, dict[str, int]] = {}
    sides = {}
    for clip in sorted(clips):
        groups = places.setdefault(clip.label, {})
        place = groups.setdefault(clip.group, len(groups))
        sides[clip] = _side_of_place(place, train_groups, val_groups)
    return sides


def _side_of_place(place: int, train_groups: int, val_groups: int) -> Side:
    if place >= train_groups:
        return "test"
    return "val" if place >= train_groups - val_groups else "train"


def split_officially(
    clips: Iterable[GroupedClip], *, fold: int, val_share: float, seed: int
) -> Sides:
    """Give each clip the side that the collection's authors gave it in a fold, counted from 1.

    Where no clip has an official side, UCF101's rule by group number takes its place.
    `val_share` of the clips, in whole groups, are taken out of the training ones to validate.

    Raises:
        InputError: a clip without an official side, a fold that there is not, or a `val_share`
            beside an official val side.
    """
    ordered = sorted(clips)
    if is_by_ucf101_rule(ordered):
        sides = _sides_by_number(ordered, fold)
    else:
        sides = _sides_by_words(ordered, fold)
    if val_share and "val" in sides.values():
        raise InputError(
            "split.val_share",
            "takes clips to validate where the official sides hold some",
            found=val_share,
            expected=0,
        )
    return _take_val(sides, val_share=val_share, seed=f"{seed}/{fold}", unit="group")


def _sides_by_words(clips: Collection[GroupedClip], fold: int) -> Sides:
    absent = [clip for clip in clips if not clip.official.split()]
    if absent:
        raise InputError(
            absent[0].place,
            "has no official side, as others have"
            + (f"; {len(absent)} such clips" * (len(absent) > 1)),
            expected="train, val or test in the column official of the manifest",
            remedy="give it one, or take another split.strategy",
        )
    return {clip: _word(clip, fold) for clip in clips}


def _word(clip: GroupedClip, fold: int) -> Side:
    words = clip.official.split()
    if fold > len(words):
        raise InputError(
            "split.fold",
            f"is beyond the official sides of {clip.place}",
            found=fold,
            expected=f"at most {len(words)}",
        )
    for side in SIDES:
        if words[fold - 1] == side:
            return side
    raise InputError(
        clip.place,
        "has an official side that is none",
        found=words[fold - 1],
        expected=", ".join(SIDES),
    )


def _sides_by_number(clips: Collection[GroupedClip], fold: int) -> Sides:
    if fold not in _UCF101_TEST_GROUPS:
        raise InputError(
            "split.fold",
            "is no official fold: no clip names its sides, so the three of UCF101 are left",
            found=fold,
            expected="1, 2 or 3",
        )
    tested = _UCF101_TEST_GROUPS[fold]
    return {clip: "test" if _ucf101_number(clip) in tested else "train" for clip in clips}


def _ucf101_number(clip: GroupedClip) -> int:
    match = _UCF101_GROUP.fullmatch(clip.group)
    if match is None:
        raise InputError(
            clip.place,
            "has neither an official side nor a group of UCF101",
            found=f"group {clip.group}",
            expected="a number from 1 to 25",
            remedy="name the sides in a manifest (column official), or take another split.strategy",
        )
    return int(match[1])


def split_by_ratio(
    clips: Iterable[GroupedClip], *, test_share: float, val_share: float, seed: int, unit: Unit
) -> Sides:
    """Share out whole groups so that each class has about these shares of its clips on each side.

    With the unit "clip", each clip goes by itself.
    """
    shares: dict[Side, float] = {
        "train": 1 - test_share - val_share,
        "test": test_share,
        "val": val_share,
    }
    groups = _gather(clips, unit)
    asked = {side: share for side, share in shares.items() if share}
    side_of = share_out(_count_classes(groups), asked, seed=seed)
    return _spread(groups, side_of)


def split_by_fold(
    clips: Iterable[GroupedClip], *, folds: int, fold: int, val_share: float, seed: int, unit: Unit
) -> Sides:
    """Share out whole groups among `folds` equal parts; the part `fold`, from 1, tests.

    Over all folds, each clip tests once. `val_share` of the clips are taken out of the other
    parts to validate, others in each fold.

    Raises:
        InputError: fewer groups than folds.
    """
    groups = _gather(clips, unit)
    if len(groups) < folds:
        raise InputError(
            "split.folds",
            f"is more than there are {unit}s",
            found=folds,
            expected=f"at most {len(groups)}",
        )
    part_of = share_out(
        _count_classes(groups), dict.fromkeys(range(1, folds + 1), 1 / folds), seed=seed
    )
    side_of: dict[str, Side] = {
        name: "test" if part == fold else "train" for name, part in part_of.items()
    }
    sides = _spread(groups, side_of)
    return _take_val(sides, val_share=val_share, seed=f"{seed}/{fold}", unit=unit)


def _gather(clips: Iterable[GroupedClip], unit: Unit) -> dict[str, list[GroupedClip]]:
    """The clips that go to one side as a whole, whatever their class."""
    groups: dict[str, list[GroupedClip]] = {}
    for clip in clips:
        groups.setdefault(clip.group if unit == "group" else clip.place, []).append(clip)
    return groups


def _count_classes(groups: Mapping[str, Iterable[GroupedClip]]) -> dict[str, Counter[str]]:
    return {name: Counter(clip.label for clip in clips) for name, clips in groups.items()}


def _spread(groups: Mapping[str, Iterable[GroupedClip]], side_of: Mapping[str, Side]) -> Sides:
    """From the sides of groups to those of their clips, sorted."""
    return dict(sorted((clip, side_of[name]) for name, clips in groups.items() for clip in clips))


def _take_val(sides: Sides, *, val_share: float, seed: str, unit: Unit) -> Sides:
    """Move training groups to the val side until it holds about this share of all clips."""
    training = [clip for clip, side in sides.items() if side == "train"]
    if not val_share or not training:
        return sides
    share = val_share * len(sides) / len(training)
    if share >= 1:
        raise InputError(
            "split.val_share",
            "leaves no clip to train",
            found=val_share,
            expected=f"less than {len(training) / len(sides):.3f}, the share that does not test",
        )
    groups = _gather(training, unit)
    shares: dict[Side, float] = {"train": 1 - share, "val": share}
    return sides | _spread(groups, share_out(_count_classes(groups), shares, seed=seed))


def limit_training(sides: Sides, *, max_groups: int, seed: int) -> Sides:
    """Leave out training clips, so that of each class at most `max_groups` groups train.

    The groups are drawn by the seed. With a larger `max_groups` the same ones train, and others
    beside them: a learning curve then shows what more groups give, not what other ones do.
    """
    groups: dict[str, set[str]] = {}
    for clip, side in sides.items():
        if side == "train":
            groups.setdefault(clip.label, set()).add(clip.group)
    chosen = {
        label: _draw_groups(names, label=label, seed=seed)[:max_groups]
        for label, names in groups.items()
    }
    return {
        clip: side
        for clip, side in sides.items()
        if side != "train" or clip.group in chosen[clip.label]
    }


def _draw_groups(groups: Collection[str], *, label: str, seed: int) -> list[str]:
    """The groups of a class in random order, the same on every machine."""

    def place(group: str) -> str:
        return hashlib.sha256(f"{seed}/{label}/{group}".encode()).hexdigest()

    return sorted(groups, key=place)
