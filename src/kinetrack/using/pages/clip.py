"""The page of one clip: what the index says of it, and a grid of its frames."""

from pathlib import Path
from typing import NamedTuple

from kinetrack.data.index import FramesRow
from kinetrack.data.overview import duration_s, spread_evenly
from kinetrack.data.thumbnails import list_repeats, read_thumbnails
from kinetrack.using.pages.document import to_address, write_page

_MOST_FRAMES = 60
_FRAME_PX = (240, 240)


class _Frame(NamedTuple):
    """A frame in the grid; `number` counts from 1."""

    number: int
    seconds: float
    image: str
    is_repeat: bool


def write_clip_page(path: Path, *, dataset: str, row: FramesRow, archive: Path) -> None:
    """Write what the index says of a clip and a grid of its frames, evenly spread.

    Raises:
        InputError: the archive cannot be read, or lacks a frame.
    """
    repeats = list_repeats(archive, num_frames=row.num_frames) if row.num_frames else set()
    write_page(
        path,
        "clip.html",
        dataset=dataset,
        row=row,
        facts={name: "" if value is None else value for name, value in row},
        seconds=duration_s(row),
        frames=_make_grid(row, archive, repeats) if row.num_frames else [],
        repeats=[place + 1 for place in sorted(repeats)],
    )


def _make_grid(row: FramesRow, archive: Path, repeats: set[int]) -> list[_Frame]:
    indices = spread_evenly(range(row.num_frames), most=_MOST_FRAMES)
    pictures = read_thumbnails(archive, indices, size_px=_FRAME_PX)
    return [
        _Frame(
            number=index + 1,
            seconds=index / row.fps if row.fps > 0 else 0.0,
            image=to_address(picture),
            is_repeat=index in repeats,
        )
        for index, picture in zip(indices, pictures, strict=True)
    ]
