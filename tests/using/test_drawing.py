import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kinetrack import disk
from kinetrack.errors import InputError, WriteError
from kinetrack.using import drawing
from kinetrack.using.answers import Prediction, Step
from kinetrack.using.drawing import DrawnForm, draw_video, drawn_path
from kinetrack.using.timeline import Footage, decode_footage

from factories import DECODING, write_pictures, write_video
from failing_disk import FailingDisk, Trouble

FORMS: list[DrawnForm] = ["mp4", "gif"]


def told(*labels: str, step_s: float = 1) -> list[Step]:
    """Steps with these labels; an empty one has no answer."""
    return [
        Step(
            place * step_s,
            (place + 1) * step_s,
            Prediction((label,), (0.75,), num_frames=25) if label else None,
            "" if label else "too short",
        )
        for place, label in enumerate(labels)
    ]


def decode(folder: Path, **options: Any) -> Footage:
    video = write_video(folder / "v.mkv", **options)
    return decode_footage(video, folder / "footage", decoding=DECODING)


def read(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """All pictures RGB, and when they are shown."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [
        round(frame.time or 0, 3) for frame in frames
    ]


def test_mp4_has_every_frame_at_its_time(tmp_path: Path) -> None:
    footage = decode(tmp_path, num_frames=60, width=320, height=240)
    draw_video(tmp_path / "drawn.mp4", footage, told("Jump", "Walk", ""), form="mp4")
    with av.open(str(tmp_path / "drawn.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
    pictures, times_s = read(tmp_path / "drawn.mp4")
    assert times_s == [round(number / 25, 3) for number in range(60)]
    sources, _ = read(tmp_path / "v.mkv")
    for picture, source in zip(pictures, sources, strict=True):
        assert picture.shape == (240, 320, 3)
        assert np.abs(picture[:200].astype(int) - source[:200]).mean() < 3


@pytest.mark.parametrize("form", FORMS)
def test_each_frame_has_the_label_of_its_step(tmp_path: Path, form: DrawnForm) -> None:
    footage = decode(tmp_path, num_frames=75, width=320, height=240)
    draw_video(tmp_path / "drawn", footage, told("Jump", "Walk", "Jump"), form=form)
    pictures, times_s = read(tmp_path / "drawn")
    bands = [picture[-20:].astype(int) for picture in pictures]
    walks = [1 <= time_s < 2 for time_s in times_s]
    assert 8 <= sum(walks) <= 25
    jump, walk = bands[0], bands[len(bands) // 2]
    for band, is_walk in zip(bands, walks, strict=True):
        nearer_to_walk = np.abs(band - walk).mean() < np.abs(band - jump).mean()
        assert bool(nearer_to_walk) is is_walk


def test_real_time_stamps_are_kept(tmp_path: Path) -> None:
    times_ms = [0, 40, 110, 120, 210, 240, 333, 350, 400, 490, 555, 560]
    images = [np.full((48, 64, 3), 20 * number, dtype=np.uint8) for number in range(12)]
    video = write_pictures(tmp_path / "v.mkv", images, times_ms=times_ms)
    footage = decode_footage(video, tmp_path / "footage", decoding=DECODING)
    draw_video(tmp_path / "drawn.mp4", footage, told("Jump"), form="mp4")
    assert read(tmp_path / "drawn.mp4")[1] == [time_ms / 1000 for time_ms in times_ms]


def test_gif_is_small_and_slow(tmp_path: Path) -> None:
    footage = decode(tmp_path, num_frames=61, width=960, height=320, fps=30)
    draw_video(tmp_path / "drawn.gif", footage, told("Jump", "Walk"), form="gif")
    with Image.open(tmp_path / "drawn.gif") as image:
        assert (image.format, image.size, image.n_frames) == ("GIF", (480, 160), 21)
        assert image.info["loop"] == 0
        image.seek(3)
        assert image.info["duration"] == 100
        shown = np.asarray(image.convert("RGB"), dtype=int)
    with Image.open(tmp_path / "drawn.gif") as image:
        assert np.abs(shown - np.asarray(image.convert("RGB"), dtype=int)).max() > 50
    source = np.asarray(Image.fromarray(read(tmp_path / "v.mkv")[0][9]).resize((480, 160)))
    assert np.abs(shown[:130] - source[:130]).mean() < 10


@pytest.mark.parametrize(
    ("size", "drawn", "in_gif"),
    [
        ((320, 240), (320, 240), (320, 240)),
        ((64, 48), (320, 240), (320, 240)),
        ((1, 1), (320, 320), (320, 320)),
        ((173, 131), (320, 242), (320, 242)),
        ((321, 241), (320, 240), (320, 240)),
        ((1080, 1920), (1080, 1920), (480, 853)),
        ((7680, 4320), (1920, 1080), (480, 270)),
        ((4000, 2), (1920, 2), (480, 1)),
    ],
)
def test_sizes(size: tuple[int, int], drawn: tuple[int, int], in_gif: tuple[int, int]) -> None:
    assert drawing._mp4_size(size) == drawn
    assert drawing._gif_size(size) == in_gif


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("width", "height"), [(17, 33), (402, 2)])
def test_odd_sizes_are_encoded(tmp_path: Path, form: DrawnForm, width: int, height: int) -> None:
    images = [np.zeros((height, width, 3), dtype=np.uint8)] * 3
    video = write_pictures(tmp_path / "v.mkv", images, times_ms=[0, 40, 80])
    footage = decode_footage(video, tmp_path / "footage", decoding=DECODING)
    draw_video(tmp_path / "drawn", footage, told("Jump"), form=form)
    assert read(tmp_path / "drawn")[0]


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(1), 120])
def test_frame_rate_is_the_original(tmp_path: Path, fps: Fraction) -> None:
    footage = decode(tmp_path, num_frames=10)
    times = footage.times._replace(starts_s=np.arange(10) / float(fps), fps=float(fps))
    draw_video(tmp_path / "d.mp4", footage._replace(times=times), told("Jump"), form="mp4")
    with av.open(str(tmp_path / "d.mp4")) as container:
        assert container.streams.video[0].average_rate == fps


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(120000, 1001), 9999.5])
def test_without_an_encoder_for_h264_it_is_mpeg4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fps: float
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    footage = decode(tmp_path, num_frames=10)
    times = footage.times._replace(starts_s=np.arange(10) / float(fps), fps=float(fps))
    draw_video(tmp_path / "d.mp4", footage._replace(times=times), told("Jump"), form="mp4")
    with av.open(str(tmp_path / "d.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert len(list(container.decode(video=0))) == 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("trouble", ["full", "dead"])
def test_disk_that_fails_at_any_moment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: DrawnForm, trouble: Trouble
) -> None:
    footage = decode(tmp_path, num_frames=6)
    path = tmp_path / "drawn" / f"a.{form}"
    for passing in range(1000):
        marker = tmp_path / "failed"
        monkeypatch.setattr(disk, "operations", FailingDisk(passing, trouble, marker))
        try:
            draw_video(path, footage, told("Jump"), form=form)
            break
        except WriteError as error:
            said = str(error)
        assert said.startswith(f"{path}: cannot be written")
        assert not path.exists()
        if trouble == "full" and passing:
            assert list(path.parent.iterdir()) == []
    assert passing > 4
    assert len(read(path)[0]) > 0


def test_what_cannot_be_encoded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    footage = decode(tmp_path, num_frames=5)
    monkeypatch.setattr(drawing, "_mp4_size", lambda size: (321, 241))
    with pytest.raises(InputError, match=r"a\.mp4: cannot be encoded"):
        draw_video(tmp_path / "drawn/a.mp4", footage, told("Jump"), form="mp4")
    assert list((tmp_path / "drawn").iterdir()) == []


def test_two_videos_never_have_one_copy(tmp_path: Path) -> None:
    names = ["a/clip.mp4", "b/clip.mp4", "a/clip.avi", "a/clip.mp4"]
    paths = [drawn_path(tmp_path, Path(name), "mp4") for name in names]
    assert len(set(paths)) == 3
    assert paths[0] == paths[3] == drawn_path(tmp_path, Path("a/clip.mp4").absolute(), "mp4")
    assert paths[0].name.startswith("clip-")
    assert drawn_path(tmp_path, Path("a/clip.mp4"), "gif").suffix == ".gif"


@pytest.mark.parametrize(
    "name",
    [
        "..mp4",
        "...",
        "-rf.mp4",
        "a\nb.mp4",
        os.fsdecode(b"bad\xff.mp4"),
        "é" * 120 + ".mp4",
        "\U0001f3ca.mp4",
        "a:b*c?<d>|e.mp4",
        "~",
        ".hidden.mp4",
    ],
)
def test_names_are_plain_and_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    path = drawn_path(tmp_path, Path(name), "mp4")
    assert path.parent == tmp_path
    assert path.name.isprintable()
    assert not path.name.startswith((".", "-"))
    assert not set(path.name) & set('/\\:*?<>|"\n~')
    assert len(path.name.encode()) <= 120
    path.write_text("")


def test_a_second_time_replaces_the_first(tmp_path: Path) -> None:
    footage = decode(tmp_path, num_frames=5)
    path = tmp_path / "drawn/a.mp4"
    for _ in range(2):
        draw_video(path, footage, told("Jump"), form="mp4")
        assert [entry.name for entry in path.parent.iterdir()] == ["a.mp4"]
    outside = tmp_path / "outside"
    outside.write_text("keep")
    path.unlink()
    path.symlink_to(outside)
    draw_video(path, footage, told("Jump"), form="mp4")
    assert outside.read_text() == "keep"
    assert not path.is_symlink()


def test_frames_are_told_as_they_are_drawn(tmp_path: Path) -> None:
    footage = decode(tmp_path, num_frames=7)
    seen = []

    def watch(frames: Any) -> Any:
        for frame in frames:
            seen.append(frame)
            yield frame

    draw_video(tmp_path / "a.mp4", footage, told("Jump"), form="mp4", watch=watch)
    assert seen == list(range(7))
