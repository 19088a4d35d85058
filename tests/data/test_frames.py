import hashlib
import io
import itertools
import resource
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinetrack.data.containers import VideoError
from kinetrack.data.frame_archives import read_frames
from kinetrack.data.frames import ExtractionReport, _encode_jpeg, extract_frames
from kinetrack.data.video import open_video
from kinetrack.errors import InputError, WriteError
from kinetrack.isolation import end_idle_children

from factories import (
    draw_frames,
    rewrap_video,
    spoil_frame,
    write_audio,
    write_pictures,
    write_video,
)


def extract(video: Path, archive: Path, **settings: Any) -> ExtractionReport:
    settings = {"gaps": "keep", "jpeg_quality": 95, "jpeg_subsampling": "4:4:4", **settings}
    return extract_frames(video, archive, **settings)


def counts_of(report: ExtractionReport) -> tuple[int, int, int, int]:
    """Written, missing, repeated and corrupt frames."""
    return (
        report.num_frames,
        report.missing_frames,
        report.repeated_frames,
        report.corrupt_frames,
    )


def members(archive: Path) -> list[bytes]:
    with zipfile.ZipFile(archive) as zipped:
        return [zipped.read(name) for name in zipped.namelist()]


@pytest.fixture(scope="module")
def archive(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of ten frames; read only."""
    path = tmp_path_factory.mktemp("frames") / "v_Walk_g01_c01.zip"
    extract(video, path)
    return path


def test_members_are_numbered_stored_and_without_a_date(archive: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        infos = zipped.infolist()
    assert [info.filename for info in infos] == [f"frame_{n:04d}.jpg" for n in range(1, 11)]
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}


def test_same_video_gives_the_same_bytes(tmp_path: Path, video: Path, archive: Path) -> None:
    copy = tmp_path / "other name.avi"
    copy.write_bytes(video.read_bytes())
    extract(copy, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_frames_look_like_the_decoded_ones(video: Path, archive: Path) -> None:
    with open_video(video) as reader:
        decoded = [frame.image_hwc.astype(int) for frame in reader]
    for image, original in zip(read_frames(archive, range(10)), decoded, strict=True):
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image) - original).mean() < 2


def test_padded_pixels_give_the_same_jpeg() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    padded = np.ndarray((30, 40, 3), np.uint8, buffer=pixels.data, strides=(160, 4, 1))
    assert _encode_jpeg(padded, 95, "4:2:0") == _encode_jpeg(padded.copy(), 95, "4:2:0")


def test_report_of_a_whole_video(tmp_path: Path, video: Path) -> None:
    report = extract(video, tmp_path / "a.zip")
    assert report.archive_md5 == hashlib.md5((tmp_path / "a.zip").read_bytes()).hexdigest()
    assert report._replace(frames_sha256="", archive_md5="") == ExtractionReport(
        container="avi",
        codec="mpeg4",
        pixel_format="yuv420p",
        width=64,
        height=48,
        rotation_deg=0,
        fps=25.0,
        promised_frames=10,
        decoded_frames=10,
        gap_frames=0,
        repeated_frames=0,
        num_frames=10,
        missing_frames=0,
        corrupt_frames=0,
        video_sha256=hashlib.sha256(video.read_bytes()).hexdigest(),
        frames_sha256="",
        notes=(),
    )
    assert len(report.frames_sha256) == 64


def test_child_process_gives_the_same_bytes_and_report(
    tmp_path: Path, video: Path, archive: Path
) -> None:
    there = extract(video, tmp_path / "there.zip", stall_s=30)
    assert there == extract(video, tmp_path / "here.zip")
    assert (tmp_path / "there.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "gaps", "counts", "notes"),
    [
        (".avi", "keep", (7, 3, 0, 0), ("3 of 10 frames missing",)),
        (".avi", "repeat", (10, 0, 3, 0), ("3 frames repeated",)),
        # These promise no number that holds the gap: time stamps are not held against them.
        (".mkv", "keep", (7, 0, 0, 0), ("time stamps leave 3 places empty",)),
        (".mkv", "repeat", (10, 0, 3, 0), ("3 frames repeated",)),
        (".mp4", "keep", (7, 0, 0, 0), ("time stamps leave 3 places empty",)),
        (".mp4", "repeat", (10, 0, 3, 0), ("3 frames repeated",)),
        (".ts", "keep", (7, 0, 0, 0), ("time stamps leave 3 places empty",)),
    ],
)
def test_gap_is_kept_or_filled(
    tmp_path: Path, suffix: str, gaps: str, counts: tuple[int, ...], notes: tuple[str, ...]
) -> None:
    codec = "mpeg2video" if suffix == ".ts" else "mpeg4"
    path = write_video(tmp_path / f"a{suffix}", num_frames=10, gaps=[(3, 6)], codec=codec)
    report = extract(path, tmp_path / "a.zip", gaps=gaps)
    assert counts_of(report) == counts
    assert (report.decoded_frames, report.gap_frames) == (7, 3)
    assert report.notes == notes
    assert len(members(tmp_path / "a.zip")) == report.num_frames


def test_jumbled_times_are_no_gap_to_look_at(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=30, b_frames=2, codec="libx264")
    report = extract(path, tmp_path / "a.zip")
    assert report.gap_frames > 0
    assert counts_of(report) == (30, 0, 0, 0)
    assert report.notes == ()


def test_gap_is_filled_with_the_frame_before_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=10, gaps=[(3, 6)])
    extract(path, tmp_path / "kept.zip", gaps="keep")
    extract(path, tmp_path / "filled.zip", gaps="repeat")
    kept, filled = members(tmp_path / "kept.zip"), members(tmp_path / "filled.zip")
    assert filled == kept[:3] + [kept[2]] * 3 + kept[3:]


def test_truncated_video_is_missing_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=60, width=128, height=96)
    path.write_bytes(path.read_bytes()[:-2000])
    report = extract(path, tmp_path / "a.zip")
    assert report.missing_frames > 0
    assert report.num_frames + report.missing_frames == 60
    assert report.notes[0] == f"{report.missing_frames} of 60 frames missing"


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("number", [2, 9])
def test_frame_that_cannot_be_decoded_is_corrupt_and_missing(
    tmp_path: Path, suffix: str, number: int
) -> None:
    path = spoil_frame(write_video(tmp_path / f"a{suffix}", num_frames=10), number)
    report = extract(path, tmp_path / "a.zip")
    assert counts_of(report) == (9, 1, 0, 1)
    assert report.notes == ("1 of 10 frames missing", "1 corrupt frame")


@pytest.mark.parametrize("old", [None, b"old"])
def test_video_without_frames_writes_no_archive(tmp_path: Path, old: bytes | None) -> None:
    video, archive = write_audio(tmp_path / "a.avi"), tmp_path / "a.zip"
    if old:
        archive.write_bytes(old)
    with pytest.raises(VideoError, match="no video stream"):
        extract(video, archive)
    assert (archive.read_bytes() if archive.exists() else None) == old


def test_header_without_a_picture_writes_no_archive(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=10)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(VideoError):
        extract(path, tmp_path / "a.zip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.avi"]


def test_gap_of_minutes_is_not_filled(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", num_frames=2000, width=16, height=16, gaps=[(1, 1999)])
    with pytest.raises(VideoError, match=r"time stamps that leave a gap of 1998 frames.* keep"):
        extract(path, tmp_path / "a.zip", gaps="repeat")
    report = extract(path, tmp_path / "a.zip", gaps="keep")
    assert (report.num_frames, report.gap_frames) == (2, 1998)


def test_many_gaps_do_not_fill_the_disk(tmp_path: Path) -> None:
    gaps = [(start, start + 99) for start in range(1, 4000, 100)]
    path = write_video(tmp_path / "a.mkv", num_frames=4000, width=16, height=16, gaps=gaps)
    with pytest.raises(VideoError, match="time stamps that leave a gap of 99 frames"):
        extract(path, tmp_path / "a.zip", gaps="repeat")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mkv"]
    assert extract(path, tmp_path / "a.zip").notes[-1] == "variable frame rate"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
@pytest.mark.parametrize("gaps", [[], [(3, 6)], [(1, 2), (5, 9), (20, 21)]])
def test_repeat_gives_as_many_frames_as_ffmpeg(
    tmp_path: Path, suffix: str, gaps: list[tuple[int, int]]
) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=30, gaps=gaps)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "frame_%04d.jpg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    report = extract(path, tmp_path / "a.zip", gaps="repeat")
    assert report.num_frames == len(list(tmp_path.glob("frame_*.jpg")))


def test_one_frame_is_noted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=1)
    assert extract(path, tmp_path / "a.zip").notes == ("one frame",)


def test_turned_frames_have_the_size_of_the_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=4)
    turned = rewrap_video(path, tmp_path / "b.mp4", rotation_deg=90)
    report = extract(turned, tmp_path / "b.zip")
    assert (report.width, report.height, report.rotation_deg, report.notes) == (48, 64, 90, ())
    assert {image.size for image in read_frames(tmp_path / "b.zip", range(4))} == {(48, 64)}


def test_other_turn_is_noted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=4)
    turned = rewrap_video(path, tmp_path / "b.mp4", rotation_deg=45)
    report = extract(turned, tmp_path / "b.zip")
    assert report.notes == ("asks for a turn by 45 degrees, left as it is",)


def test_change_of_size_is_noted(tmp_path: Path) -> None:
    images = [*draw_frames(3, width=64, height=48), *draw_frames(3, width=32, height=48)]
    path = write_pictures(tmp_path / "a.avi", images, times_ms=[0, 40, 80, 120, 160, 200])
    report = extract(path, tmp_path / "a.zip")
    assert (report.num_frames, report.width, report.height) == (6, 64, 48)
    assert "frame size changes" in report.notes
    sizes = [image.size for image in read_frames(tmp_path / "a.zip", range(6))]
    assert sizes == [(64, 48)] * 3 + [(32, 48)] * 3


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_same_frames_in_another_container_have_the_same_hash(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=12)
    copy = rewrap_video(path, tmp_path / f"b{suffix}")
    original, wrapped = extract(path, tmp_path / "a.zip"), extract(copy, tmp_path / "b.zip")
    assert original.frames_sha256 == wrapped.frames_sha256
    assert original.video_sha256 != wrapped.video_sha256


def test_repeated_frames_do_not_count_in_the_hash(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=12, gaps=[(4, 6)])
    kept = extract(path, tmp_path / "a.zip", gaps="keep")
    filled = extract(path, tmp_path / "b.zip", gaps="repeat")
    assert kept.frames_sha256 == filled.frames_sha256


@pytest.mark.parametrize("other", [{"num_frames": 11}, {"height": 40}, {"gaps": [(4, 5)]}])
def test_other_frames_have_another_hash(tmp_path: Path, video: Path, other: dict[str, Any]) -> None:
    path = write_video(tmp_path / "a.avi", **{"num_frames": 10, **other})
    reports = [extract(video, tmp_path / "a.zip"), extract(path, tmp_path / "b.zip")]
    assert reports[0].frames_sha256 != reports[1].frames_sha256


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_segment_from_end_to_end_is_the_whole(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=20)
    whole = extract(path, tmp_path / "a.zip")
    segment = extract(path, tmp_path / "b.zip", start_s=0.0, end_s=0.8)
    assert segment._replace(promised_frames=whole.promised_frames) == whole
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_segments_of_one_video_share_its_hash_and_not_that_of_the_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=20)
    reports = [
        extract(path, tmp_path / "a.zip", start_s=start_s, end_s=start_s + 0.4)
        for start_s in (0.0, 0.4)
    ]
    assert reports[0].video_sha256 == reports[1].video_sha256
    assert reports[0].frames_sha256 != reports[1].frames_sha256
    assert [counts_of(report) for report in reports] == [(10, 0, 0, 0)] * 2


def test_segment_over_the_end_misses_frames(tmp_path: Path, video: Path) -> None:
    report = extract(video, tmp_path / "a.zip", start_s=0.2, end_s=0.6)
    assert counts_of(report) == (5, 5, 0, 0)
    assert report.notes == ("5 of 10 frames missing",)


@pytest.mark.parametrize("stall_s", [None, 30])
def test_segment_behind_the_end_is_broken(
    tmp_path: Path, video: Path, stall_s: float | None
) -> None:
    with pytest.raises(VideoError, match=r"nothing at 9\.5 s: the video ends at 0\.4 s"):
        extract(video, tmp_path / "a.zip", start_s=9.5, end_s=9.9, stall_s=stall_s)
    assert list(tmp_path.iterdir()) == []


def test_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=5)

    def append(*_: object) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return small_jpeg()

    monkeypatch.setattr("kinetrack.data.frames._encode_jpeg", append)
    with pytest.raises(VideoError, match=r"^changed while it was read$"):
        extract(path, tmp_path / "a.zip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.avi"]


def test_decoder_that_is_ended_leaves_nothing_behind(tmp_path: Path, video: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"old")
    with pytest.raises(VideoError, match="gave no frame for 1e-06 s"):
        extract(video, tmp_path / "a.zip", stall_s=1e-6)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("stall_s", [None, 30])
def test_full_disk_is_no_fault_of_the_video(
    tmp_path: Path, video: Path, stall_s: float | None
) -> None:
    end_idle_children()  # a new one inherits the limit
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="File too large"):
            extract(video, tmp_path / "a.zip", stall_s=stall_s)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        end_idle_children()
    assert list(tmp_path.iterdir()) == []


def test_frames_are_read_in_the_order_asked_for(archive: Path) -> None:
    images = list(read_frames(archive, [4, 0, 4]))
    jpegs = members(archive)
    expected = [Image.open(io.BytesIO(jpegs[index])) for index in (4, 0, 4)]
    assert [image.tobytes() for image in images] == [image.tobytes() for image in expected]


def write_archive(path: Path, jpeg: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("frame_0001.jpg", jpeg)
    return path


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x05\x06"])
def test_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip: is no whole frame archive.* -> dvc repro"):
        list(read_frames(tmp_path / "a.zip", [0]))


def test_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip: is no whole frame archive"):
        list(read_frames(tmp_path / "a.zip", [0]))


def test_frame_that_is_not_there_is_named(archive: Path) -> None:
    with pytest.raises(InputError, match=r"frame_0011\.jpg"):
        list(read_frames(archive, [10]))


@pytest.mark.parametrize("name", ["GIF", "PNG", "PPM"])
def test_frame_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, name)
    with pytest.raises(InputError, match="not a JPEG file"):
        list(read_frames(write_archive(tmp_path / "a.zip", buffer.getvalue()), [0]))


def small_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (250, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_packed_frame_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A thousand times as large inside, as a header of many segments that Pillow keeps."""
    segments = b"\xff\xe1\xff\xff" + bytes(65533)
    jpeg = small_jpeg()
    content = jpeg[:2] + segments * 2000 + jpeg[2:]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("frame_0001.jpg", content)
    assert (tmp_path / "a.zip").stat().st_size < 2**20
    with pytest.raises(InputError, match="is no whole frame archive, found packed members"):
        list(read_frames(tmp_path / "a.zip", [0]))


@pytest.mark.parametrize(
    ("size", "mode", "is_progressive", "found"),
    [
        ((8001, 5000), "RGB", False, "8001 x 5000 px, RGB"),
        ((8, 8), "CMYK", False, "8 x 8 px, CMYK"),
        ((8, 8), "RGB", True, "8 x 8 px, RGB, progressive"),
    ],
)
def test_picture_that_no_stage_writes_is_refused(
    tmp_path: Path, size: tuple[int, int], mode: str, is_progressive: bool, found: str
) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "JPEG", progressive=is_progressive)
    jpeg = forge_size(buffer.getvalue(), size)
    with pytest.raises(InputError, match=rf"found frame_0001\.jpg of {found}"):
        list(read_frames(write_archive(tmp_path / "a.zip", jpeg), [0]))


