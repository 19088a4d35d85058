import itertools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetrack.data.containers import VideoError, VideoProbe, identify
from kinetrack.data.pictures import _to_padded_rgb
from kinetrack.data.probing import probe_video
from kinetrack.data.video import Frame, decode_isolated, open_video

from factories import (
    draw_frames,
    rewrap_video,
    spoil_frame,
    write_audio,
    write_pictures,
    write_video,
)

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def read_all(
    path: Path, *, start_s: float | None = None, end_s: float | None = None
) -> list[Frame]:
    with open_video(path, start_s=start_s, end_s=end_s) as reader:
        return list(reader)


def to_bytes(frames: Sequence[Frame]) -> list[bytes]:
    return [frame.image_hwc.tobytes() for frame in frames]


def pictures(number: int, *, width: int = 64, height: int = 48) -> list[np.ndarray]:
    return list(draw_frames(number, width=width, height=height))


def test_header_says_what_the_file_promises(video: Path) -> None:
    with open_video(video) as reader:
        assert reader.header == VideoProbe(
            container="avi",
            codec="mpeg4",
            pixel_format="yuv420p",
            width=64,
            height=48,
            fps=25.0,
            promised_frames=10,
            duration_s=0.4,
            video_streams=1,
            has_audio=False,
        )


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


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [
        (".mpg", "mpeg1video", "mpeg"),
        (".ts", "mpeg2video", "mpegts"),
        (".webm", "libvpx", "matroska"),
    ],
)
def test_container_without_a_count_promises_no_number(
    tmp_path: Path, suffix: str, codec: str, container: str
) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=6, codec=codec)
    with open_video(path) as reader:
        assert len(list(reader)) == 6
        assert (reader.header.container, reader.header.promised_frames) == (container, 0)
        assert reader.frames_lost_at_end == 0


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_promises_a_duration(tmp_path: Path, suffix: str, share: float) -> None:
    codec = "libvpx" if suffix == ".webm" else "mpeg4"
    path = write_video(tmp_path / f"a{suffix}", num_frames=60, width=128, height=96, codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with open_video(path) as reader:
        frames = list(reader)
        assert 0 < len(frames) < 60
        # The last frame came, but its packet is cut: it may decode to something.
        assert reader.frames_lost_at_end + len(frames) in (60, 61)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_variable_rate_is_no_loss(tmp_path: Path, suffix: str) -> None:
    times_ms = [0, 40, 110, 120, 210, 240, 333, 350, 400, 490, 555, 560]
    path = write_pictures(tmp_path / f"a{suffix}", pictures(12), times_ms=times_ms)
    with open_video(path) as reader:
        assert len(list(reader)) == 12
        assert reader.frames_lost_at_end == 0
        assert reader.has_variable_rate


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_constant_rate_with_a_gap_is_not_variable(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=40, gaps=[(10, 20)])
    with open_video(path) as reader:
        assert len(list(reader)) == 30
        assert not reader.has_variable_rate


def test_avi_with_b_frames_has_jumbled_times_and_all_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=30, b_frames=2, codec="libx264")
    with open_video(path) as reader:
        assert len(list(reader)) == reader.header.promised_frames == 30
        assert reader.has_jumbled_times
        assert not reader.has_variable_rate


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_times_may_start_anywhere(tmp_path: Path, suffix: str) -> None:
    times_ms = [5_000_000, 5_000_040, 5_000_080]
    path = write_pictures(tmp_path / f"a{suffix}", pictures(3), times_ms=times_ms)
    with open_video(path) as reader:
        assert [frame.slot for frame in reader] == [0, 1, 2]
        assert reader.frames_lost_at_end == 0


def test_rate_that_no_camera_has_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetrack.data.containers.HIGHEST_FPS", 100)
    path = write_video(tmp_path / "a.avi", num_frames=5, fps=600)
    with open_video(path) as reader:
        assert len(list(reader)) == 5
        assert reader.has_absurd_rate
        assert reader.header.fps == 25


