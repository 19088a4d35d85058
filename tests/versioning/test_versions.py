"""Versions of data in a repository made up for the purpose."""

from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning.versions import (
    Version,
    list_checkouts,
    list_versions,
    locked_outputs,
    read_version,
)

from tracked_files import md5_of
from versions_made import add_videos, commit, git, make_experiment, record, start

A, B, C = ("a" * 32 + ".dir", "b" * 32 + ".dir", "c" * 32 + ".dir")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return start(tmp_path / "my project")


def of_commits(root: Path) -> list[Version]:
    return [one for one in list_versions(root) if one.kind != "workspace"]


def test_workspace_comes_first_even_when_nothing_was_committed(root: Path) -> None:
    record(root, "train", {"data/model": A})
    (only,) = list_versions(root)
    assert (only.kind, only.origin.commit, only.outputs) == ("workspace", "", {"data/model": A})


def test_no_repository_has_a_workspace_alone(tmp_path: Path) -> None:
    record(tmp_path, "train", {"data/model": A})
    (only,) = list_versions(tmp_path)
    assert only.outputs == {"data/model": A}


def test_outputs_are_those_of_lock_and_dvc_files(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"a"})
    record(root, "train", {"data/model": A})
    made = commit(root, "one")
    here, committed = list_versions(root)
    assert committed.origin == (made, 1_700_000_000_000, "", "")
    assert here.outputs == committed.outputs == {"data/videos/mine": md5, "data/model": A}
    assert here.inputs == committed.inputs == {"data/videos/mine"}


def test_what_dvc_does_not_cache_is_left_out(root: Path) -> None:
    (root / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: train\n    outs: [data/model]\n"
        "    metrics:\n      - reports/${dataset}/metrics.json:\n          cache: false\n"
    )
    record(root, "train", {"data/model": A, "reports/mine/metrics.json": "d" * 32})
    commit(root, "one")
    assert [one.outputs for one in list_versions(root)] == [{"data/model": A}] * 2


def test_commits_come_newest_first_and_tell_where_branches_and_tags_end(root: Path) -> None:
    for number, md5 in enumerate((A, B, C)):
        record(root, "train", {"data/model": md5})
        commit(root, md5, time_s=1_700_000_000 + number)
    git(root, "tag", "v1", "HEAD~2")
    git(root, "tag", "-a", "-m", "annotated", "v1-again", "HEAD~2")
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    found = [(one.outputs["data/model"], one.kind, one.names) for one in of_commits(root)]
    assert found == [
        (C, "tip", ("main", "origin/main")),
        (B, "commit", ()),
        (A, "tip", ("v1", "v1-again")),
    ]


def test_commit_of_other_files_is_no_version_but_its_branch_ends_in_one(root: Path) -> None:
    record(root, "train", {"data/model": A})
    made = commit(root, "data")
    (root / "notes.txt").write_text("more")
    commit(root, "notes")
    (only,) = of_commits(root)
    assert (only.origin.commit, only.names) == (made, ("main",))


def test_checked_out_commit_without_branch_is_a_tip(root: Path) -> None:
    record(root, "train", {"data/model": A})
    commit(root, "one")
    git(root, "checkout", "-q", "--detach")
    record(root, "train", {"data/model": B})
    commit(root, "two", time_s=1_700_000_001)
    assert [(one.outputs["data/model"], one.names) for one in of_commits(root)] == [
        (B, ("HEAD",)),
        (A, ("main",)),
    ]


def test_branch_that_a_merge_threw_away_counts(root: Path) -> None:
    record(root, "train", {"data/model": A})
    commit(root, "one")
    git(root, "checkout", "-q", "-b", "side")
    record(root, "train", {"data/model": B})
    commit(root, "two")
    git(root, "checkout", "-q", "main")
    git(root, "merge", "-q", "-s", "ours", "--no-edit", "side")
    git(root, "branch", "-D", "side")
    assert {one.outputs["data/model"] for one in of_commits(root)} == {A, B}


def test_merge_that_is_like_none_of_its_parents_is_a_version(root: Path) -> None:
    record(root, "train", {"data/model": A})
    commit(root, "one")
    git(root, "checkout", "-q", "-b", "side")
    add_videos(root, {"Walk/a.avi": b"a"})
    commit(root, "two")
    git(root, "checkout", "-q", "main")
    record(root, "train", {"data/model": B})
    commit(root, "three")
    git(root, "merge", "-q", "--no-edit", "side")
    (newest,) = [one for one in of_commits(root) if "main" in one.names]
    assert newest.outputs.keys() == {"data/model", "data/videos/mine"}


def test_dvc_file_that_was_removed_is_in_the_versions_before(root: Path) -> None:
    md5 = add_videos(root, {"Grün sein/ä b.avi": b"a"}, dataset="ä b")
    commit(root, "one")
    (root / "data/videos/ä b.dvc").unlink()
    commit(root, "two", time_s=1_700_000_001)
    after, before = of_commits(root)
    assert (after.outputs, before.outputs) == ({}, {"data/videos/ä b": md5})


def test_experiment_counts_with_its_own_dvc_files(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"a"}, dataset="new")
    made = make_experiment(root, "deep-owl")
    (only,) = of_commits(root)
    assert (only.kind, only.origin.commit, only.origin.experiment) == (
        "experiment",
        made,
        "deep-owl",
    )
    assert only.outputs == {"data/videos/new": md5}


