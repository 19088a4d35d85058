"""A video that is predicted comes by the same way as one that a network was trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from kinetrack.data.index import INDEX_NAME, FramesRow, read_index
from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import load_clip, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.learning.packed_clips import ClipKey, Example, PackedClips, View
from kinetrack.splitting.splits import write_split
from kinetrack.stages.evaluate import EvaluateParams, evaluate_model
from kinetrack.stages.frames import FramesParams, extract_all
from kinetrack.stages.tensors import pack_all
from kinetrack.using.inference import load_recogniser
from kinetrack.using.prediction import count_windows, prepare

from factories import DECODING, FRAMES_PARAMS, GEOMETRY, model_card, write_video
from project import ROOT

BASE = {"num_frames": 6, "resize_px": 32, "size_px": 24}
RANDOM = {"sampling": "random", "spare_frames": 5}
NAMES = ["v_Jump_g01_c01", "v_Jump_g02_c01", "v_Jump_g03_c01"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "videos"
    for number, name in enumerate(NAMES):
        # The second has gaps in its time stamps.
        gaps = [(5, 9)] if number == 1 else []
        path = folder / "Jump" / f"{name}.avi"
        write_video(path, num_frames=23 + number, gaps=gaps, start=7 * number)
    return folder


def pack(videos: Path, folder: Path, *, frames: FramesParams, **geometry: Any) -> Path:
    """Take the videos through the stages, as test clips; return the folder of tensors."""
    extract_all(frames, videos=videos, frames=folder / "frames")
    rows = read_index(folder / "frames" / INDEX_NAME, FramesRow, remedy="")
    write_split(folder / "split.json", [(row, "test") for row in rows], rule={})
    pack_all(
        GEOMETRY.model_copy(update={**BASE, **geometry}),
        frames=folder / "frames",
        split=folder / "split.json",
        tensors=folder / "tensors",
    )
    return folder / "tensors"


def as_evaluated(tensors: Path, **geometry: Any) -> list[NDArray[np.uint8]]:
    clips = PackedClips(
        read_sides(tensors)["test"],
        labels=["Jump"],
        geometry=GEOMETRY.model_copy(update={**BASE, **geometry}),
    )
    examples = [clips[ClipKey(place, 0)] for place in range(len(clips))]
    return [one.clip.permute(3, 0, 1, 2).numpy() for one in examples if isinstance(one, Example)]


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"sampling": "center", "stride": 2},
        {"sampling": "center", "num_frames": 40, "short_clips": "loop"},
        {"num_frames": 40, "short_clips": "stretch"},
        RANDOM,
        {**RANDOM, "spare_frames": "all", "stride": 3},
        {"spare_px": 5},
        {"crop": "squash", "spare_px": 4},
    ],
    ids=str,
)
def test_what_a_network_sees_is_bit_for_bit_that_of_the_stages(
    tmp_path: Path, videos: Path, geometry: dict[str, Any]
) -> None:
    expected = as_evaluated(pack(videos, tmp_path, frames=FRAMES_PARAMS, **geometry), **geometry)
    assert len(expected) == len(NAMES)
    for name, clip in zip(NAMES, expected, strict=True):
        prepared = prepare(
            videos / f"Jump/{name}.avi",
            decoding=DECODING,
            geometry=GEOMETRY.model_copy(update={**BASE, **geometry}),
            windows=1,
        )
        assert prepared.clips.shape == (1, *clip.shape)
        np.testing.assert_array_equal(prepared.clips[0], clip)


@pytest.mark.parametrize(
    "changes",
    [{"gaps": "repeat"}, {"jpeg_quality": 50}, {"jpeg_subsampling": "4:4:4"}],
    ids=str,
)
def test_the_encoding_of_the_frames_is_that_of_the_training(
    tmp_path: Path, videos: Path, changes: dict[str, Any]
) -> None:
    frames = FRAMES_PARAMS.model_copy(update=changes)
    expected = as_evaluated(pack(videos, tmp_path, frames=frames))
    video, geometry = videos / f"Jump/{NAMES[1]}.avi", GEOMETRY.model_copy(update=BASE)
    plain = prepare(video, decoding=DECODING, geometry=geometry)
    like = prepare(video, decoding=DECODING.model_copy(update=changes), geometry=geometry)
    np.testing.assert_array_equal(like.clips[0], expected[1])
    assert not np.array_equal(plain.clips, like.clips)


def test_probabilities_are_those_of_the_evaluation(tmp_path: Path, videos: Path) -> None:
    card = model_card(labels=("Jump", "Walk"))
    geometry = GEOMETRY.model_copy(update=BASE)
    torch.manual_seed(0)
    save_model(
        tmp_path / "model", Small3dCnn(num_classes=2), card.model_copy(update={"clip": geometry})
    )
    tensors = pack(videos, tmp_path, frames=FRAMES_PARAMS)
    evaluate_model(
        EvaluateParams(windows=1, crops=1, shuffle_control=False, top_k=1),
        tensors=tensors,
        model_folder=tmp_path / "model",
        reports=tmp_path / "reports",
        device=torch.device("cpu"),
    )
    lines = (tmp_path / "reports/predictions.csv").read_text().splitlines()
    columns = lines[0].split(",")
    recogniser = load_recogniser(tmp_path / "model")
    for name, line in zip(NAMES, lines[1:], strict=True):
        said = dict(zip(columns, line.split(","), strict=True))
        found = dict(recogniser.predict(videos / f"Jump/{name}.avi").top(2))
        # Of other batches, so the last bits differ.
        assert found["Jump"] == pytest.approx(float(said["p_Jump"]), abs=2e-6)


@pytest.mark.parametrize(
    ("sampling", "asked", "expected"),
    [
        ("random", None, 5),
        ("random", 1, 1),
        ("random", 7, 7),
        ("center", None, 1),
        ("center", 3, 3),
        ("uniform", None, 1),
        ("uniform", 1, 1),
    ],
)
def test_the_number_of_windows_is_that_of_the_model_unless_asked(
    sampling: str, asked: int | None, expected: int
) -> None:
    geometry = GEOMETRY.model_copy(update={"sampling": sampling})
    assert count_windows(geometry, asked) == expected


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda x: x.stem)
def test_every_preset_is_judged_by_as_many_windows_as_its_evaluation(path: Path) -> None:
    sections = yaml.safe_load(path.read_text())
    assert count_windows(ClipGeometry(**sections["pack"])) == sections["evaluate"]["windows"]


def test_default_windows_are_those_of_the_evaluation(tmp_path: Path, videos: Path) -> None:
    whole = {"sampling": "random", "spare_frames": "all"}
    tensors = pack(videos, tmp_path, frames=FRAMES_PARAMS, **whole)
    geometry = GEOMETRY.model_copy(update={**BASE, **whole})
    views = [
        PackedClips(
            read_sides(tensors)["test"], labels=["Jump"], geometry=geometry, view=View(window, 5)
        )
        for window in range(5)
    ]
    for place, name in enumerate(NAMES):
        prepared = prepare(videos / f"Jump/{name}.avi", decoding=DECODING, geometry=geometry)
        examples = [clips[ClipKey(place, 0)] for clips in views]
        expected = [x.clip.permute(3, 0, 1, 2).numpy() for x in examples if isinstance(x, Example)]
        np.testing.assert_array_equal(prepared.clips, np.stack(expected))


def test_several_windows_are_spread_over_the_whole_video(tmp_path: Path, videos: Path) -> None:
    whole = {"sampling": "random", "spare_frames": "all"}
    tensors = pack(videos, tmp_path, frames=FRAMES_PARAMS, **whole)
    row = read_sides(tensors)["test"].rows[0]
    packed = load_clip(
        tensors / f"test/Jump/{NAMES[0]}.pt", num_frames=row.packed_frames, size_px=24
    ).numpy()
    prepared = prepare(
        videos / f"Jump/{NAMES[0]}.avi",
        decoding=DECODING,
        geometry=GEOMETRY.model_copy(update={**BASE, "sampling": "center"}),
        windows=3,
    )
    assert row.packed_frames == prepared.num_frames == 23
    for clip, start in zip(prepared.clips, (0, 8, 17), strict=True):
        np.testing.assert_array_equal(clip, packed[:, start : start + 6])


@pytest.mark.parametrize(
    ("geometry", "windows", "message"),
    [
        (
            {"num_frames": 100},
            1,
            "too short for this model, found 23 frames, expected at least 100",
        ),
        ({}, 2, "looks at the whole video at once.*found 2 views, expected 1"),
        (RANDOM, 0, "views: is no number of views, found 0, expected 1 or more"),
    ],
)
def test_what_cannot_be_done_is_told(
    videos: Path, geometry: dict[str, Any], windows: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(
            videos / f"Jump/{NAMES[0]}.avi",
            decoding=DECODING,
            geometry=GEOMETRY.model_copy(update={**BASE, **geometry}),
            windows=windows,
        )


def test_file_that_is_no_video_is_told_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notes.avi"
    path.write_text("no video")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(InputError, match=r"notes\.avi: cannot be opened as a video"):
        prepare(path, decoding=DECODING, geometry=GEOMETRY)
    assert list(scratch.iterdir()) == []
