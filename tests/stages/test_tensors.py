import json

import pytest

from kinetrack.data.index import (
    INDEX_NAME,
    DroppedRow,
    FramesRow,
    TensorsRow,
    read_index,
    write_index,
)
from kinetrack.data.tensors import load_clip
from kinetrack.errors import InputError
from kinetrack.files import write_json
from kinetrack.splitting.splits import write_split
from kinetrack.stages.frames import extract_all
from kinetrack.stages.tensors import DROPPED_NAME, pack_all, summarise

from factories import FRAMES_PARAMS, write_data_set, write_video
from factories import GEOMETRY as SMALL

GEOMETRY = SMALL.model_copy(update={"num_frames": 8, "resize_px": 32, "size_px": 24})
CLIPS = ["Jump/v_Jump_g01_c01", "Jump/v_Jump_g02_c01"]


@pytest.fixture
def frames(tmp_path):
    write_data_set(tmp_path / "videos", labels=("Jump",), groups=2)
    extract_all(FRAMES_PARAMS, videos=tmp_path / "videos", frames=tmp_path / "frames")
    return tmp_path / "frames"


def pack(tmp_path, frames, *, geometry=GEOMETRY, **edits):
    """Pack by a split with the first clip on the train side; `edits` are made by hand."""
    rows = read_index(frames / INDEX_NAME, FramesRow, remedy="")
    write_split(tmp_path / "split.json", list(zip(rows, ("train", "test"), strict=True)), rule={})
    edited = json.loads((tmp_path / "split.json").read_text()) | edits
    write_json(tmp_path / "split.json", edited)
    return pack_all(
        geometry, frames=frames, split=tmp_path / "split.json", tensors=tmp_path / "tensors"
    )


def test_every_clip_of_the_split_is_packed(tmp_path, frames):
    rows = pack(tmp_path, frames).rows
    assert [(row.side, row.clip) for row in rows] == [
        ("train", "v_Jump_g01_c01"),
        ("test", "v_Jump_g02_c01"),
    ]
    assert read_index(tmp_path / "tensors" / INDEX_NAME, TensorsRow, remedy="") == rows
    decoded = read_index(frames / INDEX_NAME, FramesRow, remedy="")
    assert [row.frames_sha256 for row in rows] == [row.frames_sha256 for row in decoded]
    load_clip(tmp_path / "tensors/train/Jump/v_Jump_g01_c01.pt", num_frames=8, size_px=24)


def test_a_short_clip_is_refused_or_stretched_and_named(tmp_path, frames):
    longer = GEOMETRY.model_copy(update={"num_frames": 500})
    with pytest.raises(InputError, match=r"g01_c01\.zip: is shorter than the window.*stretch"):
        pack(tmp_path, frames, geometry=longer)
    assert not (tmp_path / "tensors").exists()
    stretching = longer.model_copy(update={"short_clips": "stretch"})
    packing = pack(tmp_path, frames, geometry=stretching)
    assert all(row.is_short for row in packing.rows)
    assert "stretched Jump/v_Jump_g01_c01" in summarise(packing, stretching)


def test_a_split_that_names_another_clip_is_refused(tmp_path, frames):
    with pytest.raises(InputError, match="names clip Jump/other that has no frames"):
        pack(tmp_path, frames, test=["Jump/other"])


@pytest.mark.parametrize(
    "edits",
    [
        {"train": [], "test": CLIPS},
        {"train": CLIPS[:1], "test": []},
        {"train": CLIPS[1:], "test": CLIPS[:1]},
        {"fingerprint": "0" * 64},
    ],
)
def test_a_split_edited_by_hand_is_refused(tmp_path, frames, edits):
    change_row(frames, 1, label="Jump", frames_sha256="a" * 64)
    with pytest.raises(InputError, match=r"split\.json: is of other frames, or was edited by hand"):
        pack(tmp_path, frames, **edits)
    assert not (tmp_path / "tensors").exists()


def change_row(frames, place, **values):
    rows = read_index(frames / INDEX_NAME, FramesRow, remedy="")
    rows[place] = rows[place].model_copy(update=values)
    write_index(frames / INDEX_NAME, FramesRow, rows)


def test_a_split_of_frames_that_have_changed_since_is_refused(tmp_path, frames):
    pack(tmp_path, frames)
    change_row(frames, 0, frames_sha256="a" * 64)
    with pytest.raises(InputError, match=r"split\.json: is of other frames.*dvc repro -f split"):
        pack_all(
            GEOMETRY,
            frames=frames,
            split=tmp_path / "split.json",
            tensors=tmp_path / "tensors",
        )


def test_a_flagged_clip_is_packed(tmp_path, frames):
    change_row(frames, 0, status="flagged", reason="odd")
    assert len(pack(tmp_path, frames).rows) == 2


