"""The tables that stages hand on: one row a clip, checked when read."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from kinetrack.errors import InputError
from kinetrack.files import read_csv, write_csv

INDEX_NAME = "index.csv"
Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")


def check_name(name: str) -> str:
    """Return a class or clip name that is safe as one part of a path.

    Raises:
        ValueError: it is empty, a dot name, no UTF-8, or holds a separator or a NUL byte.
    """
    name.encode()  # bytes that are no UTF-8 come from the file system as lone surrogates
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise ValueError(f"{name!r} is no plain file name")
    return name


Name = Annotated[str, AfterValidator(check_name)]


class Row(BaseModel):
    """Base of the rows: text from a CSV is converted, unknown columns are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FramesRow(Row):
    """What the stage `frames` found in one clip; counts in frames, sizes in pixels."""

    clip: Name
    label: Name
    group: str
    width: NonNegativeInt
    height: NonNegativeInt
    fps: float
    num_frames: NonNegativeInt
    promised_frames: NonNegativeInt
    missing_frames: NonNegativeInt
    repeated_frames: NonNegativeInt
    corrupt_frames: NonNegativeInt
    status: Literal["ok", "broken"]
    reason: str


class TensorsRow(Row):
    """One packed clip; `stretched` says that it had fewer frames than the window."""

    clip: Name
    label: Name
    group: str
    side: Side
    num_frames: NonNegativeInt
    stretched: bool
    sha256: str


RowType = TypeVar("RowType", bound=Row)


def write_index(path: Path, kind: type[RowType], rows: Sequence[RowType]) -> None:
    """Write rows under the columns of `kind`."""
    write_csv(path, list(kind.model_fields), [row.model_dump() for row in rows])


def read_index(path: Path, kind: type[RowType], *, remedy: str) -> list[RowType]:
    """Read the rows of a table.

    Raises:
        InputError: no such file, or a row that is not of this kind; the line is named.
    """
    try:
        table = read_csv(path)
        if path.stat().st_size == 0:
            raise InputError(path, "is empty", expected="a header", remedy=remedy)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "cannot be read", found=error, remedy=remedy) from None
    rows = []
    for line, values in enumerate(table, start=2):
        try:
            rows.append(kind.model_validate(values))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            column = ".".join(str(part) for part in problem["loc"])
            raise InputError(
                path, f"line {line}, column {column}: {problem['msg']}", remedy=remedy
            ) from None
    return rows
