import json

import pytest

from kinetrack.data.index import FramesRow, write_index
from kinetrack.errors import InputError
from kinetrack.stages.split import SplitParams, split_clips, summarise

from factories import frames_row

PARAMS = SplitParams(strategy="first_groups", train_groups=3, val_groups=1, max_missing=1)


def write_rows(tmp_path, rows):
    write_index(tmp_path / "index.csv", FramesRow, rows)
    return tmp_path / "index.csv"


def row_of(label, group, number=1, **changes):
    clip = f"v_{label}_g{group:02}_c{number:02}"
    row = frames_row(clip, label=label, group=f"{group:02}")
    return row.model_copy(update=changes)


def rows_of(label, groups, **changes):
    return [row_of(label, group, **changes) for group in range(1, groups + 1)]


def test_all_files_are_written(tmp_path):
    index = write_rows(tmp_path, rows_of("Jump", 5) + rows_of("Run", 5))
    split_clips(PARAMS, index=index, splits=tmp_path / "splits")
    split = json.loads((tmp_path / "splits/split.json").read_text())
    assert split["train"] == [
        f"{label}/v_{label}_g0{group}_c01" for label in ("Jump", "Run") for group in (1, 2)
    ]
    assert len(split["val"]) == 2
    assert len(split["test"]) == 4
    assert split["rule"] == PARAMS.model_dump()


def test_a_clip_with_missing_frames_is_dropped_by_name(tmp_path):
    rows = rows_of("Jump", 5)
    rows[0] = row_of("Jump", 1, 2, missing_frames=2, num_frames=38)
    index = write_rows(tmp_path, [*rows, row_of("Jump", 1)])
    filtered = split_clips(PARAMS, index=index, splits=tmp_path / "splits")
    assert "dropped Jump/v_Jump_g01_c02: 2 frames missing of 40" in summarise(filtered)
    assert "v_Jump_g01_c02" in (tmp_path / "splits/dropped.csv").read_text()
    assert b"v_Jump_g01_c02" in (tmp_path / "splits/train.pkl").read_bytes()
    assert "v_Jump_g01_c02" not in (tmp_path / "splits/split.json").read_text()


def test_a_class_without_usable_training_clip_is_refused(tmp_path):
    broken = rows_of("Run", 5, status="broken", reason="cannot be opened")
    index = write_rows(tmp_path, rows_of("Jump", 5) + broken)
    with pytest.raises(InputError, match=r"Run: is a class without a usable training clip.*opened"):
        split_clips(PARAMS, index=index, splits=tmp_path / "splits")
    assert not (tmp_path / "splits").exists()


def test_an_empty_side_is_refused(tmp_path):
    index = write_rows(tmp_path, rows_of("Jump", 3))
    with pytest.raises(InputError, match="leaves the test side empty"):
        split_clips(PARAMS, index=index, splits=tmp_path / "splits")


def test_a_class_that_a_side_lacks_is_named(tmp_path):
    index = write_rows(tmp_path, rows_of("Jump", 5) + rows_of("Run", 3))
    filtered = split_clips(PARAMS, index=index, splits=tmp_path / "splits")
    assert "test has no clip of Run" in summarise(filtered)


def test_validation_must_leave_training_groups():
    with pytest.raises(ValueError, match="val_groups should be less than train_groups"):
        SplitParams(strategy="first_groups", train_groups=2, val_groups=2, max_missing=1)
