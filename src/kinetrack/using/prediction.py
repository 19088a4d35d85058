"""From a video file to what a network sees of it, by the same way as in training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinetrack.data.containers import VideoError
from kinetrack.data.decoding import Decoding
from kinetrack.data.frames import ExtractionReport, extract_frames
from kinetrack.data.packing import pack_window
from kinetrack.data.sampling import (
    ClipGeometry,
    is_short,
    needed_frames,
    packed_indices,
    view_starts,
)
from kinetrack.errors import InputError
from kinetrack.learning.packed_clips import View, cut_view
from kinetrack.using.scratch import scratch_folder

STALL_S = 60.0
# As many as `evaluate` takes in the presets that draw their windows.
_WINDOWS_OF_RANDOM = 5


class Prepared(NamedTuple):
    """What a network sees of a video: clips uint8 (V, 3, T, H, W), one a view."""

    clips: NDArray[np.uint8]
    num_frames: int
    """Of the whole video."""
    notes: tuple[str, ...] = ()
    """What a person should look at, as frames that are missing."""


def prepare(
    video: Path,
    *,
    decoding: Decoding,
    geometry: ClipGeometry,
    windows: int | None = None,
    stall_s: float = STALL_S,
) -> Prepared:
    """Decode a video, write its frames as JPEG, and cut out windows: all as the stages do it.

    One window is the one that `evaluate` judges by its first view. Several are spread evenly over
    the whole video. Without a number there are as many as `count_windows` tells. Frames lie in the
    system's folder for temporary files meanwhile.

    Raises:
        InputError: no video, one that gives no frame or is too short for the window, several
            windows for a network that looks at the whole clip at once, or no room.
    """
    windows = count_windows(geometry, windows)
    with scratch_folder() as scratch:
        archive = scratch / "clip.zip"
        report = decode(video, archive, decoding=decoding, stall_s=stall_s)
        geometry = _with_room(geometry, windows)
        check_length(video, geometry, report.num_frames)
        views = choose_views(geometry, report.num_frames, windows)
        clips = np.stack([cut_clip(archive, indices, geometry) for indices in views])
    return Prepared(clips, report.num_frames, report.notes)


def count_windows(geometry: ClipGeometry, asked: int | None = None) -> int:
    """Tell by how many windows a video is judged: as many as are asked for, or the model's number.

    A network that was trained on windows drawn at random has seen all parts of its videos, and is
    judged by five; any other by one.

    Raises:
        InputError: several are asked for, of a network that looks at the whole video at once; or
            none.
    """
    windows = asked
    if windows is None:
        windows = _WINDOWS_OF_RANDOM if geometry.sampling == "random" else 1
    if windows < 1:
        raise InputError("views", "is no number of views", found=windows, expected="1 or more")
    if windows > 1 and geometry.sampling == "uniform":
        problem = "looks at the whole video at once (pack.sampling uniform)"
        raise InputError("the model", problem, found=f"{windows} views", expected="1")
    return windows


def decode(
    video: Path, archive: Path, *, decoding: Decoding, stall_s: float = STALL_S
) -> ExtractionReport:
    """Write the frames of a video into an archive, encoded as those of the training were.

    Raises:
        InputError: no video, one that gives no frame, or no room.
    """
    if "\0" in str(video):  # as of `find -print0`: the system's calls raise another error
        raise InputError(video, "is no file name", expected="no zero byte in it")
    if _is_gone(video):
        raise InputError(video, "there is no such file or folder")
    try:
        return extract_frames(video, archive, **decoding.model_dump(), stall_s=stall_s)
    except VideoError as error:
        raise InputError(video, str(error)) from None


def _is_gone(video: Path) -> bool:
    try:
        video.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # too long a name, a loop of links: the decoding tells
        return False
    return False


def check_length(video: Path, geometry: ClipGeometry, num_frames: int) -> None:
    """Refuse a video of so few frames that the network was never shown the like.

    Raises:
        InputError: it is one.
    """
    if is_short(geometry, num_frames) and geometry.short_clips in ("fail", "drop"):
        expected, found = f"at least {needed_frames(geometry)}", f"{num_frames} frames"
        raise InputError(video, "is too short for this model", found=found, expected=expected)


def choose_views(geometry: ClipGeometry, num_frames: int, windows: int = 1) -> Iterator[list[int]]:
    """Name the frames of each window, of a clip that has `num_frames`."""
    indices = packed_indices(geometry, num_frames)
    for start in view_starts(len(indices), geometry.num_frames, windows):
        yield indices[start : start + geometry.num_frames]


def cut_clip(archive: Path, indices: Sequence[int], geometry: ClipGeometry) -> NDArray[np.uint8]:
    """Make the window (3, T, H, W) of these frames; only they are read."""
    packed = pack_window(archive, indices, geometry)
    clip: NDArray[np.uint8] = (
        cut_view(packed.permute(1, 2, 3, 0), geometry, View()).permute(3, 0, 1, 2).numpy()
    )
    return clip


def _with_room(geometry: ClipGeometry, windows: int) -> ClipGeometry:
    """The geometry that has the whole video to choose several windows from."""
    if windows == 1:
        return geometry
    return geometry.model_copy(update={"sampling": "random", "spare_frames": "all"})
