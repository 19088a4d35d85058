"""Trainings that Git and DVC's cache know, in a repository with locks made up for the purpose."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kinetrack.versioning.history import Origin, PastTraining, list_past_trainings
from kinetrack.versioning.lock import hash_of_inputs

CODE = "src/kinetrack/stages/train.py"
HISTORY = b"epoch,train_loss\n1,0.5\n"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def git(root: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)
    return result.stdout.decode().strip()


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("history") / "my project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


@pytest.fixture
def root(initialised: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(initialised, tmp_path / "my project"))


def listing(name: str) -> str:
    """The list that DVC has of a folder with one file."""
    return json.dumps([{"md5": md5(name.encode()), "relpath": name}])


def model_md5(name: str) -> str:
    return md5(listing(name).encode()) + ".dir"


def object_of(root: Path, name: str) -> Path:
    path = root / ".dvc/cache/files/md5" / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def cache_model(root: Path, name: str) -> None:
    object_of(root, model_md5(name)).write_text(listing(name))
    object_of(root, md5(name.encode())).write_text(name)


def write_results(
    root: Path,
    model: str,
    *,
    seed: int = 0,
    history: bytes = HISTORY,
    evaluated: str = "",
    evaluated_on: str = "f",
) -> None:
    """Write a lock and reports as DVC leaves them after `train`, and after `evaluate`."""
    train = {
        "cmd": "train",
        "deps": [
            {"path": "data/tensors/sample", "hash": "md5", "md5": "f" * 32 + ".dir"},
            {"path": CODE, "hash": "md5", "md5": "c" * 32},
        ],
        "params": {"params.yaml": {"train": {"seed": seed}}},
        "outs": [
            {"path": "data/model", "hash": "md5", "md5": model_md5(model)},
            {"path": "reports/train/history.csv", "hash": "md5", "md5": md5(HISTORY)},
        ],
    }
    split = {
        "cmd": "split",
        "deps": [{"path": "data/videos/sample", "hash": "md5", "md5": "9" * 32 + ".dir"}],
        "params": {"params.yaml": {"split": {"fold": 1}}},
        "outs": [],
    }
    evaluate = {
        "cmd": "evaluate",
        "deps": [
            {"path": "data/model", "hash": "md5", "md5": model_md5(evaluated)},
            {"path": "data/tensors/sample", "hash": "md5", "md5": evaluated_on * 32 + ".dir"},
        ],
        "outs": [],
    }
    stages = {"split": split, "train": train} | ({"evaluate": evaluate} if evaluated else {})
    (root / "dvc.lock").write_text(
        yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)
    )
    (root / "reports/train").mkdir(parents=True, exist_ok=True)
    (root / "reports/train/history.csv").write_bytes(history)


def commit(root: Path, message: str, *, time_s: int = 1_700_000_000) -> str:
    git(root, "add", "-A")
    subprocess.run(
        ["git", "commit", "-qm", message],
        cwd=root,
        check=True,
        env={**os.environ, "GIT_COMMITTER_DATE": f"{time_s} +0000"},
    )
    return git(root, "rev-parse", "HEAD")


def only(root: Path) -> PastTraining:
    (training,) = list_past_trainings(root)
    return training


def test_nothing_was_trained(root: Path) -> None:
    assert list_past_trainings(root) == []


def test_training_in_the_workspace(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a", seed=3)
    training = only(root)
    assert training.origin.commit == ""
    assert training.origin.time_ms > 1_700_000_000_000
    assert training.model_md5 == model_md5("a")
    assert (training.tensors_md5, training.dataset) == ("f" * 32 + ".dir", "sample")
    assert training.params == {"split": {"fold": 1}, "train": {"seed": 3}}
    assert training.code == {CODE: "c" * 32}
    assert training.inputs["data/videos/sample"] == "9" * 32 + ".dir"
    assert training.files["reports/train/history.csv"] == HISTORY
    deps = {"data/tensors/sample": "f" * 32 + ".dir", CODE: "c" * 32}
    assert training.train_key == hash_of_inputs("train", deps, {"train": {"seed": 3}})


def test_committed_trainings_come_in_the_order_of_time(root: Path) -> None:
    commits = []
    for number, name in enumerate("ab"):
        cache_model(root, name)
        write_results(root, name)
        commits.append(commit(root, name, time_s=1_700_000_000 + number))
    (root / "dvc.lock").unlink()
    found = list_past_trainings(root)
    assert [(one.origin.commit, one.model_md5) for one in found] == [
        (commits[0], model_md5("a")),
        (commits[1], model_md5("b")),
    ]
    assert found[0].origin.time_ms == 1_700_000_000_000


def test_result_that_is_committed_is_of_its_commit(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a")
    made = commit(root, "a")
    assert only(root).origin.commit == made


def test_training_whose_model_is_not_in_the_cache_is_none(root: Path) -> None:
    write_results(root, "a")
    commit(root, "a")
    assert list_past_trainings(root) == []


def test_model_of_many_commits_is_one_training_of_the_newest(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a")
    commit(root, "a")
    write_results(root, "a", seed=1)
    newest = commit(root, "more", time_s=1_700_000_009)
    (root / "dvc.lock").unlink()
    assert only(root).origin.commit == newest


def test_experiment_has_name_and_baseline(root: Path) -> None:
    baseline = git(root, "rev-parse", "HEAD")
    cache_model(root, "a")
    write_results(root, "a")
    experiment = commit(root, "experiment")
    git(root, "reset", "-q", "--hard", baseline)
    git(root, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/deep-owl", experiment)
    git(root, "update-ref", "refs/exps/stash", experiment)
    training = only(root)
    assert training.origin[0::2] == (experiment, "deep-owl")
    assert training.origin.baseline == baseline
    assert training.experiments == ("deep-owl",)


def test_commit_with_the_result_of_experiments_has_their_names(root: Path) -> None:
    baseline = git(root, "rev-parse", "HEAD")
    cache_model(root, "a")
    write_results(root, "a")
    made = commit(root, "a")
    for name in ("wet-fox", "deep-owl"):
        git(root, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", made)
    training = only(root)
    assert training.origin == Origin(made, 1_700_000_000_000)
    assert training.experiments == ("deep-owl", "wet-fox")


@pytest.mark.parametrize("place", ["branch", "tag", "remote"])
def test_other_branches_and_tags_count(root: Path, place: str) -> None:
    first = git(root, "rev-parse", "HEAD")
    cache_model(root, "a")
    write_results(root, "a")
    made = commit(root, "a")
    refs = {"branch": "refs/heads/x", "tag": "refs/tags/x", "remote": "refs/remotes/origin/x"}
    git(root, "update-ref", refs[place], made)
    git(root, "reset", "-q", "--hard", first)
    assert only(root).origin.commit == made


@pytest.mark.parametrize(("history", "is_there"), [(HISTORY, True), (b"epoch\n", False)])
def test_report_of_another_training_is_left_out(root: Path, history: bytes, is_there: bool) -> None:
    cache_model(root, "a")
    write_results(root, "a", history=history)
    assert ("reports/train/history.csv" in only(root).files) == is_there


@pytest.mark.parametrize(("evaluated", "expected"), [("", False), ("a", True), ("b", False)])
def test_evaluation_of_another_model_does_not_count(
    root: Path, evaluated: str, expected: bool
) -> None:
    cache_model(root, "a")
    write_results(root, "a", evaluated=evaluated)
    assert only(root).is_evaluated == expected


def test_project_below_the_top_of_its_repository(root: Path) -> None:
    below = root / "sub folder"
    below.mkdir()
    shutil.move(root / ".dvc", below / ".dvc")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "-f", "--subdir"], cwd=below, check=True
    )
    cache_model(below, "a")
    write_results(below, "a")
    made = commit(root, "a")
    (below / "dvc.lock").unlink()
    assert only(below).origin.commit == made


def test_evaluation_on_other_clips_does_not_count(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a", evaluated="a", evaluated_on="e")
    assert not only(root).is_evaluated


def change_lock(root: Path, stage: str, kind: str, path: str, new_md5: str) -> None:
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    entries = lock["stages"][stage][kind]
    lock["stages"][stage][kind] = [one for one in entries if one["path"] != path]
    lock["stages"][stage][kind].append({"path": path, "hash": "md5", "md5": new_md5})
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def test_lock_whose_data_are_newer_than_its_model_is_of_no_training(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a")
    made = commit(root, "a")
    change_lock(root, "split", "outs", "data/tensors/sample", "0" * 32 + ".dir")
    assert only(root).origin.commit == made
    commit(root, "half", time_s=1_700_000_009)
    assert only(root).origin.commit == made


def test_split_that_is_newer_than_the_tensors_is_seen_by_its_list(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a")
    splits = model_md5("split.json")
    object_of(root, splits).write_text(listing("split.json"))
    change_lock(root, "split", "outs", "data/splits", splits)
    change_lock(root, "train", "deps", "data/splits/split.json", md5(b"split.json"))
    assert only(root).origin.commit == ""
    change_lock(root, "train", "deps", "data/splits/split.json", "2" * 32)
    assert list_past_trainings(root) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("stages:", "<<<<<<< HEAD\nstages:"), ("cmd: train", "com: train"), ("deps:", "deps: 1 #")],
)
def test_damaged_lock_is_told_and_the_rest_is_listed(root: Path, old: str, new: str) -> None:
    for name in "ab":
        cache_model(root, name)
    write_results(root, "a")
    made = commit(root, "a")
    write_results(root, "b")
    text = (root / "dvc.lock").read_text()
    assert old in text
    (root / "dvc.lock").write_text(text.replace(old, new))
    told = []
    found = list_past_trainings(root, on_damaged=lambda origin, _: told.append(origin.commit))
    assert [one.origin.commit for one in found] == [made]
    assert told == [""]


def test_model_that_is_not_whole_in_the_cache_is_none(root: Path) -> None:
    cache_model(root, "a")
    write_results(root, "a")
    weights = object_of(root, md5(b"a"))
    weights.unlink()
    assert list_past_trainings(root) == []
    weights.write_text("a")
    assert only(root).model_md5 == model_md5("a")