def forge_size(jpeg: bytes, size: tuple[int, int]) -> bytes:
    """Change what the header says of width and height."""
    at = jpeg.index(b"\xff\xc2" if b"\xff\xc2" in jpeg else b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">2H", size[1], size[0]) + jpeg[at + 4 :]


def test_truncated_frame_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.zip", small_jpeg()[:-20])
    with pytest.raises(InputError, match="is no whole frame archive"):
        list(read_frames(archive, [0]))


def test_frame_with_a_huge_size_in_its_header_is_refused(tmp_path: Path) -> None:
    jpeg = bytearray(small_jpeg())
    size = jpeg.index(b"\xff\xc0") + 5  # start of frame: length, precision, height, width
    jpeg[size : size + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(InputError, match="is no whole frame archive"):
        list(read_frames(write_archive(tmp_path / "a.zip", bytes(jpeg)), [0]))


def test_any_damaged_byte_around_the_pictures_is_harmless_or_named(tmp_path: Path) -> None:
    path, jpeg = write_archive(tmp_path / "a.zip", small_jpeg()), small_jpeg()
    content, surprises = path.read_bytes(), set()
    picture = range(content.index(jpeg), content.index(jpeg) + len(jpeg))
    places = [place for place in range(len(content)) if place not in picture]
    for place, mask in itertools.product(places, (0x01, 0x20, 0xFF)):
        damaged = bytearray(content)
        damaged[place] ^= mask
        path.write_bytes(damaged)
        try:
            list(read_frames(path, [0]))
        except InputError:
            continue
        except Exception as error:
            surprises.add(f"{type(error).__name__}: {error}")
    assert not surprises


def test_packet_whose_gap_is_filled_is_not_missing(tmp_path: Path) -> None:
    path = spoil_frame(write_video(tmp_path / "a.avi", num_frames=20), 8)
    kept = extract(path, tmp_path / "kept.zip", gaps="keep")
    filled = extract(path, tmp_path / "filled.zip", gaps="repeat")
    assert (kept.num_frames, kept.missing_frames, kept.corrupt_frames) == (19, 1, 1)
    assert (filled.num_frames, filled.missing_frames, filled.repeated_frames) == (20, 0, 1)
