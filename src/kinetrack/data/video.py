"""Decoding one video file into frames, with what it promised and what was wrong."""

import itertools
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinetrack.data.timing import Beat, Clock, frames_between
from kinetrack.isolation import CrashedError, StalledError, report_progress, run_isolated

Result = TypeVar("Result")

# FFmpeg picks a demuxer by content: without this list a text file named .avi can be a playlist
# that opens other files.
_FORMATS = "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo"
_PROTOCOLS = "file"
# A frame of 8K video has 33 million; a header that claims more would only cost memory.
_MOST_PIXELS = 40_000_000
# Faster than any camera's file says it is: a time base taken for a rate.
_HIGHEST_FPS = 10_000
# So much before its time a frame belongs to a segment: time stamps may be rounded.
_EARLY = Fraction(1, 2000)


class VideoError(Exception):
    """A file that gives no frame, or none that can be trusted; the text says why."""


class VideoProbe(NamedTuple):
    """What a file says of itself; 0 where it does not say."""

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


class Frame(NamedTuple):
    """One decoded frame, RGB uint8 (H, W, 3), turned as the file asks for.

    `rotation_deg` is that turn, counterclockwise. One that is no multiple of 90, and a mirroring,
    are not done. `slot` is the place at the constant rate of the file, from the first frame read.
    """

    image_hwc: NDArray[np.uint8]
    slot: int
    is_corrupt: bool
    rotation_deg: int
    is_mirrored: bool


