"""Which clips train, which validate, which test: whole groups to one side."""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from kinetrack.data.index import SIDES, FramesRow, Row, Side, check_name
from kinetrack.errors import InputError
from kinetrack.files import atomic_file, write_json


def _check_clip_id(clip_id: str) -> str:
    label, _, clip = clip_id.partition("/")
    return f"{check_name(label)}/{check_name(clip)}"


ClipId = Annotated[str, AfterValidator(_check_clip_id)]


class Split(BaseModel):
    """The clips of each side as `<Class>/<clip>`, and the rule that made them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: dict[str, Any]
    labels: list[str]
    train: list[ClipId]
    val: list[ClipId]
    test: list[ClipId]

    def side(self, side: Side) -> list[str]:
        """The clips of one side."""
        return {"train": self.train, "val": self.val, "test": self.test}[side]


class DroppedRow(Row):
    """A clip that no side holds, and why."""

    clip: str
    label: str
    side: Side
    reason: str


class FilteredSplit(NamedTuple):
    """A split after the filter, and what the filter took out."""

    kept: list[tuple[FramesRow, Side]]
    dropped: list[DroppedRow]


def clip_id(row: FramesRow) -> str:
    """Name of a clip that is unique in its data set."""
    return f"{row.label}/{row.clip}"


def split_first_groups(
    rows: Iterable[FramesRow], *, train_groups: int, val_groups: int
) -> list[tuple[FramesRow, Side]]:
    """Give each clip its side by the lecture's rule: per class, the first groups train.

    Groups are counted in the order in which the sorted clips of a class bring them up. The last
    `val_groups` of the `train_groups` validate; all groups after `train_groups` test.
    """
    order: dict[str, list[str]] = {}
    sides = []
    for row in sorted(rows, key=lambda row: (row.label, row.clip)):
        groups = order.setdefault(row.label, [])
        if row.group not in groups:
            groups.append(row.group)
        side = _side_of_place(groups.index(row.group), train_groups, val_groups)
        sides.append((row, side))
    return sides


def _side_of_place(place: int, train_groups: int, val_groups: int) -> Side:
    if place >= train_groups:
        return "test"
    return "val" if place >= train_groups - val_groups else "train"


def drop_incomplete(sides: Sequence[tuple[FramesRow, Side]], *, max_missing: int) -> FilteredSplit:
    """Take out broken clips and those that lack more than `max_missing` frames."""
    kept, dropped = [], []
    for row, side in sides:
        reason = _reason_to_drop(row, max_missing)
        if reason:
            dropped.append(DroppedRow(clip=row.clip, label=row.label, side=side, reason=reason))
        else:
            kept.append((row, side))
    return FilteredSplit(kept=kept, dropped=dropped)


def _reason_to_drop(row: FramesRow, max_missing: int) -> str:
    if row.status == "broken":
        return row.reason
    if row.missing_frames > max_missing:
        return f"{row.missing_frames} frames missing of {row.num_frames + row.missing_frames}"
    return ""


def read_split(path: Path) -> Split:
    """Read and check a split file.

    Raises:
        InputError: no such file, no split, a clip on two sides, or a name that leaves its folder.
    """
    try:
        split = Split.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        found = str(error).splitlines()[-1] if isinstance(error, OSError) else _first(error)
        raise InputError(path, "is no split", found=found, remedy="dvc repro split") from None
    clips = [clip for side in SIDES for clip in split.side(side)]
    twice = sorted({clip for clip in clips if clips.count(clip) > 1}) if _has_twice(clips) else []
    if twice:
        raise InputError(path, f"names {twice[0]} twice", remedy="dvc repro -f split")
    return split


def _has_twice(clips: Sequence[str]) -> bool:
    return len(set(clips)) < len(clips)


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


def write_split(
    path: Path, kept: Sequence[tuple[FramesRow, Side]], *, rule: Mapping[str, object]
) -> None:
    """Write the split file that the later stages read."""
    content: dict[str, object] = {
        "rule": dict(rule),
        "labels": sorted({row.label for row, _ in kept}),
    }
    for side in SIDES:
        content[side] = [clip_id(row) for row, at in kept if at == side]
    write_json(path, content)


def write_pickled_list(path: Path, names: Sequence[str]) -> None:
    """Write a list of clip names as the lecture's scripts read it; Kinetrack never reads it."""
    with atomic_file(path) as file:
        # A fixed protocol: the default of a later Python would change the bytes.
        pickle.dump(list(names), file, protocol=4)
