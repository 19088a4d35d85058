"""The built-in data set: what is written, and that only motion tells its classes."""

import io
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from kinetrack.data.encoding import encode_clip
from kinetrack.data.motion import (
    ACROSS,
    DOWN,
    MOTIONS,
    OPPOSITES,
    PLANTED_DEFECTS,
    SIZE,
    TURN,
    ClipKey,
    draw_clip,
    draw_look,
    draw_poses,
    draw_sample_clip,
    write_motion_clips,
)

LABELS = sorted(MOTIONS)


class Decoded(NamedTuple):
    """A video as read: frames (T, H, W, 3), time stamps in frames, what the header promises."""

    frames: np.ndarray
    pts: list[int]
    promised: int
    corrupt: int


def decode(source) -> Decoded:
    with av.open(source) as container:
        stream = container.streams.video[0]
        pictures = list(container.decode(stream))
        return Decoded(
            frames=np.stack(
                [picture.to_ndarray(format="rgb24", threads=1) for picture in pictures]
            ),
            pts=[picture.pts for picture in pictures],
            promised=stream.frames,
            corrupt=sum(picture.is_corrupt for picture in pictures),
        )


def draw(label: str, *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return draw_clip(label, look=draw_look(random), num_frames=32, generator=random)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETRACK_WORKERS", "1")


def write(folder: Path, *, seed: int = 0, groups: int = 1, clips_per_group: int = 1) -> list[Path]:
    return write_motion_clips(
        folder, seed=seed, groups=groups, clips_per_group=clips_per_group, num_frames=32
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four groups of two clips; read only."""
    return write(tmp_path_factory.mktemp("clips"), groups=4, clips_per_group=2)


def test_names_say_class_group_and_number(clips):
    names = [f"{path.parent.name}/{path.name}" for path in clips]
    assert names[:3] == [
        "Grow/v_Grow_g01_c01.avi",
        "Grow/v_Grow_g01_c02.avi",
        "Grow/v_Grow_g02_c01.avi",
    ]
    assert len(names) == 6 * 4 * 2
    assert sorted(clips[0].parents[1].rglob("*.avi")) == clips


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path, one_core):
    first, again, other = (
        [path.read_bytes() for path in write(tmp_path / name, seed=seed)]
        for name, seed in [("first", 0), ("again", 0), ("other", 1)]
    )
    assert first == again
    assert not set(first) & set(other)


def test_more_groups_leave_the_others_as_they_are(clips, tmp_path, one_core):
    by_name = {path.name: path.read_bytes() for path in clips}
    few = write(tmp_path, groups=1, clips_per_group=1)
    assert all(by_name[path.name] == path.read_bytes() for path in few)


def test_clips_are_mpeg4_at_25_frames_a_second_of_32_to_39_frames(clips):
    lengths = set()
    for path in clips:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec.name, stream.average_rate) == ("mpeg4", 25)
            assert (stream.width, stream.height) == (96, 72)
            lengths.add((path.stem[-7:-4], stream.frames))
    assert len(lengths) == 4  # one length a group
    assert all(32 <= length < 40 for _, length in lengths)


def draw_planted(name: str) -> Decoded:
    defect = PLANTED_DEFECTS[name]
    _, label, group, number = name.split("_")
    key = ClipKey(label, int(group[1:]), int(number[1:]))
    assert key.name == name
    frames = draw_sample_clip(key, seed=0, num_frames=32)
    video = encode_clip(frames, gaps=defect.gaps)
    return decode(io.BytesIO(video[: int(len(video) * defect.kept_fraction)]))


@pytest.mark.parametrize("name", PLANTED_DEFECTS)
def test_planted_clip_holds_fewer_frames_than_it_promises(name):
    decoded = draw_planted(name)
    assert decoded.promised - len(decoded.frames) >= 3


def gaps_in(pts: list[int]) -> list[tuple[int, int]]:
    """Intervals [start, end) of time stamps that no frame has."""
    return [(a + 1, b) for a, b in pairwise(pts) if b != a + 1]


@pytest.mark.parametrize("name", PLANTED_DEFECTS)
def test_planted_gaps_show_in_the_time_stamps(name):
    assert gaps_in(draw_planted(name).pts) == list(PLANTED_DEFECTS[name].gaps)


def test_only_planted_clips_are_damaged(clips):
    decoded = {path.stem: decode(str(path)) for path in clips}
    short = {name for name, video in decoded.items() if len(video.frames) < video.promised}
    assert short == {"v_TurnClockwise_g04_c02"}


@pytest.mark.parametrize("label", LABELS)
def test_opposite_class_is_the_film_run_backwards(label):
    assert np.array_equal(draw(label), draw(OPPOSITES[label])[::-1])


def test_coding_a_film_backwards_gives_the_same_pictures_backwards():
    frames = draw("MoveRight")
    forwards = decode(io.BytesIO(encode_clip(frames))).frames
    backwards = decode(io.BytesIO(encode_clip(frames[::-1]))).frames
    assert np.array_equal(forwards, backwards[::-1])


def test_coding_keeps_the_picture():
    frames = draw("TurnClockwise")
    decoded = decode(io.BytesIO(encode_clip(frames))).frames
    assert np.abs(decoded.astype(int) - frames).mean() < 3


def test_no_clip_is_the_reversal_of_another():
    opposite = [
        draw_sample_clip(ClipKey(label, 1, 1), seed=0, num_frames=32)
        for label in ("Grow", "Shrink")
    ]
    assert not np.array_equal(opposite[0], opposite[1][::-1])


@pytest.mark.parametrize("label", LABELS)
def test_only_the_coordinate_of_the_class_changes(label):
    poses = draw_poses(
        label, cycles_per_frame=0.03, num_frames=20, generator=np.random.default_rng(0)
    )
    axis, direction = MOTIONS[label]
    steps = (np.diff(poses, axis=0) + 0.5) % 1.0 - 0.5
    expected = np.zeros(4)
    expected[axis] = 0.03 * direction
    assert np.allclose(steps, expected)


@pytest.mark.parametrize("frame", [0, 15, 31])
@pytest.mark.parametrize("label", LABELS)
def test_every_pose_coordinate_is_uniform_in_every_frame(label, frame):
    random = np.random.default_rng(0)
    poses = np.array(
        [
            draw_poses(label, cycles_per_frame=0.03, num_frames=32, generator=random)[frame]
            for _ in range(1000)
        ]
    )
    for axis in (ACROSS, DOWN, TURN, SIZE):
        distance = np.abs(np.sort(poses[:, axis]) - np.linspace(0, 1, 1000)).max()
        assert distance < 1.95 / np.sqrt(1000)  # Kolmogorov and Smirnov's bound at 0.1 %


def test_mean_picture_of_a_class_tells_it_from_no_other():
    """Single frames of many clips: classes differ no more than two halves of one class do."""
    look = draw_look(np.random.default_rng(0))
    random = np.random.default_rng(1)
    centre = slice(12, 84)  # the square that the pipeline cuts out
    means = np.array(
        [
            np.mean(
                [
                    draw_clip(label, look=look, num_frames=1, generator=random)[0, :, centre]
                    for _ in range(120)
                ],
                axis=0,
            )
            for label in [*LABELS, *LABELS]
        ]
    )
    between = np.abs(means[:6, None] - means[None, :6])[np.triu_indices(6, 1)].mean()
    within = np.abs(means[:6] - means[6:]).mean()
    assert between == pytest.approx(within, rel=0.15)
