"""`kinetrack gc` on versions made up for the purpose; the slow tests run DVC and MLflow."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from kinetrack.cli import gc as command
from kinetrack.cli.gc import GcOptions, collect_garbage, outputs_of_run
from kinetrack.errors import InputError
from kinetrack.tracking import registry
from kinetrack.tracking.registry import ModelVersion
from kinetrack.tracking.run_data import RunData
from kinetrack.versioning import garbage
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.holdings import holds

from project import Project, environment, make_project
from tracked_files import CACHE, md5_of, object_file, overwrite
from versions_made import (
    add_videos,
    commit,
    git,
    make_experiment,
    make_output,
    objects,
    start,
)

VIDEOS, FRAMES, TENSORS = (f"data/{kind}/mine" for kind in ("videos", "frames", "tensors"))


class Store(NamedTuple):
    """What MLflow is to answer."""

    runs: list[RunData]
    models: list[ModelVersion]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    answers = Store([], [])
    monkeypatch.setattr(command, "list_run_data", lambda **_: answers.runs)
    monkeypatch.setattr(registry, "list_model_versions", lambda: answers.models)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return answers


@pytest.fixture
def root(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = start(tmp_path / "my project")
    monkeypatch.setattr(command, "cache_folder", lambda _: root / CACHE)
    monkeypatch.setattr(garbage, "_read_config", lambda _: {})
    return root


def make_version(root: Path, name: str) -> dict[str, str]:
    """Everything that a pipeline leaves, of which nothing is like another version's."""
    return {
        VIDEOS: add_videos(root, {f"Walk/{name}.avi": f"video {name}".encode()}),
        FRAMES: make_output(root, FRAMES, {f"Walk/{name}.zip": f"frames {name}".encode()}),
        "data/splits": make_output(root, "data/splits", {"split.json": f"{name}".encode()}),
        TENSORS: make_output(root, TENSORS, {f"train/Walk/{name}.pt": f"packed {name}".encode()}),
        "data/model": make_output(root, "data/model", {"model.json": f"card {name}".encode()}),
    }


def run_of(version: dict[str, str], name: str, **changes: Any) -> RunData:
    lock = {
        "stages": {path: {"outs": [{"path": path, "md5": md5}]} for path, md5 in version.items()}
    }
    tags = {
        "data.videos_md5": version[VIDEOS],
        "data.split_md5": md5_of(name.encode()),
        "data.tensors_md5": version[TENSORS],
        "model_md5": version["data/model"],
    }
    run = RunData("1" * 32, name, False, "mine", tags, (), yaml.safe_dump(lock).encode())
    return run._replace(**changes)


def collect(root: Path, *, yes: bool = True, **options: Any) -> None:
    collect_garbage(root, GcOptions(**options), yes=yes, as_json=False)


def kept(root: Path, version: dict[str, str]) -> set[str]:
    """Which outputs of a version the cache still has whole, every byte of it right."""
    for md5, content in objects(root).items():
        assert md5_of(content) == md5.removesuffix(".dir")
    return {
        path.split("/")[1] for path, md5 in version.items() if holds(root / CACHE, md5) == "yes"
    }


ALL = {"videos", "frames", "splits", "tensors", "model"}


@pytest.fixture
def three(root: Path) -> list[dict[str, str]]:
    """A version that only an older commit has, one of a tag, and one of branch and workspace."""
    versions = []
    for number, name in enumerate("abc"):
        versions.append(make_version(root, name))
        commit(root, name, time_s=1_700_000_000 + number)
    git(root, "tag", "v1", "HEAD~1")
    return versions


def test_without_yes_nothing_goes(
    root: Path, three: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = objects(root)
    collect(root, yes=False)
    assert objects(root) == before
    assert "gc: would free 8 objects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "of_older"),
    [
        ({}, {"videos"}),
        ({"old_videos": True}, set()),
        ({"all_commits": True}, ALL),
        ({"all_commits": True, "derived": True}, {"videos", "splits", "model"}),
    ],
)
def test_of_older_commits_only_what_is_asked_for_stays(
    root: Path, three: list[dict[str, str]], options: dict[str, bool], of_older: set[str]
) -> None:
    collect(root, **options)
    assert [kept(root, version) for version in three] == [of_older, ALL, ALL]