def test_a_split_that_names_a_broken_clip_is_refused(tmp_path, frames):
    change_row(frames, 0, status="broken", reason="no video")
    with pytest.raises(InputError, match=rf"names clip {CLIPS[0]} that has no frames"):
        pack(tmp_path, frames)


def test_a_damaged_archive_is_named_and_nothing_is_left(tmp_path, frames):
    archive = frames / "Jump/v_Jump_g02_c01.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"v_Jump_g02_c01\.zip: is no whole frame archive"):
        pack(tmp_path, frames)
    assert not (tmp_path / "tensors").exists()


DROPPING = GEOMETRY.model_copy(update={"num_frames": 8, "short_clips": "drop"})


def pack_lengths(tmp_path, *clips, geometry=DROPPING):
    """Pack clips given as (label, side, number of frames)."""
    for number, (label, _, num_frames) in enumerate(clips):
        write_video(
            tmp_path / f"videos/{label}/c{number}.avi", num_frames=num_frames, start=50 * number
        )
    params = FRAMES_PARAMS.model_copy(update={"group_pattern": None})
    extract_all(params, videos=tmp_path / "videos", frames=tmp_path / "frames")
    rows = read_index(tmp_path / "frames" / INDEX_NAME, FramesRow, remedy="")
    side_of = {f"c{number}": side for number, (_, side, _) in enumerate(clips)}
    write_split(tmp_path / "split.json", [(row, side_of[row.clip]) for row in rows], rule={})
    return pack_all(
        geometry,
        frames=tmp_path / "frames",
        split=tmp_path / "split.json",
        tensors=tmp_path / "tensors",
    )


def test_a_short_clip_that_is_dropped_is_named_and_not_packed(tmp_path):
    packing = pack_lengths(
        tmp_path, ("Jump", "train", 8), ("Jump", "train", 7), ("Jump", "test", 9)
    )
    assert [row.clip for row in packing.rows] == ["c0", "c2"]
    [dropped] = read_index(tmp_path / "tensors" / DROPPED_NAME, DroppedRow, remedy="")
    assert (dropped.clip, dropped.side) == ("c1", "train")
    assert dropped.reason == "7 frames, the window needs 8"
    assert "  dropped Jump/c1: 7 frames, the window needs 8" in summarise(packing, DROPPING)
    assert not list((tmp_path / "tensors").rglob("c1.pt"))


@pytest.mark.parametrize(
    ("clips", "emptied"),
    [
        ([("Jump", "train", 8), ("Jump", "test", 7)], "the test side without a clip"),
        (
            [("Jump", "train", 8), ("Jump", "test", 8), ("Run", "train", 7), ("Run", "test", 8)],
            "class Run without a training clip",
        ),
    ],
)
def test_dropping_that_empties_a_side_or_class_is_refused(tmp_path, clips, emptied):
    with pytest.raises(InputError, match=f"which leaves {emptied}.*short_clips: stretch"):
        pack_lengths(tmp_path, *clips)
    assert not (tmp_path / "tensors").exists()


def test_a_short_clip_that_is_looped_starts_again(tmp_path):
    looping = DROPPING.model_copy(update={"short_clips": "loop"})
    packing = pack_lengths(tmp_path, ("Jump", "train", 5), ("Jump", "test", 8), geometry=looping)
    clip = load_clip(tmp_path / "tensors/train/Jump/c0.pt", num_frames=8, size_px=24)
    assert clip[:, 5:].equal(clip[:, :3])
    assert "  looped Jump/c0: 5 frames" in summarise(packing, looping)


def test_spare_frames_are_packed_as_far_as_each_clip_goes(tmp_path):
    spare = DROPPING.model_copy(update={"sampling": "random", "spare_frames": "all"})
    packing = pack_lengths(tmp_path, ("Jump", "train", 12), ("Jump", "test", 9), geometry=spare)
    assert [row.packed_frames for row in packing.rows] == [12, 9]
    assert "of 3 x 9 to 12 x 24 x 24 bytes" in summarise(packing, spare)


def test_spare_pixels_are_packed_around_the_square(tmp_path, frames):
    without = pack(tmp_path, frames).rows
    clips = [tmp_path / "tensors" / row.side / "Jump" / f"{row.clip}.pt" for row in without]
    middles = [load_clip(path, num_frames=8, size_px=24).clone() for path in clips]
    spare = GEOMETRY.model_copy(update={"spare_px": 6})
    packing = pack(tmp_path, frames, geometry=spare)
    assert "of 3 x 8 x 30 x 30 bytes" in summarise(packing, spare)
    for path, middle in zip(clips, middles, strict=True):
        packed = load_clip(path, num_frames=8, size_px=30)
        assert packed[..., 3:27, 3:27].equal(middle)
