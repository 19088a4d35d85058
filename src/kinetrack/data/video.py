"""Decoding one video file into frames, with what it promised and what was wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

# FFmpeg picks a demuxer by content: without this list a text file named .avi can be a playlist
# that opens other files.
_FORMATS = "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo"
_PROTOCOLS = "file"
# A frame of 8K video has 33 million; a header that claims more would only cost memory.
_MOST_PIXELS = 40_000_000


class VideoError(Exception):
    """A file that gives no frame at all; the text says why."""


class VideoHeader(NamedTuple):
    """What a file says of itself; `promised_frames` is 0 where the container does not say."""

    width: int
    height: int
    fps: float
    promised_frames: int


class Frame(NamedTuple):
    """One decoded frame; `slot` is its place at the constant rate of the file, from 0."""

    image_hwc: NDArray[np.uint8]
    slot: int
    is_corrupt: bool


class VideoReader:
    """An open video: iterate once over its frames, in presentation order.

    A packet that cannot be decoded is left out and counted, as ffmpeg does; what is missing then
    shows in the number of frames.
    """

    def __init__(self, container: InputContainer) -> None:
        self._container = container
        self._stream = container.streams.video[0]
        # Clips are decoded side by side in processes; threads inside a clip only cost.
        self._stream.thread_type = "SLICE"
        self._stream.thread_count = 1
        self.undecodable_packets = 0

    @property
    def header(self) -> VideoHeader:
        """What the file says of itself."""
        return VideoHeader(
            width=self._stream.width,
            height=self._stream.height,
            fps=float(_frame_rate(self._stream)),
            promised_frames=self._stream.frames,
        )

    def __iter__(self) -> Iterator[Frame]:
        rate, slot, first_pts = _frame_rate(self._stream), -1, None
        for frame in self._decode():
            slot += 1
            if frame.pts is not None and frame.time_base is not None:
                first_pts = frame.pts if first_pts is None else first_pts
                slot = max(round((frame.pts - first_pts) * frame.time_base * rate), slot)
            image = _to_rgb(frame)
            if image is None:
                self.undecodable_packets += 1
                slot -= 1
                continue
            yield Frame(
                image_hwc=image,
                slot=slot,
                is_corrupt=bool(frame.is_corrupt),
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                yield from next(packets).decode()
            except StopIteration:
                return
            except av.InvalidDataError:
                self.undecodable_packets += 1
            except (av.FFmpegError, ValueError):
                self.undecodable_packets += 1
                return


@contextmanager
def open_video(path: Path) -> Iterator[VideoReader]:
    """Open a regular file for reading its frames.

    Raises:
        VideoError: no container of the known formats, or no video stream in it.
    """
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": _PROTOCOLS}
    try:
        # An absolute path: FFmpeg would take the first part of "a:b.avi" for a protocol.
        container = av.open(str(path.absolute()), container_options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot be opened as a video: {_reason(error)}") from None
    with container:
        if not container.streams.video:
            raise VideoError("has no video stream")
        _check_stream(container.streams.video[0])
        yield VideoReader(container)


def _to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8] | None:
    if frame.width * frame.height > _MOST_PIXELS:  # a stream may change its size on the way
        return None
    try:
        return cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24", threads=1))
    except (av.FFmpegError, ValueError):
        return None


def _check_stream(stream: VideoStream) -> None:
    # PyAV gives a stream without decoder neither context nor size.
    if stream.codec_context is None:
        raise VideoError("has a codec that cannot be decoded")
    if stream.width * stream.height > _MOST_PIXELS:
        raise VideoError(f"has frames of {stream.width} x {stream.height} px, too many to decode")


def _frame_rate(stream: VideoStream) -> Fraction:
    rate = stream.guessed_rate or stream.average_rate
    return Fraction(rate) if rate else Fraction(25)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
