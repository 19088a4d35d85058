"""A window of a long video is answered as if it were a clip of its own."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from kinetrack.data.frames import extract_frames
from kinetrack.errors import InputError
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.using.inference import Recogniser
from kinetrack.using.prediction import check_length, choose_views, cut_clip
from kinetrack.using.timeline import Look, decode_footage, look_through

from factories import DECODING, GEOMETRY, model_card, write_video

GEOMETRIES = [
    {},
    {"sampling": "center", "stride": 2},
    {"sampling": "random", "spare_frames": 3, "spare_px": 4},
    {"sampling": "random", "spare_frames": "all", "crop": "squash"},
    {"num_frames": 40, "short_clips": "stretch"},
    {"sampling": "center", "num_frames": 40, "short_clips": "loop"},
]


def recogniser(**geometry: Any) -> Recogniser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small3dCnn(num_classes=2).eval()
    clip = GEOMETRY.model_copy(update={"num_frames": 6, "resize_px": 24, **geometry})
    return Recogniser(model, model_card().model_copy(update={"clip": clip}))


def looks(video: Path, folder: Path, *, window_s: float, stride_s: float, **geometry: Any) -> Any:
    footage = decode_footage(video, folder, decoding=DECODING)
    clip = recogniser(**geometry).card.clip
    return list(look_through(footage, clip, window_s=window_s, stride_s=stride_s))


def take_frames(video: Path, target: Path, frames: range) -> Path:
    """Put some frames, each coded by itself, into a video of their own."""
    with av.open(str(video)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        start = packets[frames.start].pts
        for packet in packets[frames.start : frames.stop]:
            packet.pts = packet.dts = packet.pts - start
            packet.stream = stream
            container.mux(packet)
    return target


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_windows_are_bit_for_bit_those_of_the_segments_that_frames_makes(
    tmp_path: Path, geometry: dict[str, Any]
) -> None:
    video = write_video(tmp_path / "v.avi", num_frames=70, fps=10, b_frames=2)
    clip = recogniser(**geometry).card.clip
    found = looks(video, tmp_path / "found", window_s=2, stride_s=1, **geometry)
    assert [(look.start_s, look.end_s) for look in found] == [(k, k + 1) for k in range(7)]
    # The middle of a step is at a half: at both ends the window is moved inside.
    starts = [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5]
    for look, start_s in zip(found, starts, strict=True):
        archive = tmp_path / "segment.zip"
        report = extract_frames(
            video, archive, **DECODING.model_dump(), start_s=start_s, end_s=start_s + 2
        )
        check_length(video, clip, report.num_frames)
        (indices,) = choose_views(clip, report.num_frames)
        np.testing.assert_array_equal(look.prepared.clips[0], cut_clip(archive, indices, clip))
        assert look.prepared.num_frames == report.num_frames == 20


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_answers_are_those_for_videos_of_just_these_frames(
    tmp_path: Path, geometry: dict[str, Any]
) -> None:
    model = recogniser(**geometry)
    video = write_video(tmp_path / "v.mkv", num_frames=45, key_every=1)
    told = model.timeline(video, window_s=0.6, stride_s=0.4)
    assert (told.num_frames, told.duration_s, told.notes) == (45, 1.8, ())
    assert [round(step.start_s, 3) for step in told.steps] == [0, 0.4, 0.8, 1.2, 1.6]
    for step, first in zip(told.steps, [0, 8, 18, 28, 30], strict=True):
        part = take_frames(video, tmp_path / "part.mkv", range(first, first + 15))
        assert step.prediction == model.predict(part, views=1)


def test_window_longer_than_the_video_is_the_video(tmp_path: Path) -> None:
    model, video = recogniser(), write_video(tmp_path / "v.avi", num_frames=60)
    told = model.timeline(video, window_s=100)
    assert [(step.start_s, step.end_s) for step in told.steps] == [(0, 1), (1, 2), (2, 2.4)]
    assert {step.prediction for step in told.steps} == {model.predict(video)}


def test_equal_windows_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, video = recogniser(), write_video(tmp_path / "v.avi", num_frames=20, fps=10)
    asked = []
    real = model.answer
    monkeypatch.setattr(model, "answer", lambda prepared: asked.append(1) or real(prepared))
    assert len(model.timeline(video, window_s=1, stride_s=0.05).steps) == 40
    assert len(asked) == 11


def test_windows_are_read_when_they_are_due(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", num_frames=60, fps=10)
    footage = decode_footage(video, tmp_path / "footage", decoding=DECODING)
    clip = recogniser().card.clip
    found = look_through(footage, clip, window_s=1, stride_s=1)
    held: Look = next(found)
    assert held.prepared
    assert sorted(path.name for path in footage.archive.parent.iterdir()) == [
        "clip.zip",
        "window.zip",
    ]
    assert (footage.archive.parent / "window.zip").stat().st_size < (
        footage.archive.stat().st_size / 5
    )


@pytest.mark.parametrize(
    ("window_s", "geometry", "message"),
    [
        (
            0.2,
            {},
            r"v\.avi: has windows of 0.2 s that are too short for this model, found 5 frames,"
            r" expected at least 6 -> a window of 0.24 s or more",
        ),
        (
            0.3,
            {"sampling": "center", "stride": 3},
            r"found 8 frames, expected at least 16 -> a window of 0.64 s",
        ),
        (5, {"num_frames": 100}, "is too short for this model, found 50 frames, .* at least 100"),
        (0.001, {"short_clips": "stretch"}, "found 0 frames, expected at least 1 -> .* 0.04 s"),
    ],
)
def test_windows_too_short_for_the_model_are_told(
    tmp_path: Path, window_s: float, geometry: dict[str, Any], message: str
) -> None:
    video = write_video(tmp_path / "v.avi", num_frames=50)
    with pytest.raises(InputError, match=message):
        recogniser(**geometry).timeline(video, window_s=window_s)


def test_the_window_that_is_named_is_long_enough(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", num_frames=50, fps=30)
    with pytest.raises(InputError) as told:
        recogniser(num_frames=7).timeline(video, window_s=0.01)
    window_s = float(told.value.remedy.split()[3])
    assert window_s == pytest.approx(7 / 30, abs=0.001)
    found = recogniser(num_frames=7).timeline(video, window_s=window_s, stride_s=0.013)
    assert all(step.prediction for step in found.steps)


def test_step_in_a_gap_of_the_video_has_no_answer(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mkv", num_frames=100, gaps=[(30, 80)])
    told = recogniser().timeline(video, window_s=0.5, stride_s=1)
    assert [bool(step.prediction) for step in told.steps] == [True, False, False, True]
    assert told.steps[1].reason == "0 frames in the window, expected at least 6"
    assert told.notes == ("time stamps leave 50 places empty",)
    passages = told.passages()
    assert [(one.start_s, one.end_s, bool(one.label)) for one in passages] == [
        (0, 1, True),
        (1, 3, False),
        (3, pytest.approx(4, abs=0.01), True),
    ]


def test_notes_are_those_of_the_video(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", num_frames=60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 3 // 4])
    told = recogniser().timeline(tmp_path / "cut.avi", window_s=0.5)
    assert "of 60 frames missing" in told.notes[0]
    assert told.num_frames < 60


def test_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    video = write_video(tmp_path / "v.avi", num_frames=30)
    recogniser().timeline(video, window_s=0.5)
    with pytest.raises(InputError):
        recogniser().timeline(video, window_s=0.01)
    (tmp_path / "none.avi").write_text("no video")
    with pytest.raises(InputError, match=r"none\.avi: cannot be opened as a video"):
        recogniser().timeline(tmp_path / "none.avi", window_s=0.5)
    assert list(scratch.iterdir()) == []


def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "v.avi", num_frames=30)
    footage = decode_footage(video, tmp_path / "footage", decoding=DECODING)
    (tmp_path / "footage/window.zip").symlink_to("/dev/full")
    with pytest.raises(InputError, match="has no room for a window, found No space left"):
        list(look_through(footage, recogniser().card.clip, window_s=0.5, stride_s=1))
