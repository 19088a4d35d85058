"""Stage `frames`: decode every clip of the chosen classes into an archive of JPEG frames."""

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from kinetrack.data.clips import Clip, list_clips, list_ignored
from kinetrack.data.containers import VideoError
from kinetrack.data.frames import ExtractionReport, Gaps, Subsampling, extract_frames
from kinetrack.data.index import INDEX_NAME, FramesRow, write_index
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder
from kinetrack.parallel import map_clips
from kinetrack.params import Section, load_section
from kinetrack.stages.door import run

Status = Literal["ok", "flagged", "broken"]


class FramesParams(Section):
    """Section `frames` of params.yaml."""

    classes: PositiveInt | Literal["all"] | Annotated[list[str], Field(min_length=1)]
    """How many of the sorted class names, from the front; or their list; or "all"."""
    group_pattern: str | None
    """Regular expression; its first group, searched in a file name, is the clip's group. With
    null, each clip is a group of its own."""
    gaps: Gaps
    """With "repeat", fill a gap in the time stamps with the frame before it, as ffmpeg does."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    """Pillow's scale; above 95 files only grow."""
    jpeg_subsampling: Subsampling
    """Resolution of the colours."""
    on_broken: Literal["fail", "skip"]
    """What to do about a file that gives no frame: end, or go on and name it in the index."""
    max_stall_s: PositiveFloat
    """A decoder that gets no further for so many seconds is ended, and the clip is broken. The
    length of a video does not matter."""

    @field_validator("group_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"should be a regular expression: {error}") from None
        if groups < 1:
            raise ValueError("should have a group in parentheses")
        return pattern


def extract_all(params: FramesParams, *, videos: Path, frames: Path) -> list[FramesRow]:
    """Write an archive a clip and the index of all; the folder appears whole or not at all.

    Raises:
        InputError: the folder of videos is not usable, or a clip gives no frame and
            `on_broken` is "fail"; the first such clip is named.
    """
    clips = list_clips(videos, classes=params.classes, group_pattern=params.group_pattern)
    with atomic_folder(frames) as folder:
        extract = partial(_extract_clip, params=params, videos=videos, folder=folder)
        rows = map_clips(extract, clips, description="frames")
        if params.on_broken == "fail":
            _refuse_broken(clips, rows)
        write_index(folder / INDEX_NAME, FramesRow, rows)
    return rows


def _extract_clip(clip: Clip, *, params: FramesParams, videos: Path, folder: Path) -> FramesRow:
    try:
        report = extract_frames(
            clip.path,
            folder / clip.label / f"{clip.name}.zip",
            gaps=params.gaps,
            jpeg_quality=params.jpeg_quality,
            jpeg_subsampling=params.jpeg_subsampling,
            start_s=clip.start_s,
            end_s=clip.end_s,
            stall_s=params.max_stall_s,
        )
    except VideoError as error:
        return _to_row(clip, ExtractionReport(), videos, status="broken", reason=str(error))
    status: Status = "flagged" if report.notes else "ok"
    return _to_row(clip, report, videos, status=status, reason="; ".join(report.notes))


def _to_row(
    clip: Clip, report: ExtractionReport, videos: Path, *, status: Status, reason: str
) -> FramesRow:
    found = report._asdict()
    del found["notes"]
    return FramesRow(
        clip=clip.name,
        label=clip.label,
        group=clip.group,
        official=clip.official,
        video=clip.path.relative_to(videos).as_posix(),
        start_s=clip.start_s,
        end_s=clip.end_s,
        **found,
        status=status,
        reason=reason,
    )


def _refuse_broken(clips: list[Clip], rows: list[FramesRow]) -> None:
    broken = [(clip, row) for clip, row in zip(clips, rows, strict=True) if row.status == "broken"]
    if broken:
        clip, row = broken[0]
        raise InputError(
            clip.path,
            row.reason,
            found=f"{len(broken)} such clips" if len(broken) > 1 else None,
            remedy="remove or replace it, or set frames.on_broken: skip",
        )


def summarise(rows: list[FramesRow]) -> str:
    """One line on what was extracted, and one for each clip that a person should look at."""
    lines = [f"frames: {len(rows)} clips, {sum(row.num_frames for row in rows)} frames"]
    lines += [f"  {row.label}/{row.clip}: {row.reason}" for row in rows if row.status != "ok"]
    return "\n".join(lines)


def main(videos: Path, frames: Path) -> None:
    """Decode the clips below VIDEOS into frame archives below FRAMES."""
    params = load_section(FramesParams, "frames")
    rows = extract_all(params, videos=videos, frames=frames)
    typer.echo(summarise(rows))
    for path in list_ignored(videos, labels={row.label for row in rows}):
        typer.echo(f"  left out, no video by its name: {path}")


if __name__ == "__main__":
    run("frames")
