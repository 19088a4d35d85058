from pathlib import Path

import pytest

from kinetrack.collecting.collections import Placement, Plan, plan_folders
from kinetrack.collecting.gathering import gather, leave_out
from kinetrack.data.manifest import ManifestRow, read_manifest
from kinetrack.errors import InputError

from factories import write_video


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two segments of a video of two seconds, one behind its end, and a text named as a video."""
    write_video(tmp_path / "in/take.avi", num_frames=50)
    (tmp_path / "in/text.avi").write_text("no video")
    rows = [
        ManifestRow(path="take.avi", label="Jump", group="1", start_s=0.5, end_s=1.5),
        ManifestRow(path="take.avi", label="Walk", group="1", start_s=1.5, end_s=9),
        ManifestRow(path="take.avi", label="Walk", group="1", start_s=3, end_s=4),
        ManifestRow(path="text.avi", label="Walk", group="2"),
    ]
    paths = [tmp_path / "in" / name for name in ("take.avi", "text.avi")]
    return Plan([Placement(path, path.name) for path in paths], rows, [])


def test_every_clip_is_described_or_has_its_problem(plan: Plan, tmp_path: Path) -> None:
    opened = gather(plan, tmp_path / "out", group_pattern=None, may_move=False)
    assert [(one.clip.label, one.duration_s) for one in opened] == [
        ("Jump", 1.0),
        ("Walk", 0.5),
        ("Walk", 0),
        ("Walk", 0),
    ]
    assert [one.problem[:27] for one in opened] == [
        "",
        "",
        "starts at 3 s, the video en",
        "cannot be opened as a video",
    ]


def test_clips_with_a_problem_leave_the_manifest_and_the_folder(plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    opened = gather(plan, folder, group_pattern=None, may_move=False)
    assert len(leave_out(opened, folder, plan)) == 2
    assert [row.start_s for row in read_manifest(folder / "manifest.csv")] == [0.5, 1.5]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.csv", "take.avi"]


def test_collection_of_problems_alone_is_refused(tmp_path: Path) -> None:
    for name in ("Jump/1.avi", "Walk/1.avi"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_text("no video")
    plan = plan_folders(tmp_path / "in", label_from="top")
    opened = gather(plan, tmp_path / "out", group_pattern=None, may_move=False)
    with pytest.raises(InputError, match="holds no video that can be opened, found cannot be"):
        leave_out(opened, tmp_path / "out", plan)


@pytest.mark.parametrize("may_move", [True, False])
def test_what_is_ours_is_moved_and_what_is_not_is_copied(tmp_path: Path, may_move: bool) -> None:
    source = write_video(tmp_path / "in/Jump/1.avi", num_frames=2)
    write_video(tmp_path / "in/Walk/1.avi", num_frames=2)
    plan = plan_folders(tmp_path / "in", label_from="top")
    gather(plan, tmp_path / "out", group_pattern=None, may_move=may_move)
    assert source.exists() is not may_move
    assert (tmp_path / "out/Jump/1.avi").stat().st_size > 0
