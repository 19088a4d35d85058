import pytest

from kinetrack.data.index import INDEX_NAME, FramesRow, read_index
from kinetrack.errors import InputError
from kinetrack.stages.frames import FramesParams, extract_all, summarise

from factories import FRAMES_PARAMS as PARAMS
from factories import write_data_set, write_video


@pytest.fixture
def videos(tmp_path):
    write_data_set(tmp_path / "videos", labels=("Jump", "Run"), groups=2)
    return tmp_path / "videos"


def test_one_archive_a_clip_and_a_sorted_index(videos, tmp_path):
    rows = extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    assert [(row.label, row.clip) for row in rows] == sorted((row.label, row.clip) for row in rows)
    assert read_index(tmp_path / "frames" / INDEX_NAME, FramesRow, remedy="") == rows
    for row in rows:
        assert (tmp_path / "frames" / row.label / f"{row.clip}.zip").is_file()


def test_a_broken_clip_ends_the_stage_and_leaves_what_was_there(videos, tmp_path):
    extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    broken = videos / "Run/v_Run_g01_c01.avi"
    broken.write_text("no video")
    with pytest.raises(InputError, match=r"v_Run_g01_c01\.avi: cannot be opened as a video"):
        extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_broken_clip_is_named_in_the_index_when_skipped(videos, tmp_path):
    (videos / "Run/v_Run_g01_c01.avi").write_bytes(b"")
    params = PARAMS.model_copy(update={"on_broken": "skip"})
    rows = extract_all(params, videos=videos, frames=tmp_path / "frames")
    [broken] = [row for row in rows if row.status == "broken"]
    assert broken.clip == "v_Run_g01_c01"
    assert f"Run/v_Run_g01_c01: {broken.reason}" in summarise(rows)
    assert not (tmp_path / "frames/Run/v_Run_g01_c01.zip").exists()


def test_a_gap_is_told(videos, tmp_path):
    write_video(videos / "Run/v_Run_g01_c01.avi", num_frames=20, gaps=[(5, 9)])
    rows = extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    assert "Run/v_Run_g01_c01: 4 missing of 16 frames" in summarise(rows)


@pytest.mark.parametrize("classes", [0, -1, True, "some", [], 2.5])
def test_classes_are_a_count_a_list_or_all(classes):
    with pytest.raises(ValueError, match="classes"):
        FramesParams(**{**PARAMS.model_dump(), "classes": classes})


@pytest.mark.parametrize("pattern", ["no group", "(open", ""])
def test_the_group_pattern_has_a_group(pattern):
    with pytest.raises(ValueError, match="group_pattern"):
        FramesParams(**{**PARAMS.model_dump(), "group_pattern": pattern})