class VideoReader:
    """An open video or a segment of it: iterate once over its frames, in presentation order.

    A packet that cannot be decoded is left out and counted, as ffmpeg does; what is missing then
    shows in the number of frames.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        start_s: float | None,
        end_s: float | None,
        jumps: bool,
    ) -> None:
        self._container, self._stream = container, stream
        # Clips are decoded side by side in processes; threads inside a clip only cost.
        stream.thread_type = "SLICE"
        stream.thread_count = 1
        # A stream may change its size on the way.
        stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
        self._start = Fraction(start_s or 0)
        self._end = None if end_s is None else Fraction(end_s)
        self._jumps = jumps
        self._rate = _frame_rate(stream)
        self._clock, self._beat = Clock(self._rate), Beat(self._rate)
        self._is_read_out = False
        self.undecodable_packets = 0

    @property
    def header(self) -> VideoProbe:
        """What the file says of itself, its size before a rotation."""
        container, stream = self._container, self._stream
        return VideoProbe(
            container=_format_name(container),
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=stream.codec_context.pix_fmt or "",
            width=stream.width,
            height=stream.height,
            fps=float(self._rate),
            promised_frames=_promised_frames(container, stream),
            duration_s=float(_promised_duration(container, stream) or _rough_duration(container)),
            video_streams=sum(not _is_cover(other) for other in container.streams.video),
            has_audio=bool(container.streams.audio),
        )

    @property
    def end_s(self) -> float:
        """Where the last decoded frame ends, in seconds from the first frame of the video."""
        return float(self._clock.end)

    @property
    def has_jumbled_times(self) -> bool:
        """Whether the time stamps of the frames step back; then they tell nothing of gaps."""
        return self._beat.is_jumbled

    @property
    def has_variable_rate(self) -> bool:
        """Whether the frames come at no constant rate."""
        return self._beat.is_variable

    @property
    def has_absurd_rate(self) -> bool:
        """Whether the file states no frame rate that a camera could have."""
        return not _stated_rates(self._stream)

    @property
    def frames_lost_at_end(self) -> int:
        """How many frames fit between the last one and the end that was promised, in time.

        For a segment that is its own end. For a whole video only Matroska promises a time; others
        promise a number of frames.
        """
        if not self._is_read_out:
            return 0
        if self._end is not None:
            return frames_between(self._clock.end, self._end, self._rate)
        is_segment = self._start > 0
        promised = _promised_duration(self._container, self._stream)
        if promised is None or not (is_segment or _format_name(self._container) == "matroska"):
            return 0
        # Writers of Matroska count from 0 or from the first frame: the later end is the safe one.
        is_from_zero = _format_name(self._container) == "matroska"
        offset = max(self._clock.first_stamp or Fraction(0), Fraction(0)) if is_from_zero else 0
        return frames_between(self._clock.end + offset, promised, self._rate)

    def explain_nothing(self) -> str:
        """Why no frame came."""
        if self._start > 0 and self._clock.end > 0:
            start_s = float(self._start)
            return f"has nothing at {start_s:g} s: the video ends at {self.end_s:.1f} s"
        if not self._stream.width:  # FFmpeg refuses the size that the header states
            return f"states no frame size, or one of more than {_MOST_PIXELS / 1e6:g} million px"
        return "holds no frame that can be decoded"

    def __iter__(self) -> Iterator[Frame]:
        for picture, time in self._pictures_of_segment():
            image = _to_rgb(picture)
            if image is None:
                self.undecodable_packets += 1
                continue
            rotation_deg, is_mirrored = _read_turn(picture), _is_mirrored(picture)
            yield Frame(
                image_hwc=image if is_mirrored else _rotate(image, rotation_deg),
                slot=self._beat.place(time),
                is_corrupt=bool(picture.is_corrupt),
                rotation_deg=rotation_deg,
                is_mirrored=is_mirrored,
            )

    def _pictures_of_segment(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        latest = Fraction(0)
        for picture, time in self.pictures():
            latest = max(latest, time)  # jumbled stamps must not tear the segment apart
            if self._end is not None and latest >= self._end - _EARLY:
                return
            if latest >= self._start - _EARLY:
                yield picture, time
        self._is_read_out = True

    def pictures(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Decoded pictures up to the end, with their times in seconds from the video's first."""
        pictures = self._decode()
        if self._jumps:
            pictures = self._decode_from_key_frame(pictures)
        for picture in pictures:
            yield picture, self._read_clock(picture)

    def _decode_from_key_frame(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Pictures from the last key frame before the segment; what comes after it needs none
        before it."""
        first = next(pictures, None)
        if first is None or first.pts is None or first.time_base is None:
            return iter(())
        self._read_clock(first)
        self._container.seek(
            first.pts + int(self._start / first.time_base), stream=self._stream, backward=True
        )
        return itertools.dropwhile(lambda picture: not picture.key_frame, self._decode())

    def _read_clock(self, picture: av.VideoFrame) -> Fraction:
        base = picture.time_base or Fraction(0)
        stamp = None if picture.pts is None or not base else picture.pts * base
        return self._clock.read(stamp, shown_for=(picture.duration or 0) * base)

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets, packet = self._container.demux(self._stream), None
        while True:
            report_progress()
            try:
                packet = next(packets)
                yield from packet.decode()
            except StopIteration:
                return
            except (av.FFmpegError, ValueError):
                self._count_lost(packet)

    def _count_lost(self, packet: "Packet[Any] | None") -> None:
        """Count a packet that cannot be decoded, unless its time lies outside of the segment."""
        stamp = None if packet is None else packet.pts if packet.pts is not None else packet.dts
        if packet is None or stamp is None or packet.time_base is None:
            self.undecodable_packets += 1
            return
        time = stamp * packet.time_base - (self._clock.first_stamp or 0)
        is_before = self._start > 0 and time < self._start - _EARLY
        if not is_before and (self._end is None or time < self._end - _EARLY):
            self.undecodable_packets += 1


@contextmanager
def open_video(
    path: Path, *, start_s: float | None = None, end_s: float | None = None
) -> Iterator[VideoReader]:
    """Open a regular file for reading its frames, or those of a segment.

    The segment has the frames whose time, in seconds from the video's first frame, lies in
    [start_s, end_s). They are the same, byte for byte, as when the whole video is read.

    Raises:
        VideoError: no regular file, no container of the known formats, or no video stream in it.
    """
    jumps = start_s is not None and start_s > 0 and _can_jump(path, start_s)
    with _open_container(path) as container:
        stream = _pick_stream(container)
        yield VideoReader(container, stream, start_s=start_s, end_s=end_s, jumps=jumps)


def _can_jump(path: Path, start_s: float) -> bool:
    """Whether a key frame before the segment can be reached, from which decoding is exact.

    Only where time stamps are stored with the frames: AVI guesses them while it is read.
    """
    with _open_container(path) as container:
        if _format_name(container) not in ("mp4", "matroska"):
            return False
        stream = _pick_stream(container)
        reader = VideoReader(container, stream, start_s=start_s, end_s=None, jumps=True)
        try:
            _, time = next(reader.pictures())
        except (StopIteration, av.FFmpegError):
            return False
        return time <= Fraction(start_s) - _EARLY


@contextmanager
def _open_container(path: Path) -> Iterator[InputContainer]:
    identify(path)
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": _PROTOCOLS}
    try:
        # An absolute path: FFmpeg would take the first part of "a:b.avi" for a protocol.
        container = av.open(
            str(path.absolute()),
            options={"max_pixels": str(_MOST_PIXELS)},
            container_options=options,
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot be opened as a video: {_reason(error)}") from None
    with container:
        yield container


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


def probe_video(path: Path, *, stall_s: float) -> VideoProbe:
    """Open a video, decode its first frame and tell what it says of itself.

    `width` and `height` are those of the frame, after a rotation. This is done in a child process.

    Raises:
        VideoError: no frame can be had of it.
    """
    return decode_isolated(_probe, path, stall_s=stall_s)


def _probe(path: Path) -> VideoProbe:
    with open_video(path) as reader:
        for frame in reader:
            height, width, _ = frame.image_hwc.shape
            return reader.header._replace(width=width, height=height)
        raise VideoError(reader.explain_nothing())


def decode_isolated(function: Callable[..., Result], *args: Any, stall_s: float) -> Result:
    """Call a function that decodes in a child process, which is ended when it hangs.

    Raises:
        VideoError: no progress for `stall_s` seconds, or the decoder crashed.
    """
    try:
        return run_isolated(function, *args, stall_s=stall_s)
    except StalledError:
        raise VideoError(f"gave no frame for {stall_s:g} s") from None
    except CrashedError as error:
        raise VideoError(f"crashed the decoder ({error})") from None


def _pick_stream(container: InputContainer) -> VideoStream:
    """The stream that ffmpeg would pick; a cover picture is none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or _is_cover(stream):
        raise VideoError("has no video stream")
    # PyAV gives a stream without decoder neither context nor size.
    if stream.codec_context is None:
        raise VideoError("has a codec that cannot be decoded")
    return stream


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _format_name(container: InputContainer) -> str:
    names = container.format.name.split(",")  # "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
    return "mp4" if "mp4" in names else names[0]


def _frame_rate(stream: VideoStream) -> Fraction:
    return next(iter(_stated_rates(stream)), Fraction(25))


def _stated_rates(stream: VideoStream) -> list[Fraction]:
    rates = (stream.guessed_rate, stream.average_rate)
    return [Fraction(rate) for rate in rates if rate and 0 < rate <= _HIGHEST_FPS]


def _promised_frames(container: InputContainer, stream: VideoStream) -> int:
    """The header's count; in an MP4 without those that its edit list leaves out."""
    if _format_name(container) != "mp4" or not stream.frames:
        return stream.frames
    return sum(not entry.is_discard for entry in stream.index_entries) or stream.frames


def _promised_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds of the video stream, where the file states them."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if match:
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    match _format_name(container):
        case "avi" if stream.frames:  # its duration is that of the file as far as it is there
            return stream.frames / _frame_rate(stream)
        case "mp4" if stream.duration and stream.time_base:
            return stream.duration * stream.time_base
        case "matroska" if not container.streams.audio:
            return _rough_duration(container) or None
    return None


def _rough_duration(container: InputContainer) -> Fraction:
    """Seconds of the longest stream, sound too; an estimate for some formats."""
    return Fraction(container.duration or 0, av.time_base)


def _to_rgb(picture: av.VideoFrame) -> NDArray[np.uint8] | None:
    if picture.width * picture.height > _MOST_PIXELS:
        return None
    try:
        return cast("NDArray[np.uint8]", picture.to_ndarray(format="rgb24", threads=1))
    except (av.FFmpegError, ValueError):
        return None


def _read_turn(picture: av.VideoFrame) -> int:
    """Degrees counterclockwise, 0 to 359; PyAV cuts 89.99 off to 89."""
    nearest = 90 * round(picture.rotation / 90)
    angle = nearest if abs(picture.rotation - nearest) <= 1 else int(picture.rotation)
    return angle % 360


def _is_mirrored(picture: av.VideoFrame) -> bool:
    """Whether the display matrix (9 fixed-point numbers, row by row) swaps left and right."""
    try:
        data = cast("SideData | None", picture.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # another kind of side data that PyAV does not know
        return False
    if data is None:
        return False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), dtype=np.int32)[:5])
    return a * d - b * c < 0


def _rotate(image_hwc: NDArray[np.uint8], rotation_deg: int) -> NDArray[np.uint8]:
    """Turn counterclockwise by a multiple of 90 degrees; by another angle, not at all."""
    if rotation_deg % 90 or not rotation_deg:
        return image_hwc
    return np.ascontiguousarray(np.rot90(image_hwc, rotation_deg // 90))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
