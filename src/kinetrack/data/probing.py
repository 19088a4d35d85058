"""What a video file says of itself, found by opening it and decoding its first frame."""

from pathlib import Path

from kinetrack.data.containers import VideoError, VideoProbe
from kinetrack.data.video import decode_isolated, open_video


def probe_video(path: Path, *, stall_s: float) -> VideoProbe:
    """Open a video, decode its first frame and tell what it says of itself.

    `width` and `height` are those of the frame, after a rotation. This is done in a child process.

    Raises:
        VideoError: no frame can be had of it.
    """
    return decode_isolated(probe_here, path, stall_s=stall_s)


def probe_here(path: Path) -> VideoProbe:
    """As `probe_video`, but in this process.

    Raises:
        VideoError: no frame can be had of it.
    """
    with open_video(path) as reader:
        for frame in reader:
            height, width, _ = frame.image_hwc.shape
            return reader.header._replace(width=width, height=height)
        raise VideoError(reader.explain_nothing())


def try_probe(path: Path, *, stall_s: float) -> VideoProbe | str:
    """As `probe_video`, but the reason where no frame can be had."""
    try:
        return probe_video(path, stall_s=stall_s)
    except VideoError as error:
        return str(error)
