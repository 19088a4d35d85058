import os
import shutil
from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning import checkout
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.checkout import bring_folder, clone_at, rebuild_tensors, run_stage
from kinetrack.versioning.lock import data_md5, folder_md5

from project import Project

TENSORS = "data/tensors/mine"
# Each stage copies what it reads and adds a file; `fail` as a video has it fail.
MAKE = """
import os, pathlib, shutil, sys
*sources, target = map(pathlib.Path, sys.argv[1:])
shutil.rmtree(target, ignore_errors=True)
for source in sources:
    shutil.copytree(source, target, dirs_exist_ok=True)
(target / target.parts[1]).write_text(os.environ.get("NOTE", ""))
sys.exit(any(source.joinpath("fail").exists() for source in sources))
"""
PIPELINE = """
stages:
  frames:
    cmd: python make.py data/videos/mine data/frames/mine
    deps: [data/videos/mine, make.py]
    outs: [data/frames/mine: {persist: true}]
  split:
    cmd: python make.py data/frames/mine data/splits
    deps: [data/frames/mine, make.py]
    outs: [data/splits]
  tensors:
    cmd: python make.py data/frames/mine data/splits data/tensors/mine
    deps: [data/frames/mine, data/splits, make.py]
    outs: [data/tensors/mine: {persist: true}]
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository with a commit; a clone of it does without DVC, which takes a second."""
    monkeypatch.setattr(checkout, "_share_cache", lambda *_: None)
    project = Project(tmp_path / "a project")
    project.folder.mkdir()
    project.run("git", "init", "-q", "-b", "main")
    commit_version(project, "first")
    return project


def commit_version(project: Project, version: str) -> str:
    (project.folder / "version").write_text(version)
    (project.folder / "sub").mkdir(exist_ok=True)
    (project.folder / "sub/inner").write_text(version)
    project.commit(version)
    return head(project)


def head(project: Project) -> str:
    return project.run("git", "rev-parse", "HEAD").stdout.strip()


def state(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files
    }


def test_it_is_at_the_commit(repository, tmp_path):
    first = head(repository)
    commit_version(repository, "second")
    clone = clone_at(first, root=repository.folder, target=tmp_path / "my clone")
    assert clone == tmp_path / "my clone"
    assert (clone / "version").read_text() == "first"
    assert Project(clone).run("git", "status", "--porcelain").stdout == ""


def test_a_commit_that_no_branch_leads_to_is_found(repository, tmp_path):
    lost = commit_version(repository, "lost")
    repository.run("git", "reset", "-q", "--hard", "HEAD~1")
    clone = clone_at(lost, root=repository.folder, target=tmp_path / "clone")
    assert (clone / "version").read_text() == "lost"


def test_the_project_is_left_as_it_is(repository, tmp_path):
    first = head(repository)
    (repository.folder / "version").write_text("edited")
    repository.run("git", "add", "version")
    (repository.folder / "new").write_text("new")
    before = state(repository.folder)
    clone_at(first, root=repository.folder, target=tmp_path / "clone")
    assert state(repository.folder) == before


def test_a_project_below_its_repository_is_found_in_the_clone(repository, tmp_path):
    root = repository.folder / "sub"
    clone = clone_at(head(repository), root=root, target=tmp_path / "clone")
    assert clone == tmp_path / "clone/sub"
    assert (clone / "inner").read_text() == "first"


def test_a_worktree_can_be_cloned(repository, tmp_path):
    repository.run("git", "worktree", "add", "-q", str(tmp_path / "tree"), "-b", "other")
    clone = clone_at(head(repository), root=tmp_path / "tree", target=tmp_path / "clone")
    assert (clone / "version").read_text() == "first"


