"""Frame archives: every frame of a clip as a JPEG in one stored zip."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinetrack.data.video import Frame, VideoError, VideoHeader, VideoReader, open_video
from kinetrack.errors import InputError
from kinetrack.files import atomic_file

Gaps = Literal["keep", "repeat"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
# A zip member needs a date; a fixed one gives the same bytes for the same video.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# A longer gap is a lie of the time stamps; filling it could fill the disk.
_MOST_FILLED = 1000


class ExtractionReport(NamedTuple):
    """What a video promised and what became of it, in frames."""

    header: VideoHeader
    num_frames: int
    missing_frames: int
    repeated_frames: int
    corrupt_frames: int


def extract_frames(
    video: Path, archive: Path, *, gaps: Gaps, jpeg_quality: int, jpeg_subsampling: Subsampling
) -> ExtractionReport:
    """Decode a video into `frame_0001.jpg ...` in a stored zip.

    `gaps="repeat"` repeats the frame before a gap in the time stamps until the gap is filled, as
    `ffmpeg VIDEO frame_%04d.jpg` does at its default constant rate; "keep" writes each decoded
    frame once. `missing_frames` counts what the header (without one, the time stamps) promises
    beyond the frames written.

    Raises:
        VideoError: the file gives no frame, or a gap to fill is absurd; no archive is written.
    """
    with open_video(video) as reader, atomic_file(archive) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
            counts = _Counts()
            for frame in reader:
                jpeg = _encode_jpeg(frame.image_hwc, jpeg_quality, jpeg_subsampling)
                counts = _write_frame(zipped, counts, frame, jpeg, fill=gaps == "repeat")
        if counts.written == 0:
            raise VideoError("holds no frame that can be decoded")
        return _report(reader, counts)


class _Counts(NamedTuple):
    written: int = 0
    repeated: int = 0
    corrupt: int = 0
    slots: int = 0
    last_jpeg: bytes = b""


def _report(reader: VideoReader, counts: _Counts) -> ExtractionReport:
    header, lost = reader.header, reader.undecodable_packets
    # Time stamps tell of a gap only where the header is silent: some encoders store them jumbled.
    # A packet that could not be decoded leaves a gap, which may have been filled.
    expected = max(
        header.promised_frames or counts.slots,
        counts.written + max(lost - counts.repeated, 0),
    )
    return ExtractionReport(
        header=header,
        num_frames=counts.written,
        missing_frames=expected - counts.written,
        repeated_frames=counts.repeated,
        corrupt_frames=counts.corrupt + lost,
    )


def _write_frame(
    zipped: zipfile.ZipFile, counts: _Counts, frame: Frame, jpeg: bytes, *, fill: bool
) -> _Counts:
    gap = frame.slot - counts.slots if fill else 0
    if gap > _MOST_FILLED:
        raise VideoError(f"has a gap of {gap} frames in its time stamps")
    for offset in range(gap):
        _write_member(zipped, counts.written + offset + 1, counts.last_jpeg)
    _write_member(zipped, counts.written + gap + 1, jpeg)
    return _Counts(
        written=counts.written + gap + 1,
        repeated=counts.repeated + gap,
        corrupt=counts.corrupt + frame.is_corrupt,
        slots=frame.slot + 1,
        last_jpeg=jpeg,
    )


def _write_member(zipped: zipfile.ZipFile, number: int, jpeg: bytes) -> None:
    zipped.writestr(zipfile.ZipInfo(frame_name(number), _ZIP_EPOCH), jpeg)


def frame_name(number: int) -> str:
    """Name of a frame in its archive; `number` counts from 1."""
    return f"frame_{number:04d}.jpg"


def _encode_jpeg(image_hwc: NDArray[np.uint8], quality: int, subsampling: Subsampling) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_hwc).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def read_frames(archive: Path, indices: Sequence[int]) -> Iterator[Image.Image]:
    """Yield the RGB pictures of these frames; `indices` count from 0 and may repeat.

    Raises:
        InputError: the archive cannot be read, or lacks a frame.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for index in indices:
                with (
                    zipped.open(frame_name(index + 1)) as file,
                    Image.open(file, formats=["JPEG"]) as image,
                ):
                    yield image.convert("RGB")
    # zipfile: RuntimeError for an encrypted member, NotImplementedError for a method of packing.
    except (
        OSError,
        EOFError,
        KeyError,
        RuntimeError,
        zipfile.BadZipFile,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(
            archive, "is no whole frame archive", found=error, remedy="dvc repro -f frames"
        ) from None
