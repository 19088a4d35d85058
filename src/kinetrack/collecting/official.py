"""The train and test lists that the authors of a collection publish with it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kinetrack.collecting.collections import Plan
from kinetrack.data.index import SIDES, Side
from kinetrack.data.manifest import ManifestRow
from kinetrack.data.names import check_name
from kinetrack.errors import InputError

_LIST_NAME = re.compile(rf"({'|'.join(SIDES)})list(\d+)\.txt")
_MOST_BYTES = 50_000_000


class OfficialSides(NamedTuple):
    """Sides by `<Class>/<clip>`: one word a fold, in the order of the folds' numbers."""

    words: dict[str, str]
    folds: int


def read_official(folder: Path) -> OfficialSides:
    """Read the list files below a folder: `trainlist01.txt`, `testlist01.txt` and so on.

    A line is `<Class>/<clip>.<ext>`, with or without a class number behind it, as UCF101 has it.

    Raises:
        InputError: no list files, a list without its counterpart, a line that is no clip, a clip
            on two sides of one fold, or one that some folds do not have.
    """
    lists = _find_lists(folder)
    folds = sorted({fold for fold, _ in lists})
    sides: dict[str, dict[int, Side]] = {}
    for (fold, side), path in sorted(lists.items()):
        for clip in _read_list(path):
            if sides.setdefault(clip, {}).setdefault(fold, side) != side:
                raise InputError(path, f"names {clip}, which is on the {sides[clip][fold]} side")
    _refuse_partial(folder, sides, folds)
    words = {clip: " ".join(by_fold[fold] for fold in folds) for clip, by_fold in sides.items()}
    return OfficialSides(words, len(folds))


def _find_lists(folder: Path) -> dict[tuple[int, Side], Path]:
    lists: dict[tuple[int, Side], Path] = {}
    for path in sorted(folder.rglob("*list*.txt")):
        if match := _LIST_NAME.fullmatch(path.name):
            side = next(side for side in SIDES if side == match[1])
            earlier = lists.setdefault((int(match[2]), side), path)
            if earlier != path:
                raise InputError(path, "is a second list of its fold and side", found=earlier)
    wanted: Iterable[Side] = ("train", "test")
    for fold, _ in sorted(lists) or [(1, "train")]:
        for side in wanted:
            if (fold, side) not in lists:
                raise InputError(folder, f"holds no {side}list{fold:02}.txt")
    return lists


def _read_list(path: Path) -> Iterable[str]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(path, "is too large for a list of clips")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "cannot be read", found=error) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read_line(path, number, line)


def _read_line(path: Path, number: int, line: str) -> str:
    # A name may hold spaces: only a number at the end is the class index.
    place = re.sub(r"\s+\d+$", "", line.strip())
    label, _, name = place.partition("/")
    try:
        return f"{check_name(label)}/{check_name(PurePosixPath(check_name(name)).stem)}"
    except ValueError as error:
        raise InputError(
            path, f"line {number} is no clip: {error}", expected="<Class>/<clip>.avi"
        ) from None


def _refuse_partial(folder: Path, sides: dict[str, dict[int, Side]], folds: Sequence[int]) -> None:
    partial = sorted(clip for clip, by_fold in sides.items() if len(by_fold) < len(folds))
    if partial:
        absent = next(fold for fold in folds if fold not in sides[partial[0]])
        raise InputError(
            folder, f"names {partial[0]} in no list of fold {absent}", found=f"{len(partial)} such"
        )


class Difference(NamedTuple):
    """Clips by `<Class>/<clip>` that only the lists or only the collection have."""

    missing: list[str]
    extra: list[str]


def add_official(plan: Plan, sides: OfficialSides) -> tuple[Plan, Difference]:
    """Write the sides into the plan's manifest, and compare the clips.

    Clips of classes that the collection does not have are not counted as missing.
    """
    rows = plan.manifest or [
        ManifestRow(path=place, label=place.split("/")[0]) for _, place in plan.placements
    ]
    names = [f"{row.label}/{row.clip_name}" for row in rows]
    labels = {row.label for row in rows}
    listed = {clip for clip in sides.words if clip.split("/")[0] in labels}
    difference = Difference(sorted(listed - set(names)), sorted(set(names) - listed))
    with_sides = [
        row.model_copy(update={"official": sides.words.get(name, "")})
        for row, name in zip(rows, names, strict=True)
    ]
    return plan._replace(manifest=with_sides), difference