def test_frame_rate_may_be_any(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=3, fps=30)
    with open_video(path) as reader:
        assert reader.header.fps == 30.0
        assert not reader.has_absurd_rate


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert len(read_all(write_video(tmp_path / "a.avi", num_frames=1))) == 1


@pytest.mark.parametrize(
    ("width", "height", "pixel_format", "codec"),
    [
        (1, 1, "yuv444p", "libx264"),
        (321, 241, "yuv444p", "libx264"),
        (321, 241, "yuv420p", "libvpx-vp9"),
        (50, 50, "yuv420p", "libx264"),  # no multiple of 8: FFmpeg has a way that leaves the
        (342, 20, "yuv420p", "mpeg4"),  # last columns unwritten (to RGBA, since 8.1)
        (64, 48, "yuv420p10le", "libx264"),
        (64, 48, "yuv422p", "libx264"),
        (64, 48, "bgr0", "ffv1"),
        (64, 48, "gray", "ffv1"),
    ],
)
def test_any_size_and_pixel_format_comes_as_rgb(
    tmp_path: Path, width: int, height: int, pixel_format: str, codec: str
) -> None:
    path = tmp_path / "a.mkv"
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    [frame] = read_all(path)
    assert frame.image_hwc.shape == (height, width, 3)
    assert np.abs(frame.image_hwc.astype(int) - 128).max() <= 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("asked", "told", "turns"), [(90, 90, 1), (180, 180, 2), (-90, 270, 3)])
def test_frames_are_turned_counterclockwise(
    tmp_path: Path, suffix: str, asked: int, told: int, turns: int
) -> None:
    upright = write_video(tmp_path / "a.mp4", num_frames=3)
    turned = rewrap_video(upright, tmp_path / f"b{suffix}", rotation_deg=asked)
    for before, after in zip(read_all(upright), read_all(turned), strict=True):
        assert after.rotation_deg == told
        np.testing.assert_array_equal(np.rot90(before.image_hwc, turns), after.image_hwc)


def test_other_turns_are_left_and_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=3)
    turned = rewrap_video(path, tmp_path / "b.mp4", rotation_deg=45)
    frames = read_all(turned)
    assert {frame.rotation_deg for frame in frames} == {45}
    assert to_bytes(frames) == to_bytes(read_all(path))


def test_mirroring_is_left_and_told(tmp_path: Path) -> None:
    one, path = 1 << 16, write_video(tmp_path / "a.mp4", num_frames=3)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.set_display_matrix([-one, 0, 0, 0, one, 0, 64 * one, 0, 1 << 30])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    frames = read_all(tmp_path / "b.mp4")
    assert all(frame.is_mirrored for frame in frames)
    assert to_bytes(frames) == to_bytes(read_all(path))


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_turned_frames_are_those_of_ffmpeg(tmp_path: Path, rotation_deg: int) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=3)
    path = rewrap_video(path, tmp_path / "b.mp4", rotation_deg=rotation_deg)
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    ours = np.stack([frame.image_hwc for frame in read_all(path)])
    theirs = np.frombuffer(output, dtype=np.uint8).reshape(ours.shape)
    assert np.abs(ours.astype(int) - theirs).mean() < 2  # another version may round otherwise


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


def test_edit_list_of_an_mp4_promises_fewer_frames(tmp_path: Path) -> None:
    """Packets before the edit's start are there to be decoded, not to be shown."""
    source = write_video(tmp_path / "a.mp4", num_frames=30)
    with av.open(str(source)) as whole, av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 5 * 512
                packet.dts -= 5 * 512
                packet.stream = stream
                container.mux(packet)
    with open_video(tmp_path / "b.mp4") as reader:
        frames = list(reader)
        assert len(frames) == reader.header.promised_frames
        assert len(frames) in (25, 30)


