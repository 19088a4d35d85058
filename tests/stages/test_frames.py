import hashlib

import pytest

from kinetrack.data.index import INDEX_NAME, FramesRow, read_index
from kinetrack.errors import InputError
from kinetrack.stages.frames import FramesParams, extract_all, summarise

from factories import FRAMES_PARAMS as PARAMS
from factories import write_data_set, write_video

SKIP = PARAMS.model_copy(update={"on_broken": "skip"})


@pytest.fixture
def videos(tmp_path):
    write_data_set(tmp_path / "videos", labels=("Jump", "Run"), groups=2)
    return tmp_path / "videos"


def tree(folder):
    """Every file below a folder with its content."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_archive_a_clip_and_a_sorted_index(videos, tmp_path):
    rows = extract_all(PARAMS, videos=videos, frames=tmp_path / "frames").rows
    assert [(row.label, row.clip) for row in rows] == sorted((row.label, row.clip) for row in rows)
    assert read_index(tmp_path / "frames" / INDEX_NAME, FramesRow, remedy="") == rows
    for row in rows:
        assert (tmp_path / "frames" / row.label / f"{row.clip}.zip").is_file()


def test_a_broken_clip_ends_the_stage_and_leaves_what_was_there(videos, tmp_path):
    extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    before = tree(tmp_path / "frames")
    broken = videos / "Run/v_Run_g01_c01.avi"
    broken.write_text("no video")
    with pytest.raises(InputError, match=r"v_Run_g01_c01\.avi: cannot be opened as a video"):
        extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    assert tree(tmp_path / "frames") == before


def test_a_broken_clip_is_named_in_the_index_when_skipped(videos, tmp_path):
    (videos / "Run/v_Run_g01_c01.avi").write_bytes(b"")
    extraction = extract_all(SKIP, videos=videos, frames=tmp_path / "frames")
    [broken] = [row for row in extraction.rows if row.status == "broken"]
    assert broken.clip == "v_Run_g01_c01"
    assert f"Run/v_Run_g01_c01: {broken.reason}" in summarise(extraction)
    assert not (tmp_path / "frames/Run/v_Run_g01_c01.zip").exists()


def test_a_whole_clip_fills_every_column(videos, tmp_path):
    row = extract_all(PARAMS, videos=videos, frames=tmp_path / "frames").rows[0]
    content = (videos / "Jump/v_Jump_g01_c01.avi").read_bytes()
    assert row == FramesRow(
        clip="v_Jump_g01_c01",
        label="Jump",
        group="01",
        official="",
        video="Jump/v_Jump_g01_c01.avi",
        start_s=None,
        end_s=None,
        container="avi",
        codec="mpeg4",
        pixel_format="yuv420p",
        width=64,
        height=48,
        rotation_deg=0,
        fps=25.0,
        promised_frames=8,
        decoded_frames=8,
        gap_frames=0,
        repeated_frames=0,
        num_frames=8,
        missing_frames=0,
        corrupt_frames=0,
        video_sha256=hashlib.sha256(content).hexdigest(),
        frames_sha256=row.frames_sha256,
        archive_md5=row.archive_md5,
        status="ok",
        reason="",
    )
    assert len(row.frames_sha256) == 64


def test_a_broken_clip_states_what_is_known_of_it(videos, tmp_path):
    (videos / "Jump/v_Jump_g01_c01.avi").write_bytes(b"")
    row = extract_all(SKIP, videos=videos, frames=tmp_path / "frames").rows[0]
    assert (row.clip, row.video, row.group) == ("v_Jump_g01_c01", "Jump/v_Jump_g01_c01.avi", "01")
    assert (row.num_frames, row.width, row.frames_sha256) == (0, 0, "")


def test_a_gap_is_told(videos, tmp_path):
    write_video(videos / "Run/v_Run_g01_c01.avi", num_frames=20, gaps=[(5, 9)])
    extraction = extract_all(PARAMS, videos=videos, frames=tmp_path / "frames")
    assert [row.status for row in extraction.rows] == ["ok", "ok", "flagged", "ok"]
    assert summarise(extraction).splitlines() == [
        "frames: 4 clips, 40 frames; 4 decoded, 0 moved, 0 kept",
        "  Run/v_Run_g01_c01: 4 of 20 frames missing",
    ]


def test_segments_of_a_manifest_are_clips(tmp_path):
    write_video(tmp_path / "videos/day/one.mp4", num_frames=50)
    (tmp_path / "videos/manifest.csv").write_text(
        "path,label,group,official,start_s,end_s\n"
        "day/one.mp4,Run,a,train,0,1\n"
        "day/one.mp4,Jump,b,test,1,2.4\n"
        "day/one.mp4,Jump,b,test,7,8\n"
    )
    rows = extract_all(SKIP, videos=tmp_path / "videos", frames=tmp_path / "frames").rows
    assert [(row.label, row.clip, row.num_frames, row.missing_frames) for row in rows] == [
        ("Jump", "one_00001000_00002400", 25, 10),
        ("Jump", "one_00007000_00008000", 0, 0),
        ("Run", "one_00000000_00001000", 25, 0),
    ]
    assert [row.status for row in rows] == ["flagged", "broken", "ok"]
    assert rows[1].reason == "has nothing at 7 s: the video ends at 2.0 s"
    assert [(row.official, row.video, row.start_s) for row in rows[:1]] == [
        ("test", "day/one.mp4", 1.0)
    ]
    assert read_index(tmp_path / "frames" / INDEX_NAME, FramesRow, remedy="") == rows


def test_without_a_group_pattern_each_clip_is_a_group(videos, tmp_path):
    params = PARAMS.model_copy(update={"group_pattern": None})
    rows = extract_all(params, videos=videos, frames=tmp_path / "frames").rows
    assert len({row.group for row in rows}) == len(rows) == 4


def test_a_decoder_that_hangs_breaks_its_clip_only_and_leaves_nothing(videos, tmp_path):
    params = SKIP.model_copy(update={"max_stall_s": 1e-6})
    rows = extract_all(params, videos=videos, frames=tmp_path / "frames").rows
    assert {(row.status, row.reason) for row in rows} == {("broken", "gave no frame for 1e-06 s")}
    assert [path.name for path in (tmp_path / "frames").rglob("*") if path.is_file()] == [
        INDEX_NAME
    ]
    with pytest.raises(InputError, match=r"gave no frame for 1e-06 s, found 4 such clips"):
        extract_all(
            params.model_copy(update={"on_broken": "fail"}),
            videos=videos,
            frames=tmp_path / "frames",
        )
    rows = extract_all(PARAMS, videos=videos, frames=tmp_path / "frames").rows
    assert {row.status for row in rows} == {"ok"}


@pytest.mark.slow
def test_workers_give_the_same_bytes_as_one_process(videos, tmp_path, monkeypatch):
    extract_all(PARAMS, videos=videos, frames=tmp_path / "one")
    monkeypatch.setenv("KINETRACK_WORKERS", "2")
    extract_all(PARAMS, videos=videos, frames=tmp_path / "two")
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 5


@pytest.mark.parametrize("limit", [0, -1, "60", float("inf")])
def test_the_limit_of_a_stall_is_a_positive_number(limit):
    with pytest.raises(ValueError, match="max_stall_s"):
        FramesParams(**{**PARAMS.model_dump(), "max_stall_s": limit})


@pytest.mark.parametrize("classes", [0, -1, True, "some", [], 2.5])
def test_classes_are_a_count_a_list_or_all(classes):
    with pytest.raises(ValueError, match="classes"):
        FramesParams(**{**PARAMS.model_dump(), "classes": classes})


@pytest.mark.parametrize(
    "pattern",
    ["no group", "(open", "", "(a{99999999999})", pytest.param("(" * 5000 + ")" * 5000, id="deep")],
)
def test_the_group_pattern_has_a_group(pattern):
    with pytest.raises(ValueError, match="group_pattern"):
        FramesParams(**{**PARAMS.model_dump(), "group_pattern": pattern})
