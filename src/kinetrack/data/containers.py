"""Opening a video file: what it is, and what it promises."""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

# FFmpeg picks a demuxer by content: without this list a text file named .avi can be a playlist
# that opens other files.
_FORMATS = "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo"
_PROTOCOLS = "file"
# A frame of 8K video has 33 million; a header that claims more would only cost memory.
MOST_PIXELS = 40_000_000
# A table may name the same bytes again and again. Some containers leave out what packets have in
# common, so a little more may come out than is in the file; never so much.
_MOST_OF_FILE = 2
# Faster than any camera's file says it is: a time base taken for a rate.
HIGHEST_FPS = 10_000


class VideoError(Exception):
    """A file that gives no frame, or none that can be trusted; the text says why."""


class VideoProbe(NamedTuple):
    """What a file says of itself; 0 where it does not say.

    Sizes are in pixels, `fps` in frames a second, `promised_frames` in frames.
    """

    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    fps: float
    promised_frames: int
    duration_s: float
    video_streams: int
    has_audio: bool


def identify(path: Path) -> tuple[int, int, int]:
    """What changes when a regular file does: size in bytes, time of the last change, inode.

    Raises:
        VideoError: it cannot be asked, or is no regular file, which might never end.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"cannot be opened as a video: {_reason(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("is no regular file")
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """Open a regular file of a known format.

    Raises:
        VideoError: it is none.
    """
    identify(path)
    try:
        # An absolute path: FFmpeg would take the first part of "a:b.avi" for a protocol.
        container = av.open(
            str(path.absolute()),
            options={"max_pixels": str(MOST_PIXELS)},
            container_options={"format_whitelist": _FORMATS, "protocol_whitelist": _PROTOCOLS},
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot be opened as a video: {_reason(error)}") from None
    with container:
        yield container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def pick_stream(container: InputContainer) -> VideoStream:
    """The stream that FFmpeg finds best; a cover picture is none.

    Raises:
        VideoError: there is none that can be decoded.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or _is_cover(stream):
        raise VideoError("has no video stream")
    # PyAV gives a stream without decoder neither context nor size.
    if stream.codec_context is None:
        raise VideoError("has a codec that cannot be decoded")
    return stream


def read_packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[Any]]":
    """Yield the packets of a stream; the last one is empty.

    Raises:
        VideoError: there is far more in them than in the file.
    """
    left_bytes = _MOST_OF_FILE * container.size
    for packet in container.demux(stream):
        left_bytes -= packet.size
        if left_bytes < 0:
            raise VideoError("holds more frames than it has bytes for: they overlap")
        yield packet


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def describe(container: InputContainer, stream: VideoStream) -> VideoProbe:
    """What a file says of itself, its size before a rotation."""
    rough_duration = Fraction(container.duration or 0, av.time_base)
    return VideoProbe(
        container=format_name(container),
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=stream.codec_context.pix_fmt or "",
        width=stream.width,
        height=stream.height,
        fps=float(frame_rate(stream)),
        promised_frames=_promised_frames(container, stream),
        duration_s=float(promised_duration(container, stream) or rough_duration),
        video_streams=sum(not _is_cover(other) for other in container.streams.video),
        has_audio=bool(container.streams.audio),
    )


def format_name(container: InputContainer) -> str:
    """One name of the container's format: avi, mp4 (MOV and 3GP too), matroska (WebM too) ..."""
    names = container.format.name.split(",")
    return "mp4" if "mp4" in names else names[0]


def frame_rate(stream: VideoStream) -> Fraction:
    """Frames a second, as the file states it or FFmpeg guesses it; 25 where neither is sane."""
    return next(iter(stated_rates(stream)), Fraction(25))


def stated_rates(stream: VideoStream) -> list[Fraction]:
    """The rates that a camera could have had."""
    rates = (stream.guessed_rate, stream.average_rate)
    return [Fraction(rate) for rate in rates if rate and 0 < rate <= HIGHEST_FPS]


def _promised_frames(container: InputContainer, stream: VideoStream) -> int:
    """The header's count; in an MP4 without those that its edit list leaves out."""
    if format_name(container) != "mp4" or not stream.frames:
        return stream.frames
    return sum(not entry.is_discard for entry in stream.index_entries) or stream.frames


def promised_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds of the video stream, where the file states them."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if match:
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    match format_name(container):
        case "avi" if stream.frames:  # its duration is that of the file as far as it is there
            return stream.frames / frame_rate(stream)
        case "mp4" if stream.duration and stream.time_base:
            return stream.duration * stream.time_base
        case "matroska" if container.duration and not container.streams.audio:
            return Fraction(container.duration, av.time_base)
    return None