SEGMENTED = {
    "avi": ("a.avi", "mpeg4", 0),
    "avi, b": ("b.avi", "mpeg4", 2),
    "mp4": ("c.mp4", "mpeg4", 0),
    "mp4, b": ("d.mp4", "libx264", 3),
    "mp4, late key": ("i.mp4", "mpeg4", 2),
    "mkv, b": ("e.mkv", "libx264", 2),
    "mkv, open": ("h.mkv", "mpeg2video", 2),
    "webm": ("f.webm", "libvpx-vp9", 0),
    "ts, b": ("g.ts", "mpeg2video", 2),
}


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[bytes]]]:
    """Videos of 48 frames with a key frame every 12, and what a whole decode of each gives."""
    folder = tmp_path_factory.mktemp("segments")
    found = {}
    for kind, (name, codec, b_frames) in SEGMENTED.items():
        path = write_video(folder / name, num_frames=48, codec=codec, b_frames=b_frames)
        found[kind] = path, to_bytes(read_all(path))
        assert len(found[kind][1]) == 48
    return found


@pytest.mark.parametrize("kind", SEGMENTED)
@settings(max_examples=20)
@given(start=st.integers(0, 47), length=st.integers(1, 48), shift=st.sampled_from([0, 2e-4, -2e-4]))
def test_segment_has_the_frames_of_the_whole_decode(
    segmented: dict[str, tuple[Path, list[bytes]]],
    kind: str,
    start: int,
    length: int,
    shift: float,
) -> None:
    path, whole = segmented[kind]
    if (
        "avi, b" in kind
    ):  # jumbled times: which frames they are is a matter of taste, not their look
        assert to_bytes(read_all(path, start_s=0, end_s=48 / 25)) == whole
        return
    start_s, end_s = max(start / 25 + shift, 0), (start + length) / 25 + shift
    frames = read_all(path, start_s=start_s, end_s=end_s)
    assert to_bytes(frames) == whole[start : start + length]
    assert [frame.slot for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize("kind", SEGMENTED)
def test_segments_side_by_side_are_the_whole(
    segmented: dict[str, tuple[Path, list[bytes]]], kind: str
) -> None:
    path, whole = segmented[kind]
    edges = [0, 0.3, 0.31, 0.8, 1.5, None]
    parts = [
        to_bytes(read_all(path, start_s=start_s, end_s=end_s))
        for start_s, end_s in itertools.pairwise(edges)
    ]
    assert [frame for part in parts for frame in part] == whole


def test_segment_is_whole_where_pictures_are_refreshed_bit_by_bit(tmp_path: Path) -> None:
    """After such a place to jump to, pictures take a while to be right; no key frame tells it."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    options = {"x264-params": "intra-refresh=1:bframes=2:keyint=10"}
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            image = noise[number // 2 : number // 2 + 48, number : number + 64]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    whole = to_bytes(read_all(tmp_path / "a.mkv"))
    for start in range(1, 59):
        frames = read_all(tmp_path / "a.mkv", start_s=start / 25, end_s=(start + 2) / 25)
        assert to_bytes(frames) == whole[start : start + 2]


@given(edges=st.lists(st.integers(1, 49), unique=True, max_size=4))
@settings(max_examples=20)
def test_segments_of_jumbled_times_are_the_whole_too(
    segmented: dict[str, tuple[Path, list[bytes]]], edges: list[int]
) -> None:
    path = segmented["avi"][0].with_name("jumbled.avi")
    if not path.exists():
        write_video(path, num_frames=48, codec="libx264", b_frames=3)
    parts = [
        read_all(path, start_s=start / 25, end_s=end / 25)
        for start, end in itertools.pairwise([0, *sorted(edges), 51])
    ]
    assert to_bytes([frame for part in parts for frame in part]) == to_bytes(read_all(path))


@pytest.mark.parametrize("kind", ["mp4", "mp4, b", "mkv, b", "webm"])
def test_segment_is_reached_without_decoding_from_the_start(
    segmented: dict[str, tuple[Path, list[bytes]]], kind: str
) -> None:
    path, _ = segmented[kind]
    with open_video(path, start_s=1.8) as reader:
        assert len(list(reader.pictures())) < 24


def test_segment_counts_only_its_own_loss(tmp_path: Path) -> None:
    path = spoil_frame(write_video(tmp_path / "a.avi", num_frames=40), 5)
    for start_s, lost in [(0.0, 1), (0.4, 0)]:
        with open_video(path, start_s=start_s, end_s=start_s + 0.4) as reader:
            list(reader)
            assert (reader.undecodable_packets, reader.frames_lost_at_end) == (lost, 0)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("end_s", "lost"), [(1.5, 0), (1.6, 0), (1.62, 0), (1.64, 1), (2.0, 10)])
def test_segment_that_reaches_over_the_end_lacks_frames(
    tmp_path: Path, suffix: str, end_s: float, lost: int
) -> None:
    codec = "mpeg2video" if suffix == ".ts" else "mpeg4"
    path = write_video(tmp_path / f"a{suffix}", num_frames=40, codec=codec)
    with open_video(path, start_s=1.0, end_s=end_s) as reader:
        list(reader)
        assert reader.frames_lost_at_end == lost


def test_open_segment_of_a_cut_off_video_lacks_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=60, width=128, height=96)
    path.write_bytes(path.read_bytes()[:-2000])
    whole = len(read_all(path))
    with open_video(path, start_s=0.2) as reader:
        assert len(list(reader)) + 5 == whole
        assert reader.frames_lost_at_end == 60 - whole


def make_text(path: Path) -> None:
    path.write_text("no video\n" * 100)


def make_header_only(path: Path) -> None:
    write_video(path, num_frames=10)
    path.write_bytes(path.read_bytes()[:300])


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def make_cover(path: Path) -> None:
    """Sound with a picture on its sleeve."""
    mp4 = path.with_suffix(".mp4")
    with av.open(str(mp4), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")))
        silence = np.zeros((1, 8000), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    mp4.rename(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.touch, "cannot be opened as a video: Invalid data"),
        (make_text, "cannot be opened as a video: Invalid data"),
        (make_header_only, "cannot be opened as a video"),
        (write_audio, "has no video stream"),
        (make_cover, "has no video stream"),
        (lambda path: None, "cannot be opened as a video: No such file"),
        (Path.mkdir, "is no regular file"),
        (os.mkfifo, "is no regular file"),
        (make_socket, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (lambda path: path.symlink_to(path), "cannot be opened as a video: .*symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "cannot be opened as a video: No such file"),
    ],
)
def test_file_without_a_video_is_refused(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "a.avi")
    with pytest.raises(VideoError, match=reason):
        read_all(tmp_path / "a.avi")
    with pytest.raises(VideoError, match=reason):
        probe_video(tmp_path / "a.avi", stall_s=30)


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
    assert probe_video(Path(name), stall_s=30).promised_frames == 10


def test_codec_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=5)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    with pytest.raises(VideoError, match="codec that cannot be decoded"), open_video(path):
        pass


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_frames_too_large_to_decode_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    if codec == "mjpeg":
        path = write_pictures(tmp_path / "a.avi", pictures(3), times_ms=[0, 40, 80])
    else:
        path = write_video(tmp_path / "a.avi", num_frames=5)
    monkeypatch.setattr("kinetrack.data.containers.MOST_PIXELS", 64 * 48 - 1)
    with open_video(path) as reader:
        assert list(reader) == []
        assert (
            "states no frame size, or one of more than 0.003071 million" in reader.explain_nothing()
        )


def test_frame_that_grows_too_large_on_the_way_is_undecodable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [*pictures(2), *pictures(1, width=640, height=480), *pictures(1)]
    path = write_pictures(tmp_path / "a.avi", images, times_ms=[0, 40, 80, 120])
    assert [frame.image_hwc.shape[1] for frame in read_all(path)] == [64, 64, 640, 64]
    monkeypatch.setattr("kinetrack.data.containers.MOST_PIXELS", 64 * 48)
    with open_video(path) as reader:
        assert [frame.image_hwc.shape[1] for frame in reader] == [64, 64, 64]
        assert reader.undecodable_packets == 1


PEAK = """
import re, sys
from pathlib import Path
from kinetrack.data.containers import VideoError
from kinetrack.data.video import (open_video)
def peak():  # of this program alone; getrusage counts what its parent held before it started
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
shapes, before = set(), peak()
try:
    with open_video(Path(sys.argv[1])) as reader:
        shapes = {frame.image_hwc.shape for frame in reader}
except VideoError as error:
    print(error)
print(shapes, peak() - before)
"""


def measure_peak(path: Path) -> tuple[str, int]:
    """What reading a video in a fresh process says, and the memory that it takes, in MB."""
    command = [sys.executable, "-c", PEAK, str(path)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    *words, kilobytes = done.stdout.split()
    return " ".join(words), int(kilobytes) // 1024


@pytest.mark.slow
def test_huge_frames_cost_no_memory(tmp_path: Path) -> None:
    """200 kB of file; decoded, a picture takes 100 MB, and 200 more as RGB."""
    path = write_huge(tmp_path / "a.mp4")
    assert path.stat().st_size < 250_000
    words, megabytes = measure_peak(path)
    assert words == "set()"
    assert megabytes < 60
    with pytest.raises(VideoError, match="states no frame size, or one of more than 40 million px"):
        probe_video(path, stall_s=60)


def write_huge(path: Path) -> Path:
    options = {"preset": "ultrafast", "x264-params": "sync-lookahead=0:rc-lookahead=0:threads=1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 8192, 8192, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(8192, 8192, "yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_frame_that_grows_huge_on_the_way_costs_no_memory(tmp_path: Path) -> None:
    huge = np.zeros((8192, 8192, 3), dtype=np.uint8)
    path = write_pictures(tmp_path / "a.avi", [*pictures(2), huge], times_ms=[0, 40, 80])
    words, megabytes = measure_peak(path)
    assert words == "{(48, 64, 3)}"
    assert megabytes < 60


def test_header_that_lies_about_the_size_costs_no_memory(tmp_path: Path, video: Path) -> None:
    sizes = (64).to_bytes(4, "little") + (48).to_bytes(4, "little")
    lie = (30_000).to_bytes(4, "little") * 2
    (tmp_path / "a.avi").write_bytes(video.read_bytes().replace(sizes, lie))
    words, megabytes = measure_peak(tmp_path / "a.avi")
    assert words in ("{(48, 64, 3)}", "set()")
    assert megabytes < 100


def test_two_video_streams_are_counted_and_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        for width in (32, 64):
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        for image in pictures(5):
            for stream in container.streams.video:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame))
        for stream in container.streams.video:
            container.mux(stream.encode(None))
    with open_video(path) as reader:
        assert len({frame.image_hwc.shape for frame in reader}) == 1
        assert reader.header.video_streams == 2


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(b"one")
    before = identify(path)
    assert identify(path) == before
    path.write_bytes(b"other")
    assert identify(path) != before


def test_probe_tells_the_size_after_a_rotation(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=10)
    path = rewrap_video(path, tmp_path / "b.mp4", rotation_deg=90)
    probe = probe_video(path, stall_s=30)
    assert (probe.width, probe.height, probe.promised_frames) == (48, 64, 10)
    assert probe.duration_s == pytest.approx(0.4)


def test_probe_refuses_a_header_without_a_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", num_frames=10)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    with pytest.raises(VideoError, match=r"cannot be opened|holds no frame"):
        probe_video(path, stall_s=30)


def test_decoder_that_hangs_is_named(video: Path) -> None:
    with pytest.raises(VideoError, match=r"^gave no frame for 1e-06 s$"):
        probe_video(video, stall_s=1e-6)
    assert probe_video(video, stall_s=30).promised_frames == 10


def test_decoder_that_crashes_is_named() -> None:
    with pytest.raises(VideoError, match=r"^crashed the decoder \(SIGABRT\)$"):
        decode_isolated(os.abort, stall_s=30)


FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "nv12", "rgb24")


@pytest.mark.parametrize("pixel_format", FORMATS)
@given(eighths=st.integers(1, 90), height=st.integers(1, 130), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_padded_pixels_are_the_plain_ones(
    pixel_format: str, eighths: int, height: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, 8 * eighths, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    plain = frame.to_ndarray(format="rgb24", threads=1)
    assert np.array_equal(_to_padded_rgb(frame), plain)
