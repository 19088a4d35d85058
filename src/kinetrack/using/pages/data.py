"""The page of a data set: its tables, and a contact sheet of each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from kinetrack.data.index import FramesRow
from kinetrack.data.overview import (
    ClassFacts,
    GroupCount,
    Overview,
    choose_shown,
    duration_s,
    spread_evenly,
)
from kinetrack.data.thumbnails import read_thumbnails
from kinetrack.errors import InputError
from kinetrack.parallel import with_progress
from kinetrack.using.pages.document import to_address, write_page

_MOST_CLIPS_OF_CLASS = 6
# A strip takes 20 to 40 KB in the page: about 20 MB in all.
_MOST_STRIPS = 600
_FRAMES_OF_STRIP = 5
_STRIP_PX = (160, 120)
_STRIP_GAP_PX = 2
# A page of tens of thousands of rows would open slowly; the CSV files hold all.
_MOST_ROWS = 500
_MOST_GROUPS = 60


class _Strip(NamedTuple):
    """A clip on the contact sheet; `image` is the address of its picture, or empty."""

    row: FramesRow
    seconds: float
    image: str
    width: int
    height: int
    problem: str


class _Sheet(NamedTuple):
    """A class on the page."""

    facts: ClassFacts
    groups: list[GroupCount]
    strips: list[_Strip]
    broken: list[FramesRow]


def write_data_page(
    path: Path, *, dataset: str, rows: Sequence[FramesRow], overview: Overview, frames: Path
) -> None:
    """Write the tables of a data set and a contact sheet of each class.

    `frames` is the folder of the archives. A clip whose archive cannot be read is named on the
    page, without a picture.
    """
    sheets = _make_sheets(rows, overview, frames)
    write_page(
        path,
        "data.html",
        dataset=dataset,
        overview=overview,
        sheets=sheets,
        shown=sum(len(sheet.strips) for sheet in sheets),
        most_clips=max(length.clips for length in overview.lengths) if overview.lengths else 1,
        problems=overview.problems[:_MOST_ROWS],
        formats=overview.formats[:_MOST_ROWS],
        most_groups=_MOST_GROUPS,
    )


def _make_sheets(rows: Sequence[FramesRow], overview: Overview, frames: Path) -> list[_Sheet]:
    most = max(1, min(_MOST_CLIPS_OF_CLASS, _MOST_STRIPS // max(len(overview.classes), 1)))
    with_pictures = {facts.label for facts in overview.classes[:_MOST_STRIPS]}
    members: dict[str, list[FramesRow]] = {facts.label: [] for facts in overview.classes}
    for row in rows:
        members[row.label].append(row)
    groups: dict[str, list[GroupCount]] = {label: [] for label in members}
    for count in overview.groups:
        groups[count.label].append(count)
    classes = with_progress(overview.classes, total=len(overview.classes), description="pictures")
    return [
        _Sheet(
            facts=facts,
            groups=groups[facts.label],
            strips=[
                _make_strip(row, frames / row.label / f"{row.clip}.zip")
                for row in choose_shown(
                    members[facts.label], most=most if facts.label in with_pictures else 0
                )
            ],
            broken=[row for row in members[facts.label] if row.status == "broken"],
        )
        for facts in classes
    ]


def _make_strip(row: FramesRow, archive: Path) -> _Strip:
    indices = spread_evenly(range(row.num_frames), most=_FRAMES_OF_STRIP)
    try:
        picture = _join_pictures(read_thumbnails(archive, indices, size_px=_STRIP_PX))
    except InputError as error:
        return _Strip(row, duration_s(row), image="", width=0, height=0, problem=error.problem)
    return _Strip(row, duration_s(row), to_address(picture), *picture.size, problem=row.reason)


def _join_pictures(pictures: Sequence[Image.Image]) -> Image.Image:
    width = sum(picture.width + _STRIP_GAP_PX for picture in pictures) - _STRIP_GAP_PX
    strip = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + _STRIP_GAP_PX
    return strip
