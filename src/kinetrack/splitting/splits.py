"""The files of a split: which clips train, validate and test, and which were dropped."""

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import SIDES, FramesRow, Side
from kinetrack.data.names import check_name
from kinetrack.errors import InputError
from kinetrack.files import atomic_file, write_json


def _check_clip_id(clip_id: str) -> str:
    label, _, clip = clip_id.partition("/")
    return f"{check_name(label)}/{check_name(clip)}"


ClipId = Annotated[str, AfterValidator(_check_clip_id)]


class Split(BaseModel):
    """The clips of each side as `<Class>/<clip>`, and the rule that made them.

    `fingerprint` is of their frames, so that other frames under these names are found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: dict[str, Any]
    fingerprint: str
    labels: list[str]
    train: list[ClipId]
    val: list[ClipId]
    test: list[ClipId]

    def side(self, side: Side) -> list[str]:
        """The clips of one side."""
        return {"train": self.train, "val": self.val, "test": self.test}[side]


def clip_id(row: FramesRow) -> str:
    """Name of a clip that is unique in its data set."""
    return f"{row.label}/{row.clip}"


def read_split(path: Path) -> Split:
    """Read and check a split file.

    Raises:
        InputError: no such file, no split, a clip on two sides, or a name that leaves its folder.
    """
    try:
        split = Split.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        found = error if isinstance(error, OSError) else _first(error)
        raise InputError(path, "is no split", found=found, remedy="dvc repro split") from None
    counts = Counter(clip for side in SIDES for clip in split.side(side))
    twice = min((clip for clip, count in counts.items() if count > 1), default=None)
    if twice:
        raise InputError(path, f"names {twice} twice", remedy="dvc repro -f split")
    return split


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


def write_split(
    path: Path, kept: Sequence[tuple[FramesRow, Side]], *, rule: Mapping[str, object]
) -> None:
    """Write the split file that the later stages read."""
    content: dict[str, object] = {
        "rule": dict(rule),
        "fingerprint": fingerprint_split(kept),
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
