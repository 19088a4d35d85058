"""A long video as a network sees it, step by step: each window as if it were a whole clip."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.containers import VideoError
from kinetrack.data.decoding import Decoding
from kinetrack.data.frame_archives import frame_name, open_archive
from kinetrack.data.sampling import ClipGeometry, needed_frames
from kinetrack.errors import InputError, WriteError
from kinetrack.using.frame_times import FrameTimes, read_times
from kinetrack.using.prediction import (
    STALL_S,
    Prepared,
    check_length,
    choose_views,
    cut_clip,
    decode,
)
from kinetrack.using.windows import spread_windows


class Footage(NamedTuple):
    """A video's frames in an archive, when each is shown, and what a person should look at."""

    video: Path
    archive: Path
    times: FrameTimes
    notes: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Of the whole video."""
        return len(self.times.starts_s)


class Look(NamedTuple):
    """A step [start_s, end_s) of a video, and what a network sees of the window around it.

    Looks in a row at the same frames share one `prepared`. Without one, `reason` says why.
    """

    start_s: float
    end_s: float
    prepared: Prepared | None
    reason: str = ""


def decode_footage(
    video: Path, folder: Path, *, decoding: Decoding, stall_s: float = STALL_S
) -> Footage:
    """Decode a video into an archive in a folder of its own.

    Raises:
        InputError: no video, one that gives no frame, or no room.
    """
    archive = folder / "clip.zip"
    report = decode(video, archive, decoding=decoding, stall_s=stall_s)
    try:
        times, notes = read_times(video, report, gaps=decoding.gaps, stall_s=stall_s)
    except VideoError as error:
        raise InputError(video, str(error)) from None
    return Footage(video, archive, times, (*report.notes, *notes))


def look_through(
    footage: Footage, geometry: ClipGeometry, *, window_s: float, stride_s: float
) -> Iterator[Look]:
    """Cut the window of each step out, one after the other: one at a time is held in memory.

    A window is cut as if it were a whole clip. At a constant rate all windows are about equally
    long; elsewhere one may hold too few frames, and then its step has nothing to see.

    Raises:
        InputError: the video or its windows are too short for the network, or the video has far
            too many steps.
    """
    _check_windows(footage, geometry, window_s=window_s, stride_s=stride_s)
    seen, prepared, reason = range(-1), None, ""
    with open_archive(footage.archive) as zipped:
        for window in spread_windows(footage.times, window_s=window_s, stride_s=stride_s):
            if window.frames != seen:
                seen, prepared, reason = window.frames, None, _tell_short(window.frames, geometry)
                if not reason:
                    prepared = _cut(zipped, footage.archive, window.frames, geometry)
            yield Look(window.start_s, window.end_s, prepared, reason)


def _check_windows(
    footage: Footage, geometry: ClipGeometry, *, window_s: float, stride_s: float
) -> None:
    check_length(footage.video, geometry, footage.num_frames)
    windows = spread_windows(footage.times, window_s=window_s, stride_s=stride_s)
    counts = [len(window.frames) for window in windows]
    needed = _needed(geometry)
    found = min(counts) if footage.times.is_constant else max(counts)
    if found < needed:
        shortest_s = math.ceil(1000 * needed * footage.times.end_s / footage.num_frames) / 1000
        raise InputError(
            footage.video,
            f"has windows of {window_s:g} s that are too short for this model",
            found=f"{found} frames",
            expected=f"at least {needed}",
            remedy=f"a window of {shortest_s:g} s or more",
        )


def _needed(geometry: ClipGeometry) -> int:
    return needed_frames(geometry) if geometry.short_clips in ("fail", "drop") else 1


def _tell_short(frames: range, geometry: ClipGeometry) -> str:
    needed = _needed(geometry)
    if len(frames) >= needed:
        return ""
    return f"{len(frames)} frames in the window, expected at least {needed}"


def _cut(zipped: zipfile.ZipFile, archive: Path, frames: range, geometry: ClipGeometry) -> Prepared:
    """What the network sees of some frames in a row.

    It goes through an archive of those alone: a long one's list of frames takes longer to read than
    all else.
    """
    (indices,) = choose_views(geometry, len(frames))
    chosen = [frames[index] for index in indices]
    part = archive.with_name("window.zip")
    try:
        with zipfile.ZipFile(part, "w") as few:
            for name in sorted({frame_name(index + 1) for index in chosen}):
                few.writestr(name, zipped.read(name))
    except OSError as error:
        raise WriteError(
            part.parent, "has no room for a window", found=error.strerror, remedy="make room"
        ) from None
    return Prepared(cut_clip(part, chosen, geometry)[None], len(frames))
