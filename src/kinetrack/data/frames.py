"""Frame archives: every frame of a clip as a JPEG in one stored zip."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinetrack.data.containers import VideoError, identify
from kinetrack.data.decoding import Gaps, Subsampling
from kinetrack.data.frame_archives import frame_name
from kinetrack.data.video import Frame, VideoReader, decode_isolated, open_video
from kinetrack.files import atomic_file, file_md5, open_unfinished
from kinetrack.isolation import report_progress

# A zip member needs a date; a fixed one gives the same bytes for the same video.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# A longer gap, or more repeated frames for one decoded, is a lie of the time stamps; filling it
# could fill the disk.
_LONGEST_GAP = 1000
_MOST_REPEATS = 10


class ExtractionReport(NamedTuple):
    """What a video promised and what became of it: columns of the index, then `notes`.

    Counts are in frames, sizes in pixels. `video_sha256` is of the file, `frames_sha256` of the
    decoded frames as they were written, `archive_md5` of the archive. `notes` say what a person
    should look at.
    """

    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    width: int = 0
    height: int = 0
    rotation_deg: int = 0
    fps: float = 0.0
    promised_frames: int = 0
    decoded_frames: int = 0
    gap_frames: int = 0
    repeated_frames: int = 0
    num_frames: int = 0
    missing_frames: int = 0
    corrupt_frames: int = 0
    video_sha256: str = ""
    frames_sha256: str = ""
    archive_md5: str = ""
    notes: tuple[str, ...] = ()


def extract_frames(
    video: Path,
    archive: Path,
    *,
    gaps: Gaps,
    jpeg_quality: int,
    jpeg_subsampling: Subsampling,
    start_s: float | None = None,
    end_s: float | None = None,
    stall_s: float | None = None,
) -> ExtractionReport:
    """Decode a video, or the segment [start_s, end_s) of it, into `frame_0001.jpg ...` in a zip.

    `gaps="repeat"` repeats the frame before a gap in the time stamps until the gap is filled, as
    `ffmpeg VIDEO frame_%04d.jpg` does at its default constant rate; "keep" writes each decoded
    frame once. With `stall_s`, this is done in a child process, which is ended when it gets no
    further for so many seconds.

    Raises:
        VideoError: the file gives no frame, a gap to fill is absurd, the decoder hung or crashed,
            or the file changed meanwhile; no archive is written.
    """
    write = partial(
        _write_archive,
        gaps=gaps,
        jpeg_quality=jpeg_quality,
        jpeg_subsampling=jpeg_subsampling,
        start_s=start_s,
        end_s=end_s,
    )
    # Opened here, written there: a child process that is ended leaves nothing behind.
    with atomic_file(archive) as file:
        unfinished = Path(file.name)
        if stall_s is None:
            return write(video, unfinished)
        return decode_isolated(write, video, unfinished, stall_s=stall_s)


def _write_archive(
    video: Path,
    archive: Path,
    *,
    gaps: Gaps,
    jpeg_quality: int,
    jpeg_subsampling: Subsampling,
    start_s: float | None,
    end_s: float | None,
) -> ExtractionReport:
    before = identify(video)
    with (
        open_video(video, start_s=start_s, end_s=end_s) as reader,
        open_unfinished(archive) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped,
    ):
        writer = _FrameWriter(zipped, fills=gaps == "repeat")
        for frame in reader:
            writer.write(frame, _encode_jpeg(frame.image_hwc, jpeg_quality, jpeg_subsampling))
            del frame  # its picture, while the next one is made
        video_sha256 = _hash_file(video, before)
        if identify(video) != before:
            raise VideoError("changed while it was read")
        if not writer.decoded:
            raise VideoError(reader.explain_nothing())
        report = _report(reader, writer, is_segment=start_s is not None or end_s is not None)
    return report._replace(video_sha256=video_sha256, archive_md5=file_md5(archive))


class _FrameWriter:
    """Writes frames into an open zip and counts them."""

    def __init__(self, zipped: zipfile.ZipFile, *, fills: bool) -> None:
        self._zipped, self._fills = zipped, fills
        self._last_jpeg = b""
        self._content = hashlib.sha256()
        self.first: Frame | None = None
        self.shape: tuple[int, ...] = ()
        self.decoded = self.written = self.slots = self.corrupt = 0
        self.changes_size = False

    def write(self, frame: Frame, jpeg: bytes) -> None:
        """Add the next frame, and before it what fills the gap."""
        if self._fills:
            self._fill(frame.slot - self.slots)
        self._write_member(jpeg)
        self._content.update(jpeg)
        self._last_jpeg = jpeg
        # Without its picture, which would be held to the end.
        self.first = self.first or frame._replace(image_hwc=np.empty(0, dtype=np.uint8))
        self.shape = self.shape or frame.image_hwc.shape
        self.decoded += 1
        self.slots = frame.slot + 1
        self.corrupt += frame.is_corrupt
        self.changes_size |= frame.image_hwc.shape != self.shape

    def _fill(self, gap: int) -> None:
        repeated = self.written - self.decoded + gap
        if gap > _LONGEST_GAP or repeated > _LONGEST_GAP + _MOST_REPEATS * self.decoded:
            raise VideoError(
                f"has time stamps that leave a gap of {gap} frames, after {repeated - gap} filled"
                f" for {self.decoded} decoded; frames.gaps: keep fills none"
            )
        for _ in range(gap):
            self._write_member(self._last_jpeg)

    def _write_member(self, jpeg: bytes) -> None:
        self.written += 1
        self._zipped.writestr(zipfile.ZipInfo(frame_name(self.written), _ZIP_EPOCH), jpeg)

    @property
    def frames_sha256(self) -> str:
        """Of the decoded frames, without the repeated ones."""
        return self._content.hexdigest()


def _report(reader: VideoReader, writer: _FrameWriter, *, is_segment: bool) -> ExtractionReport:
    header, first = reader.header, writer.first
    assert first is not None
    repeated = writer.written - writer.decoded
    promised = 0 if is_segment else header.promised_frames
    # A packet that could not be decoded leaves a gap, which may have been filled.
    undecodable = max(reader.undecodable_packets - repeated, 0)
    missing = max(promised - writer.written, undecodable, reader.frames_lost_at_end)
    report = ExtractionReport(
        container=header.container,
        codec=header.codec,
        pixel_format=header.pixel_format,
        width=writer.shape[1],
        height=writer.shape[0],
        rotation_deg=first.rotation_deg,
        fps=round(header.fps, 3),
        promised_frames=promised,
        decoded_frames=writer.decoded,
        gap_frames=writer.slots - writer.decoded,
        repeated_frames=repeated,
        num_frames=writer.written,
        missing_frames=missing,
        corrupt_frames=writer.corrupt + reader.undecodable_packets,
        frames_sha256=writer.frames_sha256,
    )
    return report._replace(notes=tuple(_notes(report, reader, writer)))


def _notes(report: ExtractionReport, reader: VideoReader, writer: _FrameWriter) -> Iterator[str]:
    """What a person should look at before trusting the clip."""
    missing, repeated, first = report.missing_frames, report.repeated_frames, writer.first
    if missing:
        yield f"{missing} of {report.num_frames + missing} frames missing"
    if repeated:
        yield f"{_count(repeated, 'frame')} repeated"
    # Jumbled time stamps look like gaps and are none; the header counts the frames.
    elif report.gap_frames > missing and not reader.has_jumbled_times:
        yield f"time stamps leave {_count(report.gap_frames, 'place')} empty"
    if report.corrupt_frames:
        yield _count(report.corrupt_frames, "corrupt frame")
    if reader.has_variable_rate:
        yield "variable frame rate"
    if report.decoded_frames == 1:
        yield "one frame"
    if writer.changes_size:
        yield "frame size changes"
    if first and first.is_mirrored:
        yield "asks to be mirrored, left as it is"
    elif first and first.rotation_deg % 90:
        yield f"asks for a turn by {first.rotation_deg} degrees, left as it is"
    if (streams := reader.header.video_streams) > 1:
        yield f"{streams} video streams"
    if reader.has_absurd_rate:
        yield f"has no believable frame rate, taken for {report.fps:g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


@lru_cache(maxsize=64)  # a video may hold many segments
def _hash_file(path: Path, identity: tuple[int, int, int]) -> str:  # noqa: ARG001  # a key
    """SHA-256 of a file of this identity."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                report_progress()
                digest.update(chunk)
    except OSError as error:
        raise VideoError(f"cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def hash_video(path: Path) -> str:
    """SHA-256 of a video's file; "" where it cannot be read, of which decoding will tell more."""
    try:
        return _hash_file(path, identify(path))
    except VideoError:
        return ""


def _encode_jpeg(image_hwc: NDArray[np.uint8], quality: int, subsampling: Subsampling) -> bytes:
    buffer = io.BytesIO()
    image = _to_image(image_hwc)
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _to_image(image_hwc: NDArray[np.uint8]) -> Image.Image:
    height, width, _ = image_hwc.shape
    row_bytes, pixel_bytes, _ = image_hwc.strides
    if pixel_bytes != 4:
        return Image.fromarray(image_hwc)
    # Pillow reads the pixels where they lie.
    pixels = cast("NDArray[np.uint8]", image_hwc.base)
    return Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", row_bytes, 1)
