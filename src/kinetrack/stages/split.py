"""Stage `split`: give every clip a side, whole groups together, and name the dropped ones."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import typer
from pydantic import Field, model_validator

from kinetrack.data.index import SIDES, DroppedRow, FramesRow, Side, read_index, write_index
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder
from kinetrack.params import Section, load_section
from kinetrack.splitting.coverage import find_absent, find_shared, most_groups, refuse_untrained
from kinetrack.splitting.filters import FilteredSplit, drop_incomplete
from kinetrack.splitting.leaks import drop_leaks, find_leaks
from kinetrack.splitting.splits import clip_id, write_pickled_list, write_split
from kinetrack.splitting.strategies import (
    UCF101_RULE,
    GroupedClip,
    Sides,
    Unit,
    is_by_ucf101_rule,
    limit_training,
    split_by_fold,
    split_by_ratio,
    split_first_groups,
    split_officially,
)
from kinetrack.stages.door import run

SPLIT_NAME = "split.json"
Strategy = Literal["first_groups", "official", "ratio", "kfold"]
# What each strategy heeds, beside `leaks` and `max_missing`.
_HEEDED: dict[Strategy, tuple[str, ...]] = {
    "first_groups": ("train_groups", "val_groups"),
    "official": ("fold", "val_share", "seed"),
    "ratio": ("test_share", "val_share", "seed", "unit"),
    "kfold": ("folds", "fold", "val_share", "seed", "unit"),
}
_REMEDIES: dict[Strategy, dict[Side, str]] = {
    "first_groups": dict.fromkeys(
        SIDES,
        "lower split.train_groups below the number of groups in a class, or split.strategy: ratio",
    ),
    "official": {"val": "raise split.val_share", "test": "take another split.fold"},
    "ratio": {"val": "raise split.val_share", "test": "raise split.test_share, or add groups"},
    "kfold": {"val": "raise split.val_share", "test": "take another split.fold"},
}


class SplitParams(Section):
    """Section `split` of params.yaml.

    A key that the chosen strategy does not use must be valid all the same, and has no effect.
    """

    strategy: Strategy
    """"first_groups": the lecture's rule, per class the first groups train, all later ones test.
    "official": the sides of the collection's authors. "ratio": shares, of every class.
    "kfold": equal parts, of which one tests."""
    train_groups: Annotated[int, Field(ge=1, le=1_000_000)]
    """first_groups: how many groups of each class are not for the test."""
    val_groups: Annotated[int, Field(ge=0, le=1_000_000)]
    """first_groups: how many of those, the last ones, validate."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    """ratio: share of the clips that test."""
    val_share: Annotated[float, Field(ge=0, lt=1)]
    """official, ratio, kfold: share of all clips that validate; 0 for none."""
    folds: Annotated[int, Field(ge=2, le=1000)]
    """kfold: how many parts."""
    fold: Annotated[int, Field(ge=1, le=1000)]
    """official, kfold: which one tests, from 1."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """ratio, kfold, official with a `val_share`, max_train_groups: another seed gives another
    split."""
    unit: Unit
    """ratio, kfold: what goes to one side as a whole: "group", over all classes, or "clip"."""
    leaks: Literal["drop", "fail"]
    """What to do with equal clips, under two labels or twice: drop them by name, or end."""
    max_missing: Annotated[int, Field(ge=0, le=1_000_000)]
    """A clip that lacks more frames than this is dropped."""
    max_train_groups: Annotated[int, Field(ge=1, le=1_000_000)] | None
    """Of each class at most so many groups train, drawn by the seed; the clips of the others are
    left out. Null leaves none out. For learning curves: the val and test sides stay as they are."""

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> Self:
        if self.strategy == "first_groups" and self.val_groups >= self.train_groups:
            raise ValueError("val_groups should be less than train_groups")
        if self.strategy == "ratio" and self.test_share + self.val_share >= 1:
            raise ValueError("test_share and val_share together should be less than 1")
        if self.strategy == "kfold" and self.fold > self.folds:
            raise ValueError("fold should be at most folds")
        if self.strategy == "kfold" and self.val_share >= 1 - 1 / self.folds:
            raise ValueError("val_share should be less than 1 - 1 / folds, to leave training clips")
        if self.unit == "clip" and self.strategy in ("first_groups", "official"):
            raise ValueError(f"unit clip is for ratio and kfold, not for strategy {self.strategy}")
        return self

    @property
    def rule(self) -> dict[str, Any]:
        """The keys that have an effect."""
        heeded = {"strategy", *_HEEDED[self.strategy], "leaks", "max_missing"}
        if self.max_train_groups:
            heeded |= {"max_train_groups", "seed"}
        return self.model_dump(include=heeded)

    @property
    def takes_val(self) -> bool:
        """Whether clips are asked for that validate; official sides may hold some all the same."""
        return (self.val_groups if self.strategy == "first_groups" else self.val_share) > 0


def split_clips(params: SplitParams, *, index: Path, splits: Path) -> FilteredSplit:
    """Write the split, the lecture's lists and the dropped clips; all of them or none.

    Raises:
        InputError: no usable index, a strategy that does not fit the clips, a class without
            training clips, an empty side, or equal clips where `leaks` is "fail".
    """
    rows = read_index(index, FramesRow, remedy="dvc repro frames")
    _refuse_twice(rows, index)
    rows.sort(key=_by_name)
    clips = [_to_grouped(row) for row in rows]
    side_of = plan_split(params, clips, place=index)
    sides = [(row, side_of[clip]) for row, clip in zip(rows, clips, strict=True) if clip in side_of]
    filtered = _filter(params, sides, index)._replace(num_left_out=len(rows) - len(sides))
    with atomic_folder(splits) as folder:
        write_split(folder / SPLIT_NAME, filtered.kept, rule=params.rule)
        for side in SIDES:
            # As in the lecture: written before the filter, so they still name dropped clips.
            write_pickled_list(
                folder / f"{side}.pkl", [row.clip for row, at in sides if at == side]
            )
        write_index(folder / "dropped.csv", DroppedRow, filtered.dropped)
    return filtered


def plan_split(params: SplitParams, clips: Iterable[GroupedClip], *, place: Path | str) -> Sides:
    """Give each clip its side, before anything is decoded or dropped; `place` is for messages.

    Training clips of groups beyond `max_train_groups` have none.

    Raises:
        InputError: the strategy does not fit the clips, or leaves a class without training clips
            or a side empty.
    """
    sides = _assign(params, list(clips))
    if params.max_train_groups:
        sides = limit_training(sides, max_groups=params.max_train_groups, seed=params.seed)
    refuse_untrained({clip.label for clip in sides}, sides, reasons={})
    _refuse_empty(params, sides, place)
    return sides


def _assign(params: SplitParams, clips: Sequence[GroupedClip]) -> Sides:
    match params.strategy:
        case "first_groups":
            return split_first_groups(
                clips, train_groups=params.train_groups, val_groups=params.val_groups
            )
        case "official":
            return split_officially(
                clips, fold=params.fold, val_share=params.val_share, seed=params.seed
            )
        case "ratio":
            return split_by_ratio(
                clips,
                test_share=params.test_share,
                val_share=params.val_share,
                seed=params.seed,
                unit=params.unit,
            )
        case "kfold":
            return split_by_fold(
                clips,
                folds=params.folds,
                fold=params.fold,
                val_share=params.val_share,
                seed=params.seed,
                unit=params.unit,
            )


def _refuse_twice(rows: Sequence[FramesRow], index: Path) -> None:
    counts = Counter(map(clip_id, rows))
    twice = min((clip for clip, count in counts.items() if count > 1), default=None)
    if twice:
        raise InputError(index, f"names {twice} twice", remedy="dvc repro -f frames")


def _to_grouped(row: FramesRow) -> GroupedClip:
    return GroupedClip(row.label, row.clip, row.group, row.official)


def _by_name(row: FramesRow) -> tuple[str, str]:
    return row.label, row.clip


def _filter(
    params: SplitParams, sides: Sequence[tuple[FramesRow, Side]], index: Path
) -> FilteredSplit:
    """Take out what is incomplete, then what is there twice; check again what is left."""
    whole = drop_incomplete(sides, max_missing=params.max_missing)
    leaks = find_leaks(whole.kept)
    if leaks and params.leaks == "fail":
        raise InputError(
            index,
            "holds equal clips" + (f", {len(leaks)} such clips" * (len(leaks) > 1)),
            found=f"{leaks[0].clip} {leaks[0].reason}",
            remedy="remove all but one of them, or set split.leaks: drop",
        )
    alone = drop_leaks(whole.kept, leaks)
    dropped = sorted([*whole.dropped, *alone.dropped], key=lambda row: (row.label, row.clip))
    reasons: dict[str, list[str]] = {}
    for row in dropped:
        reasons.setdefault(row.label, []).append(row.reason)
    kept = _to_sides(alone.kept)
    refuse_untrained({row.label for row, _ in sides}, kept, reasons=reasons)
    _refuse_empty(params, kept, index)
    return FilteredSplit(alone.kept, dropped)


def _to_sides(kept: Iterable[tuple[FramesRow, Side]]) -> Sides:
    return {_to_grouped(row): side for row, side in kept}


def _refuse_empty(params: SplitParams, sides: Sides, place: Path | str) -> None:
    wanted: tuple[Side, ...] = ("val", "test") if params.takes_val else ("test",)
    for side in wanted:
        if side not in sides.values():
            raise InputError(
                place,
                f"leaves the {side} side empty",
                found=_count_units(params, sides),
                remedy=_REMEDIES[params.strategy][side],
            )


def _count_units(params: SplitParams, clips: Collection[GroupedClip]) -> str:
    if params.unit == "clip":
        return f"{len(clips)} clips"
    if params.strategy == "first_groups":
        return f"at most {most_groups(clips)} groups in a class"
    return f"{len(clips)} clips in {len({clip.group for clip in clips})} groups"


def summarise(filtered: FilteredSplit, strategy: Strategy) -> str:
    """One line on the sides, then one for each absent class, for shared groups, and each drop."""
    sides, dropped = _to_sides(filtered.kept), filtered.dropped
    counts, num_classes = Counter(sides.values()), len({clip.label for clip in sides})
    held = ", ".join(f"{counts[side]} {side}" for side in SIDES)
    lines = [f"split: {held} clips of {num_classes} classes; {len(dropped)} dropped"]
    if filtered.num_left_out:
        lines.append(f"  left out by split.max_train_groups: {filtered.num_left_out} clips")
    if strategy == "official" and is_by_ucf101_rule(sides):
        lines.append(f"  {UCF101_RULE}")
    lines += [f"  {side} has no clip of {label}" for side, label in find_absent(sides)]
    if shared := find_shared(sides):
        label, group = shared[0]
        lines.append(f"  {len(shared)} groups are on two sides, the first: {group} of {label}")
    lines += [f"  dropped {row.label}/{row.clip}: {row.reason}" for row in dropped]
    return "\n".join(lines)


def main(index: Path, splits: Path) -> None:
    """Split the clips of INDEX and write the lists into the folder SPLITS."""
    params = load_section(SplitParams, "split")
    filtered = split_clips(params, index=index, splits=splits)
    typer.echo(summarise(filtered, params.strategy))


if __name__ == "__main__":
    run("split")