def test_objects_of_no_version_go(root: Path, three: list[dict[str, str]]) -> None:
    lost = make_version(root, "never committed")
    git(root, "checkout", "-q", "--", ".")
    collect(root)
    assert kept(root, lost) == set()
    collect(root)
    assert kept(root, three[2]) == ALL


@pytest.mark.parametrize(
    ("options", "expected"), [({}, ALL), ({"derived": True}, {"videos", "splits", "model"})]
)
@pytest.mark.parametrize("kind", ["run", "registered", "experiment"])
@pytest.mark.usefixtures("three")
def test_what_runs_models_and_experiments_need_stays(
    root: Path, store: Store, kind: str, options: dict[str, bool], expected: set[str]
) -> None:
    other = make_version(root, "x")
    if kind == "experiment":
        make_experiment(root, "deep-owl")
    git(root, "checkout", "-q", "--", ".")
    if kind != "experiment":
        store.runs.append(run_of(other, "x", is_deleted=kind == "registered"))
    if kind == "registered":
        store.models.append(ModelVersion("walker", 1, (), "1" * 32, "m-1", 0, {}))
    collect(root, **options)
    assert kept(root, other) == expected


def test_deleted_run_needs_nothing(root: Path, three: list[dict[str, str]], store: Store) -> None:
    other = make_version(root, "x")
    git(root, "checkout", "-q", "--", ".")
    store.runs.append(run_of(other, "x", is_deleted=True))
    collect(root)
    assert kept(root, other) == set()


def test_registered_model_whose_run_was_erased_says_what_it_needs(
    root: Path, three: list[dict[str, str]], store: Store
) -> None:
    other = make_version(root, "x")
    git(root, "checkout", "-q", "--", ".")
    tags = {"model_md5": other["data/model"], "data.videos_md5": other[VIDEOS], "labels": "[]"}
    store.models.append(ModelVersion("walker", 1, (), "gone", "m-1", 0, tags))
    collect(root)
    assert kept(root, other) == {"videos", "model"}


def test_tensors_stay_where_their_videos_are_not_whole(
    root: Path, three: list[dict[str, str]], store: Store
) -> None:
    other = make_version(root, "x")
    git(root, "checkout", "-q", "--", ".")
    store.runs.append(run_of(other, "x"))
    object_file(root, md5_of(b"video x")).unlink()
    collect(root, derived=True)
    assert kept(root, other) == ALL - {"videos"}


def test_stashed_and_running_work_stays(root: Path, three: list[dict[str, str]]) -> None:
    stashed = make_version(root, "stashed")
    git(root, "stash", "-q")
    running = make_version(root, "running")
    checkout = root / ".dvc/tmp/exps/tmp1"
    (checkout / ".dvc").mkdir(parents=True)
    (root / "dvc.lock").rename(checkout / "dvc.lock")
    git(root, "checkout", "-q", "--", ".")
    collect(root)
    assert kept(root, stashed) == ALL
    assert kept(root, running) == ALL - {"videos"}  # its .dvc file did not come along


def test_lock_of_a_run_tells_of_its_frames_but_not_of_its_model() -> None:
    version = {path: f"{number}" * 32 + ".dir" for number, path in enumerate((VIDEOS, FRAMES))}
    version |= {TENSORS: "7" * 32 + ".dir", "data/model": "8" * 32 + ".dir"}
    run = run_of(version, "x")
    run.tags["model_md5"] = "9" * 32 + ".dir"
    found = outputs_of_run(run)
    assert (found[FRAMES], found["data/model"]) == (version[FRAMES], "9" * 32 + ".dir")
    run.tags["data.tensors_md5"] = "6" * 32 + ".dir"  # the lock is of other data
    assert FRAMES not in outputs_of_run(run)


