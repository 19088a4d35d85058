"""When each frame of a decoded video is shown."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinetrack.data.decoding import Gaps
from kinetrack.data.frames import ExtractionReport
from kinetrack.data.video import decode_isolated, open_video

# So much before its time a frame belongs to a part of a video, as to a segment of `frames`.
EARLY_S = 0.0005
_VARIABLE = "variable frame rate"  # so `extract_frames` notes it


class FrameTimes(NamedTuple):
    """When the frames of a video are shown, in seconds from its first one.

    `starts_s` (T,) never steps back; the last frame ends at `end_s`. With `is_constant`, frame
    number i is shown at i / `fps`.
    """

    starts_s: NDArray[np.float64]
    end_s: float
    fps: float
    is_constant: bool

    def frames_within(self, start_s: float, end_s: float) -> range:
        """Name the frames whose time lies in [start_s, end_s)."""
        first, stop = np.searchsorted(self.starts_s, [start_s - EARLY_S, end_s - EARLY_S])
        return range(int(first), int(stop))


def constant_times(num_frames: int, fps: float) -> FrameTimes:
    """The times of frames that come at a constant rate."""
    return FrameTimes(np.arange(num_frames) / fps, num_frames / fps, fps, is_constant=True)


def read_times(
    video: Path, report: ExtractionReport, *, gaps: Gaps, stall_s: float
) -> tuple[FrameTimes, tuple[str, ...]]:
    """Tell when the frames of a video are shown that was decoded with this report.

    They come at the constant rate that the file states. Where they leave gaps or keep to no rate,
    their time stamps tell, unless these step back; for that the video is decoded once more. Frames
    that were repeated to fill gaps (`gaps`) make the rate constant.

    Returns:
        The times, and a note where the rate is no constant one and yet is taken for one.

    Raises:
        VideoError: the file cannot be read any more.
    """
    is_variable = _VARIABLE in report.notes
    reads_stamps = gaps == "keep" and (is_variable or report.gap_frames > 0)
    fps, starts, end_s = decode_isolated(_read, video, reads_stamps, stall_s=stall_s)
    if reads_stamps and len(starts) == report.num_frames and np.all(np.diff(starts) >= 0):
        return FrameTimes(np.array(starts), end_s, fps, is_constant=False), ()
    note = f"times are those of a constant {fps:.5g} frames a second"
    return constant_times(report.num_frames, fps), (note,) if is_variable else ()


def _read(video: Path, reads_stamps: bool) -> tuple[float, list[float], float]:
    """Frames a second, the time stamp of each frame where asked for, and the end of the last."""
    with open_video(video) as reader:
        if not reads_stamps:
            return reader.header.fps, [], 0.0
        starts = [
            float(time * picture.time_base)
            for picture, time in reader.pictures()
            if picture.time_base
        ]
        return reader.header.fps, starts, reader.end_s
