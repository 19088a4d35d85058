"""Decoding one video file into frames, with what it promised and what was wrong."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinetrack.data import containers
from kinetrack.data.containers import VideoError, VideoProbe, open_container
from kinetrack.data.pictures import Turn, read_turn, rotate, to_rgb
from kinetrack.data.timing import Beat, Clock, frames_between
from kinetrack.isolation import (
    MOST_MB,
    CrashedError,
    StalledError,
    has_room,
    report_progress,
    run_isolated,
)

Result = TypeVar("Result")

# So much before its time a frame belongs to a segment: time stamps may be rounded.
_EARLY_S = Fraction(1, 2000)

# What may come out of each byte, and of any file. A still picture in 4K, coded for hours, has a
# tenth of that; a file that is made for it has a thousand times as much.
_MOST_PIXELS_A_BYTE = 20_000
_MOST_PIXELS = 1_000_000_000
# No frame is shorter than 25 bytes for long, not even one that says that nothing has changed.
_LEAST_PIXELS = 500_000


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
        stream.codec_context.options = {"max_pixels": str(containers.MOST_PIXELS)}
        self._rate = containers.frame_rate(stream)
        self._tick_s = Fraction(stream.time_base or 1 / self._rate)
        ticks_per_frame = 1 / (self._rate * self._tick_s)
        self._clock = Clock(ticks_per_frame=ticks_per_frame)
        self._beat = Beat(ticks_per_frame=ticks_per_frame, tick_s=self._tick_s)
        self._start_s, self._end_s = Fraction(start_s or 0), end_s
        self._start = self._to_ticks(self._start_s)
        self._end = math.inf if end_s is None else self._to_ticks(Fraction(end_s))
        self._jumps = jumps
        self._is_read_out = False
        self._budget_px = _MOST_PIXELS
        self.undecodable_packets = 0

    def _to_ticks(self, time_s: Fraction) -> int:
        """The first tick that belongs to what starts at this time."""
        return math.ceil((time_s - _EARLY_S) / self._tick_s)

    @property
    def header(self) -> VideoProbe:
        """What the file says of itself, its size before a rotation."""
        return containers.describe(self._container, self._stream)

    @property
    def end_s(self) -> float:
        """Where the last decoded frame ends, in seconds from the first frame of the video."""
        return float(self._clock.end * self._tick_s)

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
        return not containers.stated_rates(self._stream)

    @property
    def frames_lost_at_end(self) -> int:
        """How many frames fit between the last one and the end that was promised, in time.

        For a segment that is its own end. For a whole video only Matroska promises a time; others
        promise a number of frames, or nothing.
        """
        if not self._is_read_out:
            return 0
        end_s = self._clock.end * self._tick_s
        if self._end_s is not None:
            return frames_between(end_s, Fraction(self._end_s), rate=self._rate)
        promised_s = containers.promised_duration(self._container, self._stream)
        is_matroska = containers.format_name(self._container) == "matroska"
        if promised_s is None or not (is_matroska or self._start_s > 0):
            return 0
        if is_matroska:  # writers count from 0 or from the first frame: the later end is safe
            end_s += max(self._clock.first_stamp or 0, 0) * self._tick_s
        return frames_between(end_s, promised_s, rate=self._rate)

    def explain_nothing(self) -> str:
        """Why no frame came."""
        if self._start_s > 0 and self._clock.end > 0:
            start_s = float(self._start_s)
            return f"has nothing at {start_s:g} s: the video ends at {self.end_s:.1f} s"
        if not self._stream.width:  # FFmpeg refuses the size that the header states
            most = containers.MOST_PIXELS / 1e6
            return f"states no frame size, or one of more than {most:g} million px"
        return "holds no frame that can be decoded"

    def __iter__(self) -> Iterator[Frame]:
        turn: Turn | None = None
        for picture, time in self._pictures_of_segment():
            image = to_rgb(picture)
            if image is None:
                self.undecodable_packets += 1
                continue
            if turn is None or turn.angle != picture.rotation:
                turn = read_turn(picture)  # its matrix, which costs more than the whole rest
            yield Frame(
                image_hwc=image if turn.is_mirrored else rotate(image, turn.rotation_deg),
                slot=self._beat.place(time),
                is_corrupt=bool(picture.is_corrupt),
                rotation_deg=turn.rotation_deg,
                is_mirrored=turn.is_mirrored,
            )
            del picture, image  # in 8K, 180 MB while the next one is made

    def _pictures_of_segment(self) -> Iterator[tuple[av.VideoFrame, int]]:
        latest = 0
        for picture, time in self.pictures():
            latest = max(latest, time)  # jumbled stamps must not tear the segment apart
            if latest >= self._end:
                return
            if latest >= self._start:
                yield picture, time
        self._is_read_out = True

    def pictures(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Decoded pictures up to the end of the video, with their times in ticks."""
        pictures = self._decode()
        if self._jumps:
            pictures = self._decode_from_key_frame(pictures)
        for picture in pictures:
            yield picture, self._clock.read(picture.pts, shown_for=picture.duration or 0)

    def reaches_start(self) -> bool:
        """Whether the first picture is at or before the segment's start."""
        _, time = next(self.pictures(), (None, math.inf))
        return time <= self._start

    def _decode_from_key_frame(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Pictures from the last key frame before the segment on, which need none before it."""
        first = next(pictures, None)
        if first is None or first.pts is None:
            return iter(())
        self._clock.read(first.pts, shown_for=0)
        self._container.seek(first.pts + max(self._start, 0), stream=self._stream)
        return itertools.dropwhile(lambda picture: not picture.key_frame, self._decode())

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets, packet = containers.read_packets(self._container, self._stream), None
        while True:
            report_progress()
            try:
                packet = next(packets)
                pictures = packet.decode()
            except StopIteration:
                return
            except (av.FFmpegError, ValueError) as error:
                # FFmpeg says of most decoders that lacked memory that the data are invalid.
                if isinstance(error, MemoryError) or not has_room(self._rgb_bytes()):
                    raise MemoryError from None
                self._count_lost(packet)
                continue
            self._budget_px += packet.size * _MOST_PIXELS_A_BYTE
            for picture in pictures:
                self._spend(picture.width * picture.height)
                yield picture

    def _rgb_bytes(self) -> int:
        """Of one picture, padded."""
        return 4 * self._stream.width * self._stream.height

    def _spend(self, pixels: int) -> None:
        """Refuse what would take hours and fill the disk though the file is small."""
        self._budget_px -= max(pixels, _LEAST_PIXELS)
        if self._budget_px < 0:
            raise VideoError(
                "is far larger inside than its size allows, expected at most"
                f" {_MOST_PIXELS_A_BYTE:,} px a byte"
            )

    def _count_lost(self, packet: "Packet[Any] | None") -> None:
        """Count a packet that cannot be decoded, unless its time lies outside of the segment."""
        stamp = None if packet is None else packet.dts if packet.pts is None else packet.pts
        if stamp is not None:
            time = stamp - (self._clock.first_stamp or 0)
            if time >= self._end or (time < self._start and self._start_s > 0):
                return
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
    with open_container(path) as container:
        stream = containers.pick_stream(container)
        yield VideoReader(container, stream, start_s=start_s, end_s=end_s, jumps=jumps)


def _can_jump(path: Path, start_s: float) -> bool:
    """Whether a key frame before the segment can be reached, from which decoding is exact.

    Only where time stamps are stored with the frames: AVI guesses them while it is read.
    """
    with open_container(path) as container:
        if containers.format_name(container) not in ("mp4", "matroska"):
            return False
        stream = containers.pick_stream(container)
        try:
            reader = VideoReader(container, stream, start_s=start_s, end_s=None, jumps=True)
            return reader.reaches_start()
        except av.FFmpegError:  # it cannot seek
            return False


def decode_isolated(function: Callable[..., Result], *args: Any, stall_s: float) -> Result:
    """Call a function that decodes in a child process, which is ended when it hangs.

    Raises:
        VideoError: no progress for `stall_s` seconds, the decoder crashed, or it asked for more
            memory than a picture can need.
    """
    try:
        return run_isolated(function, *args, stall_s=stall_s)
    except StalledError:
        raise VideoError(f"gave no frame for {stall_s:g} s") from None
    except CrashedError as error:
        raise VideoError(f"crashed the decoder ({error})") from None
    except MemoryError:
        raise VideoError(f"takes more than {MOST_MB} MB of memory to decode") from None
