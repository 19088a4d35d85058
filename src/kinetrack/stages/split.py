"""Stage `split`: give every clip a side, whole groups together, and name the dropped ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import typer
from pydantic import NonNegativeInt, PositiveInt, model_validator

from kinetrack.data.index import SIDES, FramesRow, Side, read_index, write_index
from kinetrack.data.splits import (
    DroppedRow,
    FilteredSplit,
    drop_incomplete,
    split_first_groups,
    write_pickled_list,
    write_split,
)
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder
from kinetrack.params import Section, load_section
from kinetrack.stages.door import run

SPLIT_NAME = "split.json"


class SplitParams(Section):
    """Section `split` of params.yaml."""

    strategy: Literal["first_groups"]
    """The lecture's rule: per class, the first groups train, all later ones test."""
    train_groups: PositiveInt
    """How many groups of each class are not for the test."""
    val_groups: NonNegativeInt
    """How many of those, the last ones, validate."""
    max_missing: NonNegativeInt
    """A clip that lacks more frames than this is dropped."""

    @model_validator(mode="after")
    def _leaves_training_groups(self) -> Self:
        if self.val_groups >= self.train_groups:
            raise ValueError("val_groups should be less than train_groups")
        return self


def split_clips(params: SplitParams, *, index: Path, splits: Path) -> FilteredSplit:
    """Write the split, the lecture's lists and the dropped clips; all of them or none.

    Raises:
        InputError: no usable index, a class without training clips, or an empty side.
    """
    rows = read_index(index, FramesRow, remedy="dvc repro frames")
    sides = split_first_groups(rows, train_groups=params.train_groups, val_groups=params.val_groups)
    filtered = drop_incomplete(sides, max_missing=params.max_missing)
    _check_classes(rows, filtered)
    _check_sides(filtered, index, with_val=params.val_groups > 0)
    with atomic_folder(splits) as folder:
        write_split(folder / SPLIT_NAME, filtered.kept, rule=params.model_dump())
        for side in SIDES:
            # As in the lecture: written before the filter, so they still name dropped clips.
            write_pickled_list(
                folder / f"{side}.pkl", [row.clip for row, at in sides if at == side]
            )
        write_index(folder / "dropped.csv", DroppedRow, filtered.dropped)
    return filtered


def _check_classes(rows: Sequence[FramesRow], filtered: FilteredSplit) -> None:
    trained = {row.label for row, side in filtered.kept if side == "train"}
    for label in sorted({row.label for row in rows} - trained):
        reasons = [row.reason for row in filtered.dropped if row.label == label]
        raise InputError(
            label,
            "is a class without a usable training clip",
            found=f"{len(reasons)} dropped clips"
            + (f", the first: {reasons[0]}" if reasons else ""),
            remedy="add clips, raise split.max_missing, or leave it out of frames.classes",
        )


def _check_sides(filtered: FilteredSplit, index: Path, *, with_val: bool) -> None:
    filled = {side for _, side in filtered.kept}
    wanted: tuple[Side, ...] = ("train", "val", "test") if with_val else ("train", "test")
    for side in wanted:
        if side not in filled:
            groups = len({row.group for row, _ in filtered.kept})
            raise InputError(
                index,
                f"leaves the {side} side empty",
                found=f"{groups} groups",
                remedy="lower split.train_groups below the number of groups in a class",
            )


def summarise(filtered: FilteredSplit) -> str:
    """One line on the sides, then one for each dropped clip and each class that a side lacks."""
    labels = sorted({row.label for row, _ in filtered.kept})
    lines, absent = [], []
    for side in SIDES:
        held = [row.label for row, at in filtered.kept if at == side]
        lines.append(f"{len(held)} {side}")
        if held:
            absent += [f"  {side} has no clip of {label}" for label in labels if label not in held]
    dropped = [f"  dropped {row.label}/{row.clip}: {row.reason}" for row in filtered.dropped]
    head = f"split: {', '.join(lines)} clips of {len(labels)} classes; {len(dropped)} dropped"
    return "\n".join([head, *absent, *dropped])


def main(index: Path, splits: Path) -> None:
    """Split the clips of INDEX and write the lists into the folder SPLITS."""
    params = load_section(SplitParams, "split")
    typer.echo(summarise(split_clips(params, index=index, splits=splits)))


if __name__ == "__main__":
    run("split")
