"""A copy of a video that shows in every frame what a model says of it."""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from kinetrack.data.frame_archives import read_frames
from kinetrack.errors import InputError
from kinetrack.files import atomic_file
from kinetrack.using.answers import Step
from kinetrack.using.captions import draw_caption
from kinetrack.using.frame_times import EARLY_S, FrameTimes
from kinetrack.using.timeline import Footage

DrawnForm = Literal["mp4", "gif"]

# Long sides: nobody can read on smaller pictures, and larger ones cost the encoder gigabytes.
_SMALLEST_PX, _LARGEST_PX = 320, 1920
_GIF_WIDTH_PX, _GIF_INTERVAL_S = 480, 0.1
_LONGEST_NAME = 100
_CODING = {
    "libx264": {"preset": "veryfast", "crf": "23"},
    "mpeg4": {"qmin": "3", "qmax": "3"},
    "gif": {},
}

Size = tuple[int, int]
Watch = Callable[[Sequence[int]], Iterable[int]]


class _Encoding(NamedTuple):
    """How pictures are written, and the unit of their times."""

    container: str
    codec: str
    pixel_format: str
    rate: Fraction
    tick_s: Fraction


def drawn_path(folder: Path, video: Path, form: DrawnForm) -> Path:
    """Where the copy of a video lies: its name, and a number that belongs to its whole path.

    So two videos never have one copy, and a second run replaces that of the first.
    """
    number = hashlib.sha256(os.fsencode(video.absolute())).hexdigest()[:10]
    name = "".join(char if char.isalnum() or char in "-_ ." else "_" for char in video.stem)
    # Where this cuts a letter in the middle, the letter goes.
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore").strip(" .-")
    return folder / f"{short or 'video'}-{number}.{form}"


def draw_video(
    path: Path,
    footage: Footage,
    steps: Sequence[Step],
    *,
    form: DrawnForm,
    watch: Watch = iter,
) -> None:
    """Write a copy of a video with the label and probability of its step in every frame.

    An MP4 has all frames at their times, and a long side of 320 to 1920 pixels; a GIF is at most
    480 pixels wide, with at most ten frames a second. One frame at a time is held in memory.
    `watch` passes the numbers of the frames on, one when each is due.

    Raises:
        InputError: the frames cannot be read or encoded.
        WriteError: no room, or no permission.
    """
    write = {"mp4": _write_mp4, "gif": _write_gif}[form]
    with atomic_file(path) as file:
        try:
            write(file, footage, steps, watch)
        except av.FFmpegError as error:
            if isinstance(error.__context__, OSError):  # of writing: no room
                raise error.__context__ from None
            raise InputError(path, "cannot be encoded", found=error.strerror) from None


def _write_mp4(file: IO[bytes], footage: Footage, steps: Sequence[Step], watch: Watch) -> None:
    times = footage.times
    # Encoders take no longer number above or below the line; 30000/1001 stays what it is.
    rate = Fraction(times.fps).limit_denominator(max(int(65_535 / times.fps), 1))
    encoding = _Encoding(
        container="mp4",
        codec="libx264" if "libx264" in av.codecs_available else "mpeg4",
        pixel_format="yuv420p",
        rate=rate,
        tick_s=1 / rate if times.is_constant else Fraction(1, 1000),
    )
    frames = range(footage.num_frames)
    pictures = _draw_labels(footage, steps, frames, size_of=_mp4_size, watch=watch)
    _encode(file, map(av.VideoFrame.from_image, pictures), times.starts_s, encoding)


def _write_gif(file: IO[bytes], footage: Footage, steps: Sequence[Step], watch: Watch) -> None:
    # By PyAV: Pillow holds all frames until it has the last one.
    encoding = _Encoding("gif", "gif", "pal8", rate=Fraction(10), tick_s=Fraction(1, 100))
    frames = list(_thin_out(footage.times))
    pictures = _draw_labels(footage, steps, frames, size_of=_gif_size, watch=watch)
    _encode(file, map(_quantise, pictures), footage.times.starts_s[frames], encoding)


def _draw_labels(
    footage: Footage,
    steps: Sequence[Step],
    frames: Sequence[int],
    *,
    size_of: Callable[[Size], Size],
    watch: Watch,
) -> Iterator[Image.Image]:
    """The pictures of these frames with their labels, all of one size."""
    starts_s = [step.start_s for step in steps]
    size: Size | None = None
    for frame, image in zip(watch(frames), read_frames(footage.archive, frames), strict=True):
        size = size or size_of(image.size)
        drawn = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        place = bisect_right(starts_s, footage.times.starts_s[frame] + EARLY_S) - 1
        text, ending = _say(steps[place])
        draw_caption(drawn, text, ending=ending)
        yield drawn


def _say(step: Step) -> tuple[str, str]:
    if step.prediction is None:
        return "no answer", ""
    ((label, share),) = step.prediction.top(1)
    return label, f" {share:.2f}"


def _mp4_size(size: Size) -> Size:
    """Sides of even length, as H.264 with colours of half the resolution has them."""
    factor = min(max(1, _SMALLEST_PX / max(size)), _LARGEST_PX / max(size))
    width, height = (max(round(side * factor / 2) * 2, 2) for side in size)
    return width, height


def _gif_size(size: Size) -> Size:
    width, height = _mp4_size(size)
    factor = min(1, _GIF_WIDTH_PX / width)
    return round(width * factor), max(round(height * factor), 1)


def _thin_out(times: FrameTimes) -> Iterator[int]:
    """Frames that are at least a tenth of a second apart."""
    due_s = 0.0
    for frame, start_s in enumerate(times.starts_s):
        if start_s >= due_s - EARLY_S:
            yield frame
            due_s = start_s + _GIF_INTERVAL_S


def _quantise(image: Image.Image) -> av.VideoFrame:
    """The picture in 256 colours of its own."""
    few = image.quantize(256, method=Image.Quantize.FASTOCTREE)
    colours = np.array(few.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette_argb = np.full((256, 4), 255, dtype=np.uint8)
    palette_argb[: len(colours), 1:] = colours
    # PyAV takes a pair for this format; its types do not know.
    indexed = cast("NDArray[np.uint8]", (np.asarray(few), palette_argb))
    return av.VideoFrame.from_ndarray(indexed, format="pal8")


def _encode(
    file: IO[bytes],
    pictures: Iterable[av.VideoFrame],
    starts_s: NDArray[np.float64],
    encoding: _Encoding,
) -> None:
    """Write pictures, each with the time at which it is shown; no two at one time."""
    container, codec, pixel_format, rate, tick_s = encoding
    last = -1
    with av.open(file, "w", format=container) as output:
        stream = cast("VideoStream", output.add_stream(codec, rate=rate, options=_CODING[codec]))
        stream.pix_fmt, stream.codec_context.time_base = pixel_format, tick_s
        for picture, start_s in zip(pictures, starts_s, strict=True):
            if last < 0:
                stream.width, stream.height = picture.width, picture.height
            last = max(round(float(start_s) / tick_s), last + 1)
            picture.pts, picture.time_base = last, tick_s
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
