"""Faults put into a real DVC project: each is named, and the commands named bring all back."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.findings import Finding, Step, in_order
from kinetrack.versioning.restore import find_damage
from kinetrack.versioning.tracked import list_tracked
from kinetrack.versioning.verify import verify_tracked

from project import Project, environment
from tracked_files import CACHE, md5_of, object_file, overwrite, track_folder, track_listing

PIPELINE = """
stages:
  make:
    cmd: mkdir -p out/sub reports && cp raw/a raw/b out/sub/ && printf made > out/made &&
      cat raw/a > reports/size.txt
    deps: [raw]
    outs: [out]
    metrics: [{reports/size.txt: {cache: false}}]
"""
MADE = b"made"  # by the stage, and nobody else has it
RAW = {"a": b"first\n", "b": b"second\n", "sub/c d": b"third\n"}


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A project with raw files, a stage that copies two of them, and a report in Git."""
    folder = tmp_path_factory.mktemp("restore") / "project"
    project = Project(folder)
    for name, content in RAW.items():
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "raw" / name).write_bytes(content)
    (folder / "dvc.yaml").write_text(PIPELINE)
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "add", "-q", "raw")
    project.run("dvc", "repro", "-q")
    project.commit("all")
    return project


@pytest.fixture
def project(committed, tmp_path):
    """A copy to damage, its cache too."""
    shutil.copytree(committed.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def findings(project) -> dict[str, Finding]:
    """What is found, by path."""
    root = project.folder
    outputs, _ = verify_tracked(list_tracked(root), root=root, cache=cache_folder(root))
    found = find_damage(outputs, root=root).values()
    return {finding.path: finding for some in found for finding in some}


def restore(project) -> None:
    """Run the commands that are named, in their order, and see that they bring all back."""
    before = (project.folder / "dvc.lock").read_text(), (project.folder / "raw.dvc").read_text()
    for command in in_order(findings(project).values()):
        sh(project, command)  # one may fail: that nothing is found any more is what counts
    assert findings(project) == {}
    assert {name: (project.folder / "raw" / name).read_bytes() for name in RAW} == RAW
    after = (project.folder / "dvc.lock").read_text(), (project.folder / "raw.dvc").read_text()
    assert after == before


def sh(project, command):
    where = {"cwd": project.folder, "env": environment()}
    subprocess.run(command, shell=True, **where, capture_output=True, check=False)


def object_of(project, name) -> Path:
    return object_file(project.folder, md5_of(RAW[name]))


def add_remote(project, *, push: bool = True) -> Path:
    remote = project.folder.parent / "remote"
    project.run("dvc", "remote", "add", "-q", "-d", "store", str(remote))
    if push:
        project.run("dvc", "push", "-q")
    return remote


# Without DVC, and fast.


@pytest.fixture
def bare(tmp_path):
    track_folder(tmp_path, "videos", {f"{number:02}.avi": b"%d" % number for number in range(30)})
    return tmp_path


def bare_findings(root, *, can_fetch=False, monkeypatch):
    monkeypatch.setattr("kinetrack.versioning.restore.has_default_remote", lambda root: can_fetch)
    outputs, _ = verify_tracked(list_tracked(root), root=root, cache=root / CACHE)
    [found] = find_damage(outputs, root=root).values()
    return found


def test_nothing_is_named_where_all_is_right(bare, monkeypatch):
    assert bare_findings(bare, monkeypatch=monkeypatch) == []


def test_a_changed_raw_file_is_restored_or_its_change_recorded(bare, monkeypatch):
    (bare / "videos/03.avi").write_bytes(b"edited")
    [found] = bare_findings(bare, monkeypatch=monkeypatch)
    assert found.remedy == (
        "rm -f videos/03.avi && dvc checkout videos/03.avi; "
        "or, if the change is meant: dvc add videos"
    )


def test_many_changed_files_are_checked_out_as_a_folder(bare, monkeypatch):
    for number in range(25):
        (bare / f"videos/{number:02}.avi").unlink()
    found = bare_findings(bare, monkeypatch=monkeypatch)
    assert in_order(found) == ["rm -rf videos", "dvc checkout videos"]
    (bare / "videos/new.avi").write_bytes(b"held by nothing else")
    found = bare_findings(bare, monkeypatch=monkeypatch)
    assert not any("rm -rf" in command for command in in_order(found))


def test_a_raw_file_without_good_copy_is_said_to_be_lost(bare, monkeypatch):
    (bare / "videos/03.avi").write_bytes(b"edited")
    overwrite(object_file(bare, md5_of(b"3")), b"x")
    object_file(bare, md5_of(b"4")).unlink()
    lost, other = bare_findings(bare, monkeypatch=monkeypatch)
    assert (lost.path, lost.steps) == ("videos/03.avi", ())
    assert "no good copy is left here" in lost.advice
    # To commit now would record the edited file.
    assert (other.path, other.steps) == ("videos/04.avi", ())
    assert "restore the others of videos.dvc, then kinetrack verify again" in other.advice


def test_the_only_copy_stays_until_the_remote_has_given_a_better_one(bare, monkeypatch):
    (bare / "videos/03.avi").write_bytes(b"edited")
    cached = object_file(bare, md5_of(b"3"))
    overwrite(cached, b"x")
    [found] = bare_findings(bare, can_fetch=True, monkeypatch=monkeypatch)
    place = cached.relative_to(bare)
    assert [step.command for step in found.steps] == [
        f"rm -f {place}",
        "dvc fetch videos",
        f"test -f {place} && rm -f videos/03.avi && dvc checkout videos/03.avi",
    ]


def test_a_list_that_leads_out_is_not_to_be_checked_out(bare, monkeypatch):
    track_listing(bare, "videos", {"../x": md5_of(b"x")})
    [found] = bare_findings(bare, monkeypatch=monkeypatch)
    assert (found.path, found.steps) == ("videos", ())
    assert "'../x', which leads out of it" in found.problem


def test_extra_raw_files_are_for_the_person_to_decide(bare, monkeypatch):
    (bare / "videos/new.avi").write_bytes(b"new")
    [found] = bare_findings(bare, monkeypatch=monkeypatch)
    assert found.remedy == "dvc add videos to keep it, or rm -f videos/new.avi"


def test_nothing_is_committed_while_an_extra_file_would_be_too(bare, monkeypatch):
    object_file(bare, md5_of(b"4")).unlink()
    [found] = bare_findings(bare, monkeypatch=monkeypatch)
    assert found.remedy == "dvc commit -f videos.dvc"
    (bare / "videos/new.avi").write_bytes(b"new")
    found, _ = bare_findings(bare, monkeypatch=monkeypatch)
    assert found.remedy == "restore the others of videos.dvc, then kinetrack verify again"


def test_a_folder_that_is_gone_is_one_finding(bare, monkeypatch):
    shutil.rmtree(bare / "videos")
    [found] = bare_findings(bare, monkeypatch=monkeypatch)
    assert found == ("videos", "is not here; the cache has it",
                     (Step("check out", "dvc checkout videos"),), "")  # fmt: skip
    shutil.rmtree(bare / CACHE)
    [found] = bare_findings(bare, monkeypatch=monkeypatch)
    assert (found.problem, found.steps) == ("is not here, nor in the cache", ())
    [found] = bare_findings(bare, can_fetch=True, monkeypatch=monkeypatch)
    assert found.remedy == "dvc pull videos"


def test_commands_come_once_and_what_removes_comes_first():
    one = Finding("a", "", (Step("remove", "rm a"), Step("commit", "commit")))
    two = Finding("b", "", (Step("fetch", "fetch"), Step("commit", "commit")))
    assert in_order([two, one]) == ["rm a", "fetch", "commit"]


# The faults, in a real project.


@pytest.mark.slow
def test_g1_a_corrupted_object_with_mode_0444_that_dvc_status_does_not_see(project):
    cached = object_of(project, "sub/c d")
    overwrite(cached, b"thXrd\n")
    assert cached.stat().st_mode & 0o777 == 0o444
    assert json.loads(project.run("dvc", "status", "--json").stdout) == {}
    found = findings(project)["raw/sub/c d"]
    assert found.problem == "its object in the cache is damaged; here it is right"
    assert found.remedy == f"rm -f {cached.relative_to(project.folder)} && dvc commit -f raw.dvc"
    restore(project)


@pytest.mark.slow
def test_g1_a_corrupted_object_that_was_checked_out_comes_from_the_remote(project):
    add_remote(project)
    overwrite(object_of(project, "sub/c d"), b"thXrd\n")
    shutil.rmtree(project.folder / "raw")
    project.run("dvc", "checkout", "-q")
    assert (project.folder / "raw/sub/c d").read_bytes() == b"thXrd\n"  # without a word
    found = findings(project)["raw/sub/c d"]
    assert found.problem == "is not as recorded, and its object in the cache is damaged"
    restore(project)


@pytest.mark.slow
def test_g1_a_corrupted_object_of_a_stage_is_made_again(project):
    overwrite(object_file(project.folder, md5_of(MADE)), b"mADE")
    (project.folder / "out/made").write_bytes(b"mADE")
    assert findings(project)["out/made"].remedy.endswith("&& dvc repro -f -s make")
    restore(project)


@pytest.mark.slow
def test_g1_a_stage_with_changed_inputs_is_not_committed(project):
    object_file(project.folder, md5_of(MADE)).unlink()
    (project.folder / "dvc.yaml").write_text(PIPELINE.replace("printf", "echo"))
    # To commit would call it the output of the new command.
    assert findings(project)["out/made"].remedy == "dvc repro make"
    sh(project, "dvc repro make")
    assert findings(project) == {}
    assert (project.folder / "out/made").read_bytes() == MADE + b"\n"


@pytest.mark.slow
@pytest.mark.parametrize("which", ["object", "list"])
def test_g2_a_missing_object(project, which):
    [listing] = Path(project.folder, CACHE).rglob(f"{raw_md5(project)[2:]}")
    (object_of(project, "sub/c d") if which == "object" else listing).unlink()
    [found] = findings(project).values()
    assert found.problem.startswith("its object in the cache is missing")
    assert found.remedy == "dvc commit -f raw.dvc"
    restore(project)


def raw_md5(project):
    [tracked] = [one for one in list_tracked(project.folder) if one.path == "raw"]
    return tracked.md5


@pytest.mark.slow
def test_g3_a_pull_that_was_cut(project):
    """Half of the objects are here, one under its temporary name, and nothing is checked out."""
    add_remote(project)
    object_of(project, "a").unlink()
    cut = object_of(project, "sub/c d")
    cut.rename(cut.with_name(f"{cut.name}.tmp"))
    shutil.rmtree(project.folder / "raw")
    shutil.rmtree(project.folder / "out")
    found = findings(project)
    assert found["raw"].problem == "is not here; of 3 objects in the cache 2 are missing, 0 damaged"
    assert found["raw"].remedy == "dvc pull raw"
    assert found["out"].remedy == "dvc pull out || dvc repro make"
    restore(project)


@pytest.mark.slow
def test_g3_a_push_that_was_cut(project):
    """The remote has half of the objects: what a stage makes is made, what is here is kept."""
    remote = add_remote(project)
    for name in ("a", "b"):
        (remote / object_of(project, name).relative_to(project.folder / CACHE)).unlink()
    made = object_file(project.folder, md5_of(MADE))
    (remote / made.relative_to(project.folder / CACHE)).unlink()
    made.unlink()
    (project.folder / "out/made").unlink()
    (project.folder / "out/sub/b").unlink()
    restore(project)


@pytest.mark.slow
def test_g3_what_no_remote_has_stays_named_and_nothing_else_is_lost(project):
    """`dvc pull` would remove the whole folder, with the one good copy of another file in it."""
    remote = add_remote(project)
    shutil.rmtree(remote)
    object_of(project, "sub/c d").unlink()
    (project.folder / "raw/sub/c d").unlink()
    object_of(project, "b").unlink()
    (project.folder / "out/made").unlink()
    object_file(project.folder, md5_of(MADE)).unlink()
    before = (project.folder / "raw.dvc").read_text()
    found = findings(project)
    # `dvc repro` would write into raw.dvc that the file is gone.
    assert not any("dvc repro" in one.remedy for one in found.values())
    for command in in_order(found.values()):
        sh(project, command)
    assert (project.folder / "raw/b").read_bytes() == RAW["b"]
    assert (project.folder / "raw.dvc").read_text() == before
    assert "raw/sub/c d" in findings(project)


@pytest.mark.slow
def test_g4_hand_edited_outputs(project):
    (project.folder / "out/sub/a").write_text("edited")
    (project.folder / "reports/size.txt").write_text("better")
    (project.folder / "raw/sub/c d").write_text("cut off")
    (project.folder / "out/sub/notes.txt").write_text("to do")
    assert {path: found.problem for path, found in findings(project).items()} == {
        "out/sub/a": "is not as recorded",
        "out/sub/notes.txt": "is not recorded",
        "raw/sub/c d": "is not as recorded",
        "reports/size.txt": "is not as recorded",
    }
    restore(project)


@pytest.mark.slow
def test_g4_a_report_that_git_has_not_is_made_again(project):
    project.run("git", "rm", "-q", "--cached", "reports/size.txt")
    project.run("git", "commit", "-q", "-m", "no report")
    (project.folder / "reports/size.txt").unlink()
    assert findings(project)["reports/size.txt"].remedy == "dvc repro -f -s make"
    restore(project)


@pytest.mark.slow
def test_g5_an_edit_through_a_hard_link_destroys_both_and_the_stage_makes_it_again(project):
    project.run("dvc", "config", "cache.type", "hardlink")
    project.run("dvc", "checkout", "-q", "--relink")
    overwrite(project.folder / "out/made", b"edited")
    assert object_file(project.folder, md5_of(MADE)).read_bytes() == b"edited"
    [found] = findings(project).values()
    assert found.problem == "is not as recorded, and its object in the cache is damaged"
    assert found.remedy.endswith("&& dvc repro -f -s make")
    restore(project)


@pytest.mark.slow
def test_g5_an_edit_through_a_hard_link_comes_back_from_the_remote(project):
    add_remote(project)
    project.run("dvc", "config", "cache.type", "hardlink")
    project.run("dvc", "checkout", "-q", "--relink")
    overwrite(project.folder / "raw/sub/c d", b"edited")
    assert findings(project)["raw/sub/c d"].problem.endswith(
        "and its object in the cache is damaged"
    )
    restore(project)


@pytest.mark.slow
def test_g6_a_version_in_use_that_dvc_gc_took(project):
    """Another branch without the data collected the cache that this one shares."""
    project.run("git", "checkout", "-q", "-b", "empty")
    project.run("git", "rm", "-q", "raw.dvc", "dvc.lock", "dvc.yaml")
    project.run("git", "commit", "-q", "-m", "nothing")
    project.run("dvc", "gc", "-q", "-w", "-f")
    project.run("git", "checkout", "-q", "main")
    found = findings(project)
    assert {one.remedy for one in found.values()} == {"dvc commit -f raw.dvc", "dvc commit -f make"}
    restore(project)


@pytest.mark.slow
def test_g7_a_moved_project_is_as_it_was(project, tmp_path):
    project.folder.rename(tmp_path / "moved here")
    assert findings(Project(tmp_path / "moved here")) == {}


@pytest.mark.slow
def test_g7_links_into_the_cache_of_before_are_named_and_made_anew(project, tmp_path):
    project.run("dvc", "config", "cache.type", "symlink")
    project.commit("links")
    project.run("dvc", "checkout", "-q", "--relink")
    project.folder.rename(tmp_path / "moved here")
    moved = Project(tmp_path / "moved here")
    assert findings(moved)["raw/a"].problem == "is a broken link"
    restore(moved)


@pytest.mark.slow
def test_a_fresh_clone_names_one_command_for_each_folder(project, tmp_path):
    add_remote(project)
    project.commit("remote")
    project.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert {path: found.remedy for path, found in findings(clone).items()} == {
        "raw": "dvc pull raw",
        "out": "dvc pull out || dvc repro make",
    }
    restore(clone)
