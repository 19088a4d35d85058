"""Manifests: tables that give videos, or segments of them, a label and a group."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from kinetrack.data.index import SIDES, Row, Seconds, parse_row, read_index, write_index
from kinetrack.data.names import Name, Text, check_name
from kinetrack.errors import InputError

MANIFEST_NAME = "manifest.csv"
_REMEDY = f"columns: path, label; optional: clip, group, official, start_s, end_s ({MANIFEST_NAME})"


def check_relative(path: str) -> str:
    """Return a path that stays below its root: plain names, joined by slashes.

    Raises:
        ValueError: it is absolute, leads upwards, is hidden, or holds a name that is none.
    """
    for part in path.split("/"):
        if check_name(part).startswith("."):  # no listing takes such an entry for a video
            raise ValueError(f"{part!r} is hidden")
    return path


def check_official(sides: str) -> str:
    """Return a list of sides, one word a fold; "" where there is none.

    Raises:
        ValueError: a word is no side.
    """
    for side in sides.split():
        if side not in SIDES:
            raise ValueError(f"{side!r} is no side, expected {', '.join(SIDES)}")
    return sides


class ManifestRow(Row):
    """One clip: a video, or the segment [start_s, end_s) of it, in seconds from its first frame."""

    path: Annotated[str, AfterValidator(check_relative)]
    """Below the folder of the manifest."""
    label: Name
    clip: Name | None = None
    """Name of the clip; by default the video's, with the segment in milliseconds."""
    group: Text = ""
    """By default it is searched in the video's name."""
    official: Annotated[str, AfterValidator(check_official)] = ""
    """The side that the collection's authors gave the clip: one word, or one a fold."""
    start_s: Seconds = None
    end_s: Seconds = None

    @model_validator(mode="before")
    @classmethod
    def _take_blanks_out(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        stripped = {
            name: value.strip() if isinstance(value, str) else value
            for name, value in values.items()
        }
        return {name: value for name, value in stripped.items() if value not in ("", None)}

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end_s is not None and self.end_s <= (self.start_s or 0):
            raise ValueError(f"end_s {self.end_s} should be greater than start_s")
        return self

    @model_validator(mode="after")
    def _gives_a_name(self) -> Self:
        check_name(self.clip_name)  # with its segment it may be longer than a file's
        return self

    @property
    def clip_name(self) -> str:
        """Name of the clip."""
        if self.clip:
            return self.clip
        stem = PurePosixPath(self.path).stem
        if self.start_s is None and self.end_s is None:
            return stem
        end = "end" if self.end_s is None else _to_milliseconds(self.end_s)
        return f"{stem}_{_to_milliseconds(self.start_s or 0)}_{end}"


def _to_milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000):08d}"


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read a manifest, CSV or (by its ending) JSON: a list of objects with the same names.

    Raises:
        InputError: no such file, nothing in it, an unknown column, or a wrong value; its line or
            place is named.
    """
    if not path.is_file():  # a FIFO would block
        raise InputError(path, "is no manifest file", remedy=_REMEDY)
    is_json = path.suffix.lower() == ".json"
    rows = _read_json(path) if is_json else read_index(path, ManifestRow, remedy=_REMEDY)
    if not rows:
        raise InputError(path, "names no clip", remedy=_REMEDY)
    return rows


def _read_json(path: Path) -> list[ManifestRow]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, "cannot be read", found=error, remedy=_REMEDY) from None
    if not isinstance(values, list):
        raise InputError(path, "is no list of clips", found=type(values).__name__, remedy=_REMEDY)
    return [
        parse_row(ManifestRow, value, path=path, place=f"clip {number},", remedy=_REMEDY)
        for number, value in enumerate(values, start=1)
    ]


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    """Write a manifest as CSV."""
    write_index(path, ManifestRow, rows)