def test_all_that_was_stashed_counts(root: Path) -> None:
    record(root, "train", {"data/model": A})
    commit(root, "one")
    for md5 in (B, C):
        record(root, "train", {"data/model": md5})
        git(root, "stash", "-q")
    found = [one for one in of_commits(root) if one.kind == "stash"]
    # Also of the index at that time, which was as the commit.
    outputs = [one.outputs["data/model"] for one in found]
    assert [md5 for md5 in outputs if md5 != A] == [C, B]
    assert found[0].names == ("git stash",)


def test_experiment_that_waits_in_the_queue_counts(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"a"})
    waiting = commit(root, "queued")
    git(root, "reset", "-q", "--hard", "HEAD~1")
    git(root, "update-ref", "--create-reflog", "refs/exps/celery/stash", waiting)
    (only,) = of_commits(root)
    assert (only.kind, only.names, only.outputs) == (
        "stash",
        ("dvc queue",),
        {"data/videos/mine": md5},
    )


def test_what_git_add_alone_has_counts(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"a"})
    record(root, "train", {"data/model": A})
    git(root, "add", "data/videos/mine.dvc", "dvc.lock")
    assert [one.kind for one in list_versions(root)] == ["workspace"]
    (root / "data/videos/mine.dvc").unlink()
    record(root, "train", {"data/model": B})
    (only,) = of_commits(root)
    assert (only.kind, only.names) == ("stash", ("git add",))
    assert only.outputs == {"data/videos/mine": md5, "data/model": A}
    assert only.inputs == {"data/videos/mine"}


def test_what_git_add_has_of_an_older_commit_counts(root: Path) -> None:
    for number, md5 in enumerate((A, B)):
        record(root, "train", {"data/model": md5})
        commit(root, md5[:1], time_s=1_700_000_000 + number)
    git(root, "checkout", "HEAD~1", "--", "dvc.lock")
    record(root, "train", {"data/model": B})
    assert [one.kind for one in list_versions(root)] == ["workspace", "tip", "commit", "stash"]


def test_output_whose_path_is_a_variable_takes_no_other_with_it(root: Path) -> None:
    (root / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: train\n"
        "    outs: ['${folder}', data/model, '${x}/${y}']\n"
        "    plots: [{'${x}': {cache: false}}, {'reports/${y}': {cache: false}}]\n"
    )
    record(root, "train", {"data/model": A, "logs": B, "a/b": C, "reports/x/y": "d" * 32})
    commit(root, "one")
    outputs = {"data/model": A, "logs": B, "a/b": C}
    assert [one.outputs for one in list_versions(root)] == [outputs] * 2


def test_folder_that_is_recorded_by_its_files_has_its_md5(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"a", "Run/b.avi": b"b"})
    files = "".join(
        f"  - relpath: {name}\n    md5: {md5_of(content)}\n    version_id: '1'\n"
        for name, content in {"Run/b.avi": b"b", "Walk/a.avi": b"a"}.items()
    )
    (root / "data/videos/mine.dvc").write_text(
        f"outs:\n- hash: md5\n  path: mine\n  files:\n{files}"
    )
    commit(root, "one")
    assert [one.outputs for one in list_versions(root)] == [{"data/videos/mine": md5}] * 2


@pytest.mark.parametrize(
    "text", ["<<<<<<< HEAD\nstages: {}\n", "stages: [1]\n", "stages: {a: {outs: [{md5: 1}, 3]}}\n"]
)
def test_damaged_lock_of_a_commit_is_a_problem_and_the_rest_is_listed(
    root: Path, text: str
) -> None:
    record(root, "train", {"data/model": A})
    good = (root / "dvc.lock").read_text()
    commit(root, "one")
    (root / "dvc.lock").write_text(text)
    commit(root, "two", time_s=1_700_000_001)
    (root / "dvc.lock").write_text(good)
    damaged, whole = of_commits(root)
    assert damaged.problem
    assert damaged.outputs == {}
    assert (whole.problem, whole.outputs) == ("", {"data/model": A})


def test_damaged_lock_of_the_workspace_is_refused(root: Path) -> None:
    (root / "dvc.lock").write_text("<<<<<<< HEAD\n")
    with pytest.raises(InputError, match=r"dvc\.lock: is no file of DVC's"):
        list_versions(root)


def test_project_below_the_top_of_its_repository(root: Path) -> None:
    below = root / "sub folder"
    below.mkdir()
    md5 = add_videos(below, {"Walk/a.avi": b"a"})
    git(root, "add", "-f", "sub folder/data/videos/mine.dvc")
    record(below, "train", {"data/model": A})
    commit(root, "one")
    _, committed = list_versions(below)
    assert committed.outputs == {"data/videos/mine": md5, "data/model": A}


def test_checkouts_of_running_experiments_are_found(root: Path) -> None:
    checkout = root / ".dvc/tmp/exps/tmp1"
    (checkout / ".dvc").mkdir(parents=True)
    (root / ".dvc/tmp/exps/run/1234").mkdir(parents=True)
    record(checkout, "train", {"data/model": B})
    assert list_checkouts(root) == [checkout]
    assert read_version(checkout).outputs == {"data/model": B}


def test_lock_alone_tells_its_outputs(root: Path) -> None:
    record(root, "train", {"data/model": A})
    assert locked_outputs((root / "dvc.lock").read_bytes()) == {"data/model": A}
    assert locked_outputs(b"<<<<<<<") == {}
