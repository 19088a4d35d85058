from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from kinetrack.data.video import Frame, VideoError, VideoHeader, open_video

from factories import draw_frames, spoil_frame, write_audio, write_video


def read_all(path: Path) -> list[Frame]:
    with open_video(path) as reader:
        return list(reader)


def test_header_says_what_the_file_promises(video: Path) -> None:
    with open_video(video) as reader:
        assert reader.header == VideoHeader(width=64, height=48, fps=25.0, promised_frames=10)


def test_frames_are_the_pictures_in_order(video: Path) -> None:
    frames = read_all(video)
    assert len(frames) == 10
    for frame, drawn in zip(frames, draw_frames(10, width=64, height=48), strict=True):
        assert frame.image_hwc.shape == (48, 64, 3)
        assert frame.image_hwc.dtype == np.uint8
        assert np.abs(frame.image_hwc.astype(int) - drawn).mean() < 12


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(
    ("gaps", "slots"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ([(3, 6)], [0, 1, 2, 6, 7, 8, 9]),
        ([(1, 2), (5, 7)], [0, 2, 3, 4, 7, 8, 9]),
    ],
)
def test_gaps_in_the_time_stamps_leave_slots_free(
    tmp_path: Path, suffix: str, gaps: list[tuple[int, int]], slots: list[int]
) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=10, gaps=gaps)
    assert [frame.slot for frame in read_all(path)] == slots


def test_slots_count_from_the_first_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", num_frames=5, gaps=[(0, 2)])
    assert [frame.slot for frame in read_all(path)] == [0, 1, 2]


@pytest.mark.parametrize(("suffix", "codec"), [(".mpg", "mpeg1video"), (".webm", "libvpx")])
def test_container_without_a_count_promises_nothing(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=6, codec=codec)
    with open_video(path) as reader:
        assert (reader.header.promised_frames, len(list(reader))) == (0, 6)


def test_frame_rate_may_be_any(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=3, fps=30)
    with open_video(path) as reader:
        assert reader.header.fps == 30.0


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert len(read_all(write_video(tmp_path / "a.avi", num_frames=1))) == 1


def test_truncated_file_gives_fewer_frames_than_it_promises(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.avi", num_frames=60, width=128, height=96)
    whole.write_bytes(whole.read_bytes()[:-2000])
    with open_video(whole) as reader:
        frames = list(reader)
        assert 0 < len(frames) < reader.header.promised_frames == 60
    assert [frame.slot for frame in frames] == list(range(len(frames)))


def test_packet_that_cannot_be_decoded_is_counted(tmp_path: Path) -> None:
    path = spoil_frame(write_video(tmp_path / "a.avi", num_frames=10), 2)
    with open_video(path) as reader:
        frames = list(reader)
        assert len(frames) + reader.undecodable_packets == 10
        assert reader.undecodable_packets == 1


def make_text(path: Path) -> None:
    path.write_text("no video\n" * 100)


def make_header_only(path: Path) -> None:
    write_video(path, num_frames=10)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.touch, "cannot be opened as a video: Invalid data"),
        (make_text, "cannot be opened as a video: Invalid data"),
        (make_header_only, "cannot be opened as a video"),
        (Path.mkdir, "cannot be opened as a video: Is a directory"),
        (write_audio, "has no video stream"),
        (lambda path: None, "cannot be opened as a video: No such file"),
    ],
)
def test_file_without_a_video_is_refused(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "a.avi")
    with pytest.raises(VideoError, match=reason):
        read_all(tmp_path / "a.avi")


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile 'other.avi'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.avi\n#EXT-X-ENDLIST\n",
    ],
)
def test_playlist_does_not_open_another_file(tmp_path: Path, playlist: str) -> None:
    write_video(tmp_path / "other.avi", num_frames=3)
    (tmp_path / "a.avi").write_text(playlist)
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        read_all(tmp_path / "a.avi")


def test_playlist_would_open_another_file_unasked(tmp_path: Path) -> None:
    """What the test above guards against is real."""
    write_video(tmp_path / "other.avi", num_frames=3)
    (tmp_path / "a.avi").write_text("ffconcat version 1.0\nfile 'other.avi'\n")
    with av.open(str(tmp_path / "a.avi")) as container:
        assert len(list(container.decode(video=0))) == 3


@pytest.mark.parametrize("name", ["file:a.avi", "concat:x.avi", "-i.avi", "a %04d\n🏃.avi"])
def test_name_is_never_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read_all(Path(name))) == 10


def test_codec_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=5)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    with pytest.raises(VideoError, match="codec that cannot be decoded"), open_video(path):
        pass


def test_frames_too_large_to_decode_are_refused_by_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=5, width=64, height=48)
    monkeypatch.setattr("kinetrack.data.video._MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="64 x 48 px, too many"), open_video(path):
        pass
