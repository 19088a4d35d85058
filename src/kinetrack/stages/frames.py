"""Stage `frames`: decode every clip of the chosen classes into an archive of JPEG frames."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple

import typer
from pydantic import Field, field_validator

from kinetrack.data.clips import Clip, list_clips, list_ignored
from kinetrack.data.containers import VideoError
from kinetrack.data.decoding import Decoding
from kinetrack.data.frames import (
    ExtractionReport,
    extract_frames,
    hash_video,
)
from kinetrack.data.incremental import Wanted, describe_work, update_folder
from kinetrack.data.index import INDEX_NAME, MOST_FRAMES, FramesRow, write_index
from kinetrack.data.staging import How, Record
from kinetrack.errors import InputError
from kinetrack.files import discard
from kinetrack.parallel import map_clips
from kinetrack.params import Section, load_section
from kinetrack.stages.door import run
from kinetrack.stages.earlier import Earlier, Reading, make_key, read_earlier
from kinetrack.versioning.recipes import Recipe

Status = Literal["ok", "flagged", "broken"]
# Columns of the index that come from decoding.
_FOUND = {*ExtractionReport._fields, "status", "reason"} - {"notes"}


class FramesParams(Decoding, Section):
    """Section `frames` of params.yaml."""

    classes: (
        Annotated[int, Field(ge=1, le=1_000_000)]
        | Literal["all"]
        | Annotated[list[str], Field(min_length=1)]
    )
    """How many of the sorted class names, from the front; or their list; or "all"."""
    group_pattern: str | None
    """Regular expression; its first group, searched in a file name, is the clip's group. With
    null, each clip is a group of its own."""
    on_broken: Literal["fail", "skip"]
    """What to do about a file that gives no frame: end, or go on and name it in the index."""
    max_stall_s: Annotated[float, Field(ge=0.001, le=86_400)]
    """A decoder that gets no further for so many seconds is ended, and the clip is broken. The
    length of a video does not matter."""

    @field_validator("group_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"should be a regular expression: {error}") from None
        if groups < 1:
            raise ValueError("should have a group in parentheses")
        return pattern

    @property
    def decoding(self) -> dict[str, Any]:
        """Those that the bytes of an archive depend on."""
        return self.model_dump(include=set(Decoding.model_fields))


class Extraction(NamedTuple):
    """The index of all clips, and how each archive was come by; a broken clip has none."""

    rows: list[FramesRow]
    how: list[How]


def extract_all(
    params: FramesParams, *, videos: Path, frames: Path, earlier: Earlier[FramesRow] | None = None
) -> Extraction:
    """Write an archive a clip and the index of all; what earlier runs made is not made again.

    Nothing in `frames` is touched before every archive is there.

    Raises:
        InputError: the folder of videos is not usable, a clip gives no frame and `on_broken` is
            "fail" (the first such clip is named), or there is no room.
    """
    clips = list_clips(videos, classes=params.classes, group_pattern=params.group_pattern)
    earlier = earlier or Earlier.none()
    reading = read_rows(earlier.recipe)
    with update_folder(
        frames, known=reading.learn(earlier), find_cached=earlier.find_cached
    ) as update:
        wanted = _plan(clips, earlier.recipe)
        extract = partial(_extract_clip, params=params)
        obtained = update.obtain(wanted, extract, description="frames")
        rows = [
            _to_row(clip, one.record, videos) for clip, one in zip(clips, obtained, strict=True)
        ]
        if params.on_broken == "fail":
            _refuse_broken(clips, rows)
        if earlier.memory:
            write_index(earlier.memory, FramesRow, reading.merge(earlier, rows))
        update.finish({INDEX_NAME: partial(write_index, kind=FramesRow, rows=rows)})
    return Extraction(rows, [one.how for one in obtained if one.record.md5])


def _plan(clips: Sequence[Clip], recipe: str) -> list[Wanted]:
    """An archive a clip; which one depends on the bytes of its video."""
    # Absolute: a worker on another machine has another working directory.
    located = [clip._replace(path=clip.path.absolute()) for clip in clips]
    videos = sorted({clip.path for clip in located})
    sha256_of = dict(
        zip(videos, map_clips(hash_video, videos, description="looking for changes"), strict=True)
    )
    return [
        Wanted(
            path=_archive_path(clip.label, clip.name),
            key=_key(recipe, sha256_of[clip.path], clip.path.name, clip.start_s, clip.end_s),
            source=(clip, sha256_of[clip.path]),
        )
        for clip in located
    ]


def _key(
    recipe: str, video_sha256: str, video: str, start_s: float | None, end_s: float | None
) -> str:
    # FFmpeg looks at the suffix too. A video that cannot be read has its name for a checksum.
    return make_key(recipe, video_sha256 or video, PurePath(video).suffix.lower(), start_s, end_s)


def read_rows(recipe: str) -> Reading[FramesRow]:
    """How to read a row of an index that a recipe made."""
    return Reading(
        key=lambda row: _key(recipe, row.video_sha256, row.video, row.start_s, row.end_s),
        path=lambda row: _archive_path(row.label, row.clip),
        record=lambda row: Record(row.archive_md5, row.model_dump(include=_FOUND)),
    )


def _archive_path(label: str, clip: str) -> str:
    return f"{label}/{clip}.zip"


def _extract_clip(source: tuple[Clip, str], archive: Path, *, params: FramesParams) -> Record:
    """Decode one clip; what is wrong with a broken one is recorded, and it is tried again."""
    clip, video_sha256 = source
    try:
        report = extract_frames(
            clip.path,
            archive,
            **params.decoding,
            start_s=clip.start_s,
            end_s=clip.end_s,
            stall_s=params.max_stall_s,
        )
        if report.video_sha256 != video_sha256:
            raise VideoError("changed while it was read")
        if report.num_frames > MOST_FRAMES:
            discard(archive)
            raise VideoError(f"has more than {MOST_FRAMES:,} frames: cut it into parts")
    except VideoError as error:
        return _to_record(ExtractionReport(), "broken", str(error))
    return _to_record(report, "flagged" if report.notes else "ok", "; ".join(report.notes))


def _to_record(report: ExtractionReport, status: Status, reason: str) -> Record:
    found = {**report._asdict(), "status": status, "reason": reason}
    del found["notes"]
    return Record(report.archive_md5, found)


def _to_row(clip: Clip, record: Record, videos: Path) -> FramesRow:
    return FramesRow(
        clip=clip.name,
        label=clip.label,
        group=clip.group,
        official=clip.official,
        video=clip.path.relative_to(videos).as_posix(),
        start_s=clip.start_s,
        end_s=clip.end_s,
        **record.facts,
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


def summarise(extraction: Extraction) -> str:
    """One line on what was extracted, and one for each clip that a person should look at."""
    rows = extraction.rows
    lines = [
        f"frames: {len(rows)} clips, {sum(row.num_frames for row in rows)} frames;"
        f" {describe_work(extraction.how, made='decoded')}"
    ]
    lines += [f"  {row.label}/{row.clip}: {row.reason}" for row in rows if row.status != "ok"]
    return "\n".join(lines)


def main(videos: Path, frames: Path) -> None:
    """Decode the clips below VIDEOS into frame archives below FRAMES."""
    params = load_section(FramesParams, "frames")
    recipe = Recipe(
        "frames",
        section="frames",
        settings=params.decoding,
        libraries=("av", "numpy", "pillow"),
        root=Path.cwd(),
    )
    earlier = read_earlier(recipe, frames, FramesRow, read_rows(recipe.sha256))
    extraction = extract_all(params, videos=videos, frames=frames, earlier=earlier)
    typer.echo(summarise(extraction))
    for path in list_ignored(videos, labels={row.label for row in extraction.rows}):
        typer.echo(f"  left out, no video by its name: {path}")


if __name__ == "__main__":
    run("frames")
