import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kinetrack.files import file_md5
from kinetrack.versioning.lock import folder_md5, locked_stage
from kinetrack.versioning.recipes import Recipe

from project import Project, make_project

PIPELINE = """
stages:
  frames:
    cmd: frames data/videos/${dataset}
    deps:
      - data/videos/${dataset}
      - src/decode.py
      - src/write.py
    params:
      - frames
    outs:
      - data/frames/${dataset}:
          persist: true
  other:
    cmd: other
    deps:
      - src/other.py
"""
# As DVC writes it: 4:2:0 without quotes.
LOCK = """
schema: '2.0'
stages:
  frames:
    cmd: frames data/videos/mine
    deps:
    - path: data/videos/mine
      hash: md5
      md5: 0.dir
    - path: src/decode.py
      hash: md5
      md5: {decode}
    - path: src/write.py
      hash: md5
      md5: {write}
    params:
      params.yaml:
        frames:
          classes: all
          jpeg_quality: 95
          jpeg_subsampling: 4:2:0
    outs:
    - path: data/frames/mine
      hash: md5
      md5: {frames}
"""
SETTINGS = {"jpeg_quality": 95, "jpeg_subsampling": "4:2:0"}
FRAMES = Path("data/frames/mine")


def recipe(root: Path = Path(), **changes: Any) -> Recipe:
    values = {"section": "frames", "settings": SETTINGS, "libraries": ("av", "numpy")}
    return Recipe("frames", root=root, **{**values, **changes})


def archives() -> dict[str, str]:
    """MD5 by path, as an index tells them."""
    return {path.relative_to(FRAMES).as_posix(): file_md5(path) for path in FRAMES.rglob("*.zip")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as after a clone and a pull: the output, and the lock that tells of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    files = ["src/decode.py", "src/write.py", "src/other.py", "data/frames/mine/index.csv"]
    for name in [*files, "data/frames/mine/Jump/a.zip", "data/frames/mine/Walk/b.zip"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.lock").write_text(
        LOCK.format(
            decode=file_md5(tmp_path / "src/decode.py"),
            write=file_md5(tmp_path / "src/write.py"),
            frames=folder_md5(FRAMES),
        )
    )
    return tmp_path


def edit(name: str, old: str = "", new: str = "edited") -> None:
    """Replace a part of a file, or the whole."""
    path = Path(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new) if old else new)


@pytest.mark.usefixtures("root")
def test_the_recipe_is_the_same_for_the_same_code_settings_and_libraries():
    first = recipe().sha256
    edit("src/other.py")  # of another stage
    edit("dvc.lock")
    edit("data/frames/mine/index.csv")
    assert recipe(settings=dict(reversed(SETTINGS.items()))).sha256 == first
    assert len(first) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {**SETTINGS, "jpeg_quality": 94}},
        {"settings": {"jpeg_quality": 95}},
        {"settings": {**SETTINGS, "gaps": "keep"}},
        {"libraries": ("av",)},
    ],
)
@pytest.mark.usefixtures("root")
def test_other_settings_are_another_recipe(changes):
    assert recipe(**changes).sha256 != recipe().sha256


@pytest.mark.parametrize("name", ["src/decode.py", "src/write.py"])
@pytest.mark.usefixtures("root")
def test_other_code_is_another_recipe(name):
    before = recipe().sha256
    edit(name)
    assert recipe().sha256 != before


@pytest.mark.usefixtures("root")
def test_code_that_the_pipeline_lists_no_more_or_anew_is_another_recipe():
    before = recipe().sha256
    edit("dvc.yaml", "      - src/write.py\n", "")
    shorter = recipe().sha256
    edit("dvc.yaml", "      - src/decode.py\n", "      - src/decode.py\n      - src/other.py\n")
    assert len({before, shorter, recipe().sha256}) == 3


@pytest.mark.usefixtures("root")
def test_another_version_of_a_library_is_another_recipe(monkeypatch):
    before = recipe().sha256
    monkeypatch.setattr("kinetrack.versioning.recipes.version", lambda name: f"{name} 0.0")
    assert recipe().sha256 != before


def test_each_recipe_remembers_each_data_set_by_itself(root):
    one, other = recipe(), recipe(settings={})
    for made in (one, other):
        memory = made.memory("mine")
        memory.parent.mkdir(parents=True)
        memory.touch()
    one.memory("second").touch()
    assert one.memories() == [one.memory("mine"), one.memory("second")]
    assert other.memories() == [other.memory("mine")]
    assert one.memory("mine").is_relative_to(".kinetrack/made/frames")