def test_variables_of_git_lead_nowhere_else(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere"))
    clone = clone_at(head(repository), root=repository.folder, target=tmp_path / "clone")
    assert (clone / "version").read_text() == "first"


@pytest.mark.parametrize("commit", ["0" * 40, "unknown", "HEAD", "--help", ""])
def test_what_is_no_commit_here_is_refused(commit, repository, tmp_path):
    with pytest.raises(InputError, match="is no commit of this repository"):
        clone_at(commit, root=repository.folder, target=tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


def test_a_folder_that_exists_is_refused(repository, tmp_path):
    (tmp_path / "clone").mkdir()
    with pytest.raises(InputError, match=r"clone: exists already -> .* --into"):
        clone_at(head(repository), root=repository.folder, target=tmp_path / "clone")
    assert list((tmp_path / "clone").iterdir()) == []


def test_a_folder_in_the_repository_is_refused(repository):
    target = repository.folder / "data/clone"
    with pytest.raises(InputError, match="lies in the repository itself"):
        clone_at(head(repository), root=repository.folder, target=target)


def test_without_a_repository_it_is_refused(tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="is no Git repository"):
        clone_at("0" * 40, root=tmp_path / "bare", target=tmp_path / "clone")


def test_nothing_is_left_of_a_clone_that_fails(repository, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkout, "_share_cache", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clone_at(head(repository), root=repository.folder, target=tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project under DVC with videos and three stages that have run; read only."""
    project = Project(tmp_path_factory.mktemp("origin") / "a project")
    videos = project.folder / "data/videos/mine"
    videos.mkdir(parents=True)
    (videos / "a.avi").write_text("video")
    (project.folder / "make.py").write_text(MAKE)
    (project.folder / "dvc.yaml").write_text(PIPELINE)
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "add", "-q", "data/videos/mine")
    project.run("dvc", "repro", "-q")
    project.commit("start")
    return project


@pytest.fixture
def project(origin: Project, tmp_path: Path) -> Project:
    shutil.copytree(origin.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture
def clone(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    return clone_at(head(project), root=project.folder, target=tmp_path / "clone")


def forget(project: Project, *paths: str) -> None:
    """Remove the lists of folders from the cache."""
    for path in paths:
        object_path(project.folder / ".dvc/cache", recorded(project.folder, path)).unlink()


def recorded(folder: Path, path: str) -> str:
    md5 = data_md5(path, root=folder)
    assert md5 is not None
    return md5


ALL = (TENSORS, "data/frames/mine", "data/splits")


@pytest.mark.slow
def test_it_comes_from_the_project_s_cache(project, clone):
    assert bring_folder(TENSORS, recorded(clone, TENSORS), checkout=clone)
    assert sorted(path.name for path in (clone / TENSORS).iterdir()) == [
        "a.avi",
        "frames",
        "splits",
        "tensors",
    ]


@pytest.mark.slow
def test_other_data_than_asked_for_is_not_it(clone):
    assert not bring_folder(TENSORS, "0" * 32 + ".dir", checkout=clone)


@pytest.mark.slow
def test_data_of_a_damaged_object_is_not_it(project, clone):
    md5 = recorded(clone, TENSORS)
    for path in (project.folder / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and path.read_bytes() == b"video":
            path.chmod(0o644)
            path.write_bytes(b"VIDEO")
    assert not bring_folder(TENSORS, md5, checkout=clone)


@pytest.mark.slow
def test_it_comes_from_the_default_remote(project, tmp_path):
    remote = str(tmp_path / "a remote")
    project.run("dvc", "remote", "add", "--local", "--default", "store", remote)
    project.run("dvc", "push", "-q")
    shutil.rmtree(project.folder / ".dvc/cache")
    clone = clone_at(head(project), root=project.folder, target=tmp_path / "clone")
    assert bring_folder(TENSORS, recorded(clone, TENSORS), checkout=clone)


@pytest.mark.slow
def test_it_is_made_again_from_frames(project, clone):
    forget(project, TENSORS)
    shutil.rmtree(project.folder / "data/videos/mine")
    (clone / "data/videos/mine.dvc").unlink()
    md5 = recorded(clone, TENSORS)
    assert not bring_folder(TENSORS, md5, checkout=clone)
    assert rebuild_tensors("mine", checkout=clone)
    assert recorded(clone, TENSORS) == md5


@pytest.mark.slow
def test_it_is_made_again_from_videos(project, clone):
    forget(project, *ALL)
    md5 = recorded(clone, TENSORS)
    assert rebuild_tensors("mine", checkout=clone)
    assert recorded(clone, TENSORS) == md5
    assert folder_md5(clone / TENSORS) == md5


@pytest.mark.slow
def test_without_frames_and_videos_it_cannot_be_made(project, clone):
    forget(project, *ALL)
    shutil.rmtree(project.folder / ".dvc/cache/files")
    assert not rebuild_tensors("mine", checkout=clone)


@pytest.mark.slow
def test_a_stage_runs_alone_and_leaves_the_cache_as_it_is(project, clone):
    bring_folder("data/frames/mine", recorded(clone, "data/frames/mine"), checkout=clone)
    bring_folder("data/splits", recorded(clone, "data/splits"), checkout=clone)
    before = cached(project)
    assert run_stage("tensors", checkout=clone, variables={"NOTE": "other"}) == 0
    assert (clone / TENSORS / "tensors").read_text() == "other"
    assert recorded(clone, TENSORS) != recorded(project.folder, TENSORS)
    assert cached(project) == before


PLACES = {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"}


@pytest.mark.slow
def test_a_stage_runs_as_if_it_were_started_in_the_clone(clone, monkeypatch):
    for name in PLACES:
        monkeypatch.setenv(name, "elsewhere")
    for path in ("data/frames/mine", "data/splits"):
        (clone / path).mkdir(parents=True)
    (clone / "make.py").write_text(f"""
import os, pathlib
pathlib.Path("{TENSORS}").mkdir(parents=True)
pathlib.Path("{TENSORS}/seen").write_text(" ".join(sorted({PLACES} & os.environ.keys())))
""")
    assert run_stage("tensors", checkout=clone, variables={}) == 0
    assert (clone / TENSORS / "seen").read_text() == ""


@pytest.mark.slow
def test_a_stage_that_fails_is_told(clone):
    (clone / "data/frames/mine").mkdir(parents=True)
    (clone / "data/frames/mine/fail").touch()
    (clone / "data/splits").mkdir(parents=True)
    assert run_stage("tensors", checkout=clone, variables={}) != 0


@pytest.mark.slow
def test_a_commit_without_dvc_is_refused(project, tmp_path):
    project.run("git", "rm", "-rq", "--cached", ".dvc")
    project.run("git", "commit", "-qm", "no DVC")
    with pytest.raises(InputError, match="its commit has no DVC project"):
        clone_at(head(project), root=project.folder, target=tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


def cached(project: Project) -> list[str]:
    return sorted(os.fspath(path) for path in (project.folder / ".dvc/cache").rglob("*"))