def test_store_that_does_not_answer_keeps_all(
    root: Path, three: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise InputError("MLflow", "does not answer")

    monkeypatch.setattr(command, "list_run_data", refuse)
    before = objects(root)
    with pytest.raises(InputError, match="does not answer"):
        collect(root)
    assert objects(root) == before


@pytest.mark.parametrize("where", ["workspace", "branch"])
def test_disorder_in_what_must_stay_keeps_all(
    root: Path, three: list[dict[str, str]], where: str
) -> None:
    good = (root / "dvc.lock").read_bytes()
    (root / "dvc.lock").write_text("<<<<<<< HEAD\nstages: {}\n")
    if where == "branch":
        commit(root, "broken", time_s=1_700_000_009)
        (root / "dvc.lock").write_bytes(good)
    before = objects(root)
    with pytest.raises(InputError, match=r"main: has a dvc\.lock|dvc\.lock: "):
        collect(root)
    assert objects(root) == before


def test_disorder_in_an_older_commit_is_told(
    root: Path, three: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    good = (root / "dvc.lock").read_bytes()
    (root / "dvc.lock").write_text("<<<<<<< HEAD\nstages: {}\n")
    video = b"of this commit alone"
    present = (root / "data/videos/mine.dvc").read_bytes()
    add_videos(root, {"Walk/only.avi": video})
    broken = commit(root, "broken", time_s=1_700_000_009)
    (root / "dvc.lock").write_bytes(good)
    (root / "data/videos/mine.dvc").write_bytes(present)
    commit(root, "mended", time_s=1_700_000_010)
    collect(root)
    assert f"not all spared of commit {broken[:7]}, in disorder" in capsys.readouterr().err
    assert object_file(root, md5_of(video)).exists()  # its .dvc file is in order
    assert kept(root, three[2]) == ALL


def break_a_branch(root: Path) -> None:
    (root / ".git/refs/heads/broken").write_text("01234567" * 5 + "\n")


def add_a_worktree(root: Path) -> None:
    git(root, "worktree", "add", "-q", "--detach", str(root.parent / "other"), "HEAD")


def add_a_pipeline(root: Path) -> None:
    (root / "ana").mkdir()
    (root / "ana/dvc.lock").write_text("stages: {}\n")


def test_locks_of_runs_are_no_pipelines(root: Path, three: list[dict[str, str]]) -> None:
    for name in ("mlruns/artifacts/1/artifacts", "models/mine@champion"):
        (root / name).mkdir(parents=True)
        (root / name / "dvc.lock").write_text("stages: {}\n")
    collect(root)
    assert kept(root, three[2]) == ALL


def cut_the_history(root: Path) -> None:
    (root / ".git/shallow").write_text(git(root, "rev-parse", "HEAD") + "\n")


def move_the_objects(root: Path) -> None:
    (root / ".dvc/cache/files").rename(root.parent / "shared files")
    (root / ".dvc/cache/files").symlink_to(root.parent / "shared files")


@pytest.mark.parametrize(
    ("disturb", "told"),
    [
        (break_a_branch, "Git cannot tell its commits"),
        (add_a_worktree, "is another worktree"),
        (add_a_pipeline, "is of another pipeline"),
        (cut_the_history, "is a clone without its older commits"),
        (move_the_objects, r"shared files/md5: may be .* --shared-cache .*shared files/md5"),
    ],
)
@pytest.mark.usefixtures("three")
def test_where_not_all_is_seen_nothing_goes(
    root: Path, disturb: Callable[[Path], None], told: str
) -> None:
    make_version(root, "never committed")
    git(root, "checkout", "-q", "--", ".")
    disturb(root)
    before = objects(root)
    with pytest.raises(InputError, match=told):
        collect(root)
    assert objects(root) == before


@pytest.mark.usefixtures("three")
def test_git_that_cannot_be_started_keeps_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = objects(root)
    monkeypatch.setenv("PATH", str(root))
    with pytest.raises(InputError, match="Git cannot be started"):
        collect(root)
    assert objects(root) == before


def test_branch_without_a_commit_yet_hides_no_other(
    root: Path, three: list[dict[str, str]]
) -> None:
    git(root, "symbolic-ref", "HEAD", "refs/heads/fresh")
    collect(root, all_commits=True)
    assert [kept(root, version) for version in three] == [ALL, ALL, ALL]


def test_tag_of_a_tag_is_one_of_the_commit(root: Path, three: list[dict[str, str]]) -> None:
    other = make_version(root, "x")
    commit(root, "x", time_s=1_700_000_009)
    git(root, "tag", "-a", "-m", "a", "q1")
    git(root, "tag", "-a", "-m", "b", "q2", "q1")
    git(root, "tag", "-d", "q1")
    git(root, "reset", "-q", "--hard", "HEAD~1")
    collect(root)
    assert kept(root, other) == ALL
    assert kept(root, three[2]) == ALL


@pytest.mark.usefixtures("three")
def test_untracked_data_of_a_stash_stay(root: Path) -> None:
    add_videos(root, {"Walk/new.avi": b"new"}, dataset="new")
    git(root, "stash", "-q", "-u")
    collect(root)
    assert object_file(root, md5_of(b"new")).exists()


def test_damaged_list_keeps_all(root: Path, three: list[dict[str, str]]) -> None:
    overwrite(object_file(root, three[1][FRAMES]), b"[]")
    before = objects(root)
    with pytest.raises(InputError, match="is a damaged list"):
        collect(root)
    assert objects(root) == before


def test_folder_that_is_here_without_its_list_keeps_all(
    root: Path, three: list[dict[str, str]]
) -> None:
    object_file(root, three[2][VIDEOS]).unlink()
    before = objects(root)
    with pytest.raises(InputError, match="the list of its files is not in the cache"):
        collect(root)
    assert objects(root) == before


def test_report_says_what_is_needed_by_what(
    root: Path, three: list[dict[str, str]], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.runs.append(run_of(three[0], "a", is_deleted=True))
    (root / ".kinetrack/resume/.k.finished").mkdir(parents=True)
    (root / ".kinetrack/resume/going").mkdir()
    collect_garbage(root, GcOptions(), yes=True, as_json=True)
    report = json.loads(capsys.readouterr().out)
    counts = {reason: one["objects"] for reason, one in report["needed"].items()}
    assert counts == {"the workspace": 10, "branches and tags": 10, "videos of older commits": 2}
    assert (report["is_freed"], len(report["unneeded"]), report["deleted_runs"]) == (True, 8, 1)
    assert [path.name for path in (root / ".kinetrack/resume").iterdir()] == ["going"]
    collect(root)
    text = capsys.readouterr().out
    assert "deleted runs still in MLflow: 1" in text
    assert "mlflow gc --backend-store-uri sqlite:///mlruns/mlflow.db" in text
    assert text.endswith("gc: freed 0 objects, 0 bytes\n")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run with two seeds, by the real commands."""
    project = make_project(tmp_path_factory.mktemp("gc") / "my project")
    for seed in (0, 1):
        project.set_params(sample={"seed": seed})
        project.run("dvc", "repro")
        project.commit(f"seed {seed}")
    return project


@pytest.mark.slow
def test_of_real_runs_all_stays_that_reproduce_needs(real: Project, tmp_path: Path) -> None:
    kinetrack = ("python", "-m", "kinetrack.cli.main")
    root = real.folder
    git(root, "checkout", "-q", "--orphan", "fresh")  # the branch with both is given up
    real.commit("again")
    git(root, "branch", "-D", "main")
    runs = json.loads(real.run(*kinetrack, "runs", "--json").stdout)
    older = next(run for run in runs if run["params"]["sample.seed"] == "0")
    real.run(*kinetrack, "gc", "--derived", "--yes")
    cache = cache_folder(root)
    tags = older["tags"]
    assert holds(cache, tags["data.tensors_md5"]) != "yes"
    for name in ("data.videos_md5", "data.split_md5", "model_md5"):
        assert holds(cache, tags[name]) == "yes"
    assert real.run(*kinetrack, "verify").stdout.endswith("verify: all is as recorded\n")
    for md5, content in objects(root).items():
        assert md5_of(content) == md5.removesuffix(".dir")
    again = real.run(*kinetrack, "reproduce", older["run_id"], "--into", str(tmp_path / "again"))
    assert "equal" in again.stdout


@pytest.mark.slow
def test_dvc_cannot_begin_while_objects_go_and_is_not_disturbed(tmp_path: Path) -> None:
    project = Project(start(tmp_path / "my project"))
    with garbage.hold_dvc(project.folder):
        ended = project.run("dvc", "status", check=False)
        assert "Unable to acquire lock" in ended.stderr
    marker = project.folder / "began"
    work = f"touch {marker.name}; sleep 60"
    project.run("dvc", "stage", "add", "-n", "wait", "-d", "params.yaml", work)
    child = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "wait"],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not marker.exists():
            assert child.poll() is None
        collect = ("python", "-m", "kinetrack.cli.main", "gc", "--yes")
        ended = project.run(*collect, check=False)
        assert ended.returncode == 2
        assert "DVC is at work here" in ended.stderr
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert project.run(*collect).stdout.endswith("gc: freed 0 objects, 0 bytes\n")
