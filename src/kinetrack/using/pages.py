"""HTML pages to look at the data: one file each, without a script and without the network."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
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
from kinetrack.data.thumbnails import list_repeats, read_thumbnails
from kinetrack.errors import InputError
from kinetrack.files import write_text
from kinetrack.parallel import with_progress

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_CLIPS_OF_CLASS = 6
# A strip takes 20 to 40 KB in the page: about 20 MB in all.
_MOST_STRIPS = 600
_FRAMES_OF_STRIP = 5
_STRIP_PX = (160, 120)
_STRIP_GAP_PX = 2
_MOST_FRAMES = 60
_FRAME_PX = (240, 240)
_JPEG_QUALITY = 75
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


class _Frame(NamedTuple):
    """A frame in the grid; `number` counts from 1."""

    number: int
    seconds: float
    image: str
    is_repeat: bool


def write_data_page(
    path: Path, *, dataset: str, rows: Sequence[FramesRow], overview: Overview, frames: Path
) -> None:
    """Write the tables of a data set and a contact sheet of each class.

    `frames` is the folder of the archives. A clip whose archive cannot be read is named on the
    page, without a picture.
    """
    sheets = _make_sheets(rows, overview, frames)
    _write_page(
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


def write_clip_page(path: Path, *, dataset: str, row: FramesRow, archive: Path) -> None:
    """Write what the index says of a clip and a grid of its frames, evenly spread.

    Raises:
        InputError: the archive cannot be read, or lacks a frame.
    """
    repeats = list_repeats(archive, num_frames=row.num_frames) if row.num_frames else set()
    _write_page(
        path,
        "clip.html",
        dataset=dataset,
        row=row,
        facts={name: "" if value is None else value for name, value in row},
        seconds=duration_s(row),
        frames=_make_grid(row, archive, repeats) if row.num_frames else [],
        repeats=[place + 1 for place in sorted(repeats)],
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
    return _Strip(row, duration_s(row), _to_address(picture), *picture.size, problem=row.reason)


def _join_pictures(pictures: Sequence[Image.Image]) -> Image.Image:
    width = sum(picture.width + _STRIP_GAP_PX for picture in pictures) - _STRIP_GAP_PX
    strip = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + _STRIP_GAP_PX
    return strip


def _make_grid(row: FramesRow, archive: Path, repeats: set[int]) -> list[_Frame]:
    indices = spread_evenly(range(row.num_frames), most=_MOST_FRAMES)
    pictures = read_thumbnails(archive, indices, size_px=_FRAME_PX)
    return [
        _Frame(
            number=index + 1,
            seconds=index / row.fps if row.fps > 0 else 0.0,
            image=_to_address(picture),
            is_repeat=index in repeats,
        )
        for index, picture in zip(indices, pictures, strict=True)
    ]


def _to_address(picture: Image.Image) -> str:
    """The picture itself as an address: pages need no second file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _write_page(path: Path, template: str, **values: object) -> None:
    # Names come from people's folders: every value is escaped, and a slip in a template ends here.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = _describe_duration
    write_text(path, environment.get_template(template).render(**values))


def _describe_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