def test_in_a_temporary_checkout_the_memory_is_that_of_the_project(root, tmp_path, monkeypatch):
    """`dvc exp run --temp` sets DVC_ROOT; its checkout vanishes."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    assert recipe().memory("mine").is_relative_to(tmp_path / "project/.kinetrack")


@pytest.mark.usefixtures("root")
def test_a_folder_that_the_lock_describes_is_vouched_for():
    assert recipe().vouches_for(FRAMES, archives())


def test_yaml_1_1_would_not_read_what_dvc_writes_without_quotes(root):
    locked = locked_stage("frames", root=root)["params"]["params.yaml"]["frames"]
    assert locked["jpeg_subsampling"] == "4:2:0"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: edit("src/decode.py"), id="code"),
        pytest.param(lambda: edit("data/frames/mine/index.csv"), id="index"),
        pytest.param(lambda: edit("dvc.lock", "quality: 95", "quality: 90"), id="params"),
        pytest.param(lambda: edit("dvc.lock", "4:2:0", "4:4:4"), id="other params"),
        pytest.param(lambda: edit("dvc.lock", "frames:", "frame:"), id="no such stage"),
        pytest.param(
            lambda: edit("dvc.lock", "frames/mine", "frames/yours"), id="another data set"
        ),
        pytest.param(lambda: Path("dvc.lock").unlink(), id="no lock"),
        pytest.param(lambda: Path(FRAMES / "Jump/a.zip").unlink(), id="a file less"),
        pytest.param(lambda: Path(FRAMES / "more.csv").touch(), id="a table more"),
        pytest.param(
            lambda: edit("dvc.yaml", "- src/write.py", "- src/write.py\n      - src/other.py"),
            id="code that the lock does not know",
        ),
    ],
)
@pytest.mark.usefixtures("root")
def test_a_folder_that_the_lock_describes_otherwise_is_not_vouched_for(change):
    assert recipe().vouches_for(FRAMES, archives())
    change()
    assert not recipe().vouches_for(FRAMES, archives())


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"Jump/a.zip": "0" * 32, "Walk/b.zip": "0" * 32},
        {"Jump/b.zip": "swapped", "Walk/a.zip": "swapped"},
    ],
)
@pytest.mark.usefixtures("root")
def test_files_with_other_names_or_bytes_are_not_vouched_for(files):
    assert not recipe().vouches_for(FRAMES, files)


def test_outside_of_a_dvc_project_no_cache_is_found(root):
    assert recipe(root).find_cached("0" * 32) is None


def test_where_dvc_cannot_be_run_no_cache_is_found(root, monkeypatch):
    def fail(command, **options):
        return subprocess.CompletedProcess(command, 255, stdout="/somewhere\n", stderr="ERROR")

    monkeypatch.setattr("kinetrack.versioning.cache.subprocess.run", fail)
    assert recipe(root).find_cached("0" * 32) is None


@pytest.fixture(scope="module")
def in_dvc(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A DVC project without Git, in a path with a space, with one file in its cache."""
    project = Project(tmp_path_factory.mktemp("a project"))
    project.run("dvc", "init", "-q", "--no-scm")
    (project.folder / "dvc.yaml").write_text("stages: {}\n")
    (project.folder / "file").write_text("content")
    project.run("dvc", "add", "-q", "file")
    return project


@pytest.mark.slow
@pytest.mark.parametrize("place", [None, "../elsewhere", "absolute"])
def test_an_object_of_the_cache_is_found_wherever_the_cache_is(in_dvc, tmp_path, place):
    project = Project(tmp_path / "copy")
    shutil.copytree(in_dvc.folder, project.folder)
    if place:
        target = str(tmp_path / place) if place == "absolute" else place
        project.run("dvc", "cache", "dir", *(["--local"] if place == "absolute" else []), target)
        shutil.rmtree(project.folder / ".dvc/cache")
        project.run("dvc", "commit", "-q", "-f")
    md5 = file_md5(project.folder / "file")
    found = recipe(project.folder).find_cached(md5)
    assert found is not None
    assert found.read_text() == "content"
    assert found.is_relative_to(project.folder / ".dvc/cache") == (place is None)
    assert recipe(project.folder).find_cached("0" * 32) is None


def run_by_hand(project: Project, stage: str) -> str:
    """What a stage says of its work."""
    result = project.stage(stage, *locked_stage(stage, root=project.folder)["cmd"].split()[4:])
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[0].rpartition("; ")[2]


@pytest.mark.slow
def test_after_a_clone_and_a_pull_nothing_is_made_again(tmp_path):
    project = make_project(tmp_path / "project")
    project.set_params(sample={"groups": 2}, split={"train_groups": 1, "val_groups": 0})
    project.run("dvc", "repro", "tensors")
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(tmp_path / "remote"))
    project.run("dvc", "push", "-q", "sample", "frames", "split", "tensors")
    project.commit("done")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "-q", ".", str(clone.folder))
    clone.run("dvc", "pull", "-q", "sample", "frames", "split", "tensors")
    assert not (clone.folder / ".kinetrack").exists()
    for stage in ("frames", "tensors"):
        assert run_by_hand(clone, stage).endswith(" 0 moved, 12 kept")
    clone.set_params(frames={"jpeg_quality": 90})
    assert run_by_hand(clone, "frames") == "12 decoded, 0 moved, 0 kept"
    clone.set_params(frames={"jpeg_quality": 95})
    assert run_by_hand(clone, "frames") == "0 decoded, 0 moved, 12 from the cache, 0 kept"
    assert "up to date" in clone.run("dvc", "status", "frames").stdout
