"""A data set that changes, through real DVC: only what changed is made again, by any way back."""

import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import write_data_set, write_video
from project import Project, make_project

pytestmark = pytest.mark.slow
VIDEOS = "data/videos/mine"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Data sets of twelve clips and of ten of these, after `dvc repro` on the first."""
    project = make_project(tmp_path_factory.mktemp("changing") / "project")
    write_data_set(project.folder / VIDEOS, groups=6, num_frames=20)
    shutil.copytree(project.folder / VIDEOS, project.folder / "data/videos/fewer")
    for path in (project.folder / "data/videos/fewer").glob("*/*_g02_*"):
        path.unlink()
    project.run("dvc", "add", VIDEOS, "data/videos/fewer")
    project.set_params(dataset="mine", split={"train_groups": 5, "val_groups": 1})
    project.run("dvc", "repro")
    project.commit("first")
    return project


@pytest.fixture
def changing(project: Project) -> Iterator[Project]:
    """The project; afterwards everything is as it was."""
    yield project
    project.run("git", "reset", "-q", "--hard", "HEAD")
    project.run("dvc", "checkout", "--force", "-q")


def repro(project: Project, *arguments: str) -> str:
    return project.run("dvc", "repro", *arguments).stdout


def counts(output: str, stage: str) -> dict[str, int]:
    """How often each word stands in the summary of a stage, those with 0 too."""
    [line] = re.findall(rf"^{stage}: (.*)", output, re.MULTILINE)
    found = re.findall(r"(\d+) (decoded|packed|moved|from the cache|kept)", line)
    return {word: int(number) for number, word in found}


def edit_videos(project: Project, change: str) -> None:
    folder = project.folder / VIDEOS / "Jump"
    last = folder / "v_Jump_g06_c01.avi"
    match change:
        case "add":
            write_video(folder / "v_Jump_g06_c02.avi", num_frames=20, start=zlib.crc32(b"new") % 99)
        case "change":
            write_video(last, num_frames=21, start=500)
        case "remove":
            last.unlink()
        case "rename":
            last.rename(folder / "v_Jump_g06_c09.avi")
    project.run("dvc", "add", VIDEOS)


@pytest.mark.parametrize(
    ("change", "made", "moved", "kept"),
    [("add", 1, 0, 12), ("change", 1, 0, 11), ("remove", 0, 0, 11), ("rename", 0, 1, 11)],
)
def test_one_changed_clip_is_made_alone(
    changing: Project, change: str, made: int, moved: int, kept: int
) -> None:
    edit_videos(changing, change)
    output = repro(changing, "tensors")
    assert counts(output, "frames") == {"decoded": made, "moved": moved, "kept": kept}
    assert counts(output, "tensors") == {"packed": made, "moved": moved, "kept": kept}


def test_clips_that_change_their_side_are_moved(changing: Project) -> None:
    changing.set_params(split={"val_groups": 2})
    output = repro(changing, "tensors")
    assert "Stage 'frames' didn't change" in output
    assert counts(output, "tensors") == {"packed": 0, "moved": 2, "kept": 10}


def test_to_another_data_set_and_back_decodes_nothing_and_trains_once_each(
    changing: Project,
) -> None:
    changing.set_params(dataset="fewer", split={"train_groups": 4})
    there = repro(changing)
    assert counts(there, "frames") == {"decoded": 0, "moved": 0, "from the cache": 10, "kept": 0}
    assert "Running stage 'train'" in there
    changing.set_params(dataset="mine", split={"train_groups": 5})
    back = repro(changing)
    assert counts(back, "frames") == {"decoded": 0, "moved": 0, "kept": 12}
    assert counts(back, "tensors") == {"packed": 0, "moved": 0, "kept": 12}
    assert "Stage 'train' is cached - skipping run" in back


def test_going_back_to_old_params_makes_nothing(changing: Project) -> None:
    changing.set_params(frames={"jpeg_quality": 80})
    assert counts(repro(changing, "frames"), "frames")["decoded"] == 12
    changing.set_params(frames={"jpeg_quality": 95})
    back = counts(repro(changing, "frames"), "frames")
    assert back == {"decoded": 0, "moved": 0, "from the cache": 12, "kept": 0}


def test_a_colleague_who_pulled_and_adds_a_clip_makes_one(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "remote", "add", "--force", "-d", "team", str(tmp_path / "remote"))
    project.run("dvc", "push", "-q")
    project.run("git", "clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "remote", "add", "-d", "team", str(tmp_path / "remote"))
    clone.run("dvc", "pull", "-q")
    edit_videos(clone, "add")
    output = repro(clone, "tensors")
    assert counts(output, "frames") == {"decoded": 1, "moved": 0, "kept": 12}
    assert counts(output, "tensors") == {"packed": 1, "moved": 0, "kept": 12}
    project.run("git", "checkout", "-q", ".dvc/config")


def test_a_second_experiment_in_a_checkout_of_its_own_packs_nothing(changing: Project) -> None:
    change = ("-S", "pack.size_px=24")
    first = changing.run("dvc", "exp", "run", "--temp", *change).stdout
    assert counts(first, "tensors")["packed"] == 12
    second = changing.run("dvc", "exp", "run", "--temp", *change, "-S", "train.epochs=1").stdout
    assert counts(second, "tensors") == {
        "packed": 0,
        "moved": 0,
        "from the cache": 12,
        "kept": 0,
    }


def test_a_damaged_output_is_mended_alone(changing: Project) -> None:
    archive = changing.folder / "data/frames/mine/Walk/v_Walk_g03_c01.zip"
    archive.write_bytes(archive.read_bytes()[:-50])
    output = repro(changing, "frames")
    assert sum(counts(output, "frames").values()) - counts(output, "frames")["kept"] == 1
    assert changing.run("git", "diff", "--stat", "dvc.lock").stdout == ""
