import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinetrack.data.frames import ExtractionReport, Gaps, extract_frames, read_frames
from kinetrack.data.video import VideoError, open_video
from kinetrack.errors import InputError

from factories import spoil_frame, write_audio, write_video


def extract(video: Path, archive: Path, *, gaps: Gaps = "keep") -> ExtractionReport:
    return extract_frames(video, archive, gaps=gaps, jpeg_quality=95, jpeg_subsampling="4:4:4")


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


def test_report_of_a_whole_video(tmp_path: Path, video: Path) -> None:
    report = extract(video, tmp_path / "a.zip")
    assert report.header.promised_frames == 10
    assert report[1:] == (10, 0, 0, 0)


@pytest.mark.parametrize(
    ("suffix", "gaps", "counts"),
    [
        (".avi", "keep", (7, 3, 0, 0)),
        (".avi", "repeat", (10, 0, 3, 0)),
        (".mkv", "keep", (7, 3, 0, 0)),
        (".mkv", "repeat", (10, 0, 3, 0)),
        # An MP4 counts the frames that it holds: time stamps are not held against it.
        (".mp4", "keep", (7, 0, 0, 0)),
        (".mp4", "repeat", (10, 0, 3, 0)),
    ],
)
def test_gap_is_kept_or_filled(
    tmp_path: Path, suffix: str, gaps: Gaps, counts: tuple[int, ...]
) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=10, gaps=[(3, 6)])
    report = extract(path, tmp_path / "a.zip", gaps=gaps)
    assert report[1:] == counts
    assert len(members(tmp_path / "a.zip")) == report.num_frames


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


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("number", [2, 9])
def test_frame_that_cannot_be_decoded_is_corrupt_and_missing(
    tmp_path: Path, suffix: str, number: int
) -> None:
    path = spoil_frame(write_video(tmp_path / f"a{suffix}", num_frames=10), number)
    report = extract(path, tmp_path / "a.zip")
    assert report[1:] == (9, 1, 0, 1)


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


def test_gap_of_minutes_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", num_frames=2000, width=16, height=16, gaps=[(1, 1999)])
    with pytest.raises(VideoError, match="gap of 1998 frames"):
        extract(path, tmp_path / "a.zip", gaps="repeat")


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
    with pytest.raises(InputError, match="cannot identify image"):
        list(read_frames(write_archive(tmp_path / "a.zip", buffer.getvalue()), [0]))


def small_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (250, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


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
