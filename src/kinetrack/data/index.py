"""The tables that stages hand on: one row a clip, checked when read."""

import csv
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
)

from kinetrack.data.names import Name, check_name
from kinetrack.errors import InputError
from kinetrack.tables import iterate_csv, write_csv

INDEX_NAME = "index.csv"
Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")

# 55 hours of video. Who reads an index makes lists as long as it says that clips are.
MOST_FRAMES = 5_000_000
FrameCount = Annotated[int, Field(ge=0, le=MOST_FRAMES)]


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


# No video is thirty years long, and milliseconds of more might be no number.
Seconds = Annotated[
    Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None,
    BeforeValidator(_blank_is_none),
]


# An index may have a row for each of 650,000 clips: what many rows have in common is checked and
# held once.
@lru_cache(maxsize=10_000)
def _check_label(label: str) -> str:
    return check_name(label)


@lru_cache(maxsize=10_000)
def _one_of_equal(text: str) -> str:
    return text


Label = Annotated[str, AfterValidator(_check_label)]
Repeated = Annotated[str, AfterValidator(_one_of_equal)]


class Row(BaseModel):
    """Base of the rows: text from a CSV is converted, unknown columns are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_post_init(self, _: object) -> None:
        """Share the list of columns: Pydantic's, for each row, takes more memory than the row."""
        object.__setattr__(self, "__pydantic_fields_set__", _columns(type(self)))


@cache
def _columns(kind: type[Row]) -> set[str]:
    return set(kind.model_fields)


class FramesRow(Row):
    """What the stage `frames` found in one clip; counts in frames, sizes in pixels.

    `video` is the path below the data set's folder, with the segment [start_s, end_s) of it that
    the clip is. `official` names the side that the collection's authors gave it, one word a fold.
    `gap_frames` are the places that the time stamps leave empty; `missing_frames` what the file
    promised beyond `num_frames`, the frames written. `archive_md5` is of their archive, as DVC has
    it. A clip is "flagged" that can be used but is not as one would expect, for the `reason`; a
    "broken" one gave no frame.
    """

    clip: Name
    label: Label
    group: str
    official: Repeated
    video: str
    start_s: Seconds
    end_s: Seconds
    container: Repeated
    codec: Repeated
    pixel_format: Repeated
    width: NonNegativeInt
    height: NonNegativeInt
    rotation_deg: int
    fps: float
    promised_frames: NonNegativeInt
    decoded_frames: NonNegativeInt
    gap_frames: NonNegativeInt
    repeated_frames: NonNegativeInt
    num_frames: FrameCount
    missing_frames: NonNegativeInt
    corrupt_frames: NonNegativeInt
    video_sha256: str
    frames_sha256: str
    archive_md5: str
    status: Literal["ok", "flagged", "broken"]
    reason: Repeated


class DroppedRow(Row):
    """A clip that no side holds, and why."""

    clip: Name
    label: Label
    side: Side
    reason: str


class TensorsRow(Row):
    """One packed clip: `num_frames` that the clip has, `packed_frames` that its tensor has.

    `video` is as in `FramesRow`. `is_short` says that it had fewer frames than the window, so that
    some repeat. `frames_sha256` is of the clip's decoded frames, `archive_md5` of their archive,
    `tensor_md5` of the tensor's file, as DVC has them.
    """

    clip: Name
    label: Label
    group: str
    video: str
    side: Side
    num_frames: FrameCount
    packed_frames: FrameCount
    is_short: bool
    frames_sha256: str
    archive_md5: str
    tensor_md5: str


def tensor_path(folder: Path, side: Side, label: str, clip: str) -> Path:
    """Where a packed clip lies below the folder of a data set."""
    return folder / side / label / f"{clip}.pt"


RowType = TypeVar("RowType", bound=Row)


def write_index(path: Path, kind: type[RowType], rows: Sequence[RowType]) -> None:
    """Write rows under the columns of `kind`."""
    write_csv(path, list(kind.model_fields), [vars(row) for row in rows])


def read_index(path: Path, kind: type[RowType], *, remedy: str) -> list[RowType]:
    """Read the rows of a table.

    Raises:
        InputError: no such file, or a row that is not of this kind; the line is named.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(path, "is empty", expected="a header", remedy=remedy)
        return [
            parse_row(kind, values, path=path, place=f"line {line}, column", remedy=remedy)
            for line, values in enumerate(iterate_csv(path), start=2)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "cannot be read", found=error, remedy=remedy) from None


def parse_row(
    kind: type[RowType], values: object, *, path: Path, place: str, remedy: str
) -> RowType:
    """Check one row; `path` and `place` are for the message, before the column's name.

    Raises:
        InputError: it is not of this kind.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        column = ".".join(str(part) for part in problem["loc"])
        reason = problem["msg"].removeprefix("Value error, ")
        raise InputError(path, f"{place} {column}: {reason}", remedy=remedy) from None
