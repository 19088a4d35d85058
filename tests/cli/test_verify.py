import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kinetrack.cli.main import app
from kinetrack.cli.verify import Checked, Report, check_all, describe
from kinetrack.versioning.findings import Finding, Step, in_order

from project import Project, environment, make_project
from tracked_files import object_file, overwrite, track_folder

ARCHIVE = "data/frames/sample/Grow/v_Grow_g01_c01.zip"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project that has run nothing, with a data set of its own under DVC."""
    project = make_project(tmp_path_factory.mktemp("verify") / "project")
    files = {"manifest.csv": b"path,label\nJump/a.avi,Jump\n", "Jump/a.avi": b"a"}
    track_folder(project.folder, "data/videos/mine", files)
    project.set_params(dataset="mine")
    return project


@pytest.fixture
def project(fresh, tmp_path):
    shutil.copytree(fresh.folder, tmp_path / "project")
    return Project(tmp_path / "project")


def verify(project, monkeypatch, *options):
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return CliRunner().invoke(app, ["verify", *options])


def test_exit_code_0_when_all_is_well(project, monkeypatch):
    result = verify(project, monkeypatch)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "verify: all is as recorded"
    assert "1 manifest opened" in result.stdout


def test_exit_code_1_and_the_commands_when_something_is_found(project, monkeypatch):
    (project.folder / "data/videos/mine/Jump/a.avi").unlink()
    result = verify(project, monkeypatch)
    assert result.exit_code == 1
    line = "    data/videos/mine/Jump/a.avi: is missing -> dvc checkout data/videos/mine/Jump/a.avi"
    lines = result.stdout.splitlines()
    assert line in lines  # and not a second time for the manifest that names it
    assert lines[-3:] == [
        "verify: 1 finding",
        "to restore, in the project's folder, in this order:",
        "  dvc checkout data/videos/mine/Jump/a.avi",
    ]


def test_json_holds_every_finding(project, monkeypatch):
    (project.folder / "data/videos/mine/Jump/a.avi").unlink()
    result = verify(project, monkeypatch, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"]) == (1, False)
    assert found["commands"] == ["dvc checkout data/videos/mine/Jump/a.avi"]
    assert found["tracked"][0]["findings"][0]["path"] == "data/videos/mine/Jump/a.avi"


def test_a_damaged_index_is_not_compared_with_anything(project, monkeypatch):
    (project.folder / "data/videos/mine/manifest.csv").write_text("<<<<<<<")
    result = verify(project, monkeypatch)
    assert "NOT CHECKED: manifest.csv is damaged itself" in result.stdout
    assert "verify: 1 finding\n" in result.stdout


def test_a_project_that_tracks_nothing_is_well(project, monkeypatch):
    shutil.rmtree(project.folder / "data/videos")
    result = verify(project, monkeypatch)
    assert (result.exit_code, "make repro" in result.stdout) == (0, True)


def test_many_findings_of_a_kind_are_cut_short():
    def finding(number, problem):
        return Finding(f"data/{number}", problem, (Step("make", f"make {number}"),))

    findings = [finding(number, "is missing") for number in range(25)] + [finding(99, "is bad")]
    lines = list(describe(Report([Checked("data", "26 files", 0, findings)], [])))
    assert "    ... and 5 more: is missing" in lines
    assert "    data/99: is bad -> make 99" in lines
    assert "verify: 26 findings" in lines
    assert len([line for line in lines if line.startswith("  make")]) == 21
    assert lines[-1].startswith("then kinetrack verify again for the others")


def test_one_command_for_many_findings_is_enough():
    step = Step("check out", "dvc checkout data")
    findings = [Finding(f"data/{number}", "is missing", (step,)) for number in range(25)]
    lines = list(describe(Report([Checked("data", "25 files", 0, findings)], [])))
    assert lines[-1] == "  dvc checkout data"


def test_a_name_cannot_forge_a_line():
    finding = Finding("data/a\n  rm -rf /", "is bad", (Step("make", "x"),))
    lines = list(describe(Report([Checked("data", "", 0, [finding])], [])))
    assert r"    data/a\n  rm -rf /: is bad -> x" in lines


# The real pipeline.


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A tiny project after `dvc repro`."""
    project = make_project(tmp_path_factory.mktemp("verify done") / "project")
    project.run("dvc", "repro", "-q")
    project.commit("repro")
    return project


@pytest.fixture
def made(done, tmp_path):
    shutil.copytree(done.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def problems(report: Report) -> dict[str, str]:
    return {finding.path: finding.problem for finding in report.findings}


def restore(project, report: Report) -> None:
    """Run what is named, and see that all is well then."""
    for command in in_order(report.findings):
        here = command.replace("kinetrack ", "python -m kinetrack.cli.main ")
        subprocess.run(here, shell=True, cwd=project.folder, env=environment(), check=False)
    assert problems(check_all(project.folder)) == {}


def cached(project, path) -> Path:
    md5 = hashlib.md5((project.folder / path).read_bytes()).hexdigest()
    return object_file(project.folder, md5)


@pytest.mark.slow
def test_the_whole_pipeline_is_sound_and_every_kind_of_file_is_opened(made):
    report = check_all(made.folder)
    assert problems(report) == {}
    opened = {checked.path: checked.counted for checked in report.contents}
    assert opened == {
        "data/frames/sample": "24 archives opened",
        "data/tensors/sample": "24 tensors opened",
        "data/splits": "1 split opened",
        "data/model": "1 model opened",
    }


@pytest.mark.slow
def test_damage_at_several_places_is_named_and_restored(made):
    lock = (made.folder / "dvc.lock").read_text()
    archive = made.folder / ARCHIVE
    [tensor, *_] = sorted(made.folder.glob("data/tensors/sample/train/*/*.pt"))
    overwrite(cached(made, ARCHIVE), b"damaged")
    archive.write_bytes(b"damaged too")
    tensor.unlink()
    cached(made, "data/splits/split.json").unlink()
    (made.folder / "reports/train/metrics.json").write_text("{}")
    (made.folder / "data/model/weights.safetensors").write_bytes(b"edited")
    report = check_all(made.folder)
    assert problems(report) == {
        ARCHIVE: "is not as recorded, and its object in the cache is damaged",
        tensor.relative_to(made.folder).as_posix(): "is missing",
        "data/splits/split.json": "its object in the cache is missing; here it is right",
        "reports/train/metrics.json": "is not as recorded",
        "data/model/weights.safetensors": "is not as recorded",
    }
    restore(made, report)
    assert (made.folder / "dvc.lock").read_text() == lock


@pytest.mark.slow
def test_hand_edits_that_were_committed_contradict_the_indexes(made):
    (made.folder / ARCHIVE).write_bytes(b"edited")
    path = made.folder / "data/splits/split.json"
    split = json.loads(path.read_text())
    split["train"].append(split["test"].pop())
    path.write_text(json.dumps(split))
    made.run("dvc", "commit", "-q", "-f", "frames")
    made.run("dvc", "commit", "-q", "-f", "split")
    report = check_all(made.folder)
    assert problems(report) == {
        ARCHIVE: "is not the file that index.csv names by its MD5",
        "data/splits/split.json": "is of other frames than the index has",
    }
    assert in_order(report.findings) == [
        f"rm -f {ARCHIVE}",
        "dvc repro -f -s frames",
        "dvc repro -f -s split",
    ]
    restore(made, report)


@pytest.mark.slow
def test_another_data_set_than_the_present_one_is_chosen_first(made):
    (made.folder / ARCHIVE).unlink()
    made.set_params(dataset="other")
    report = check_all(made.folder)
    assert in_order(report.findings) == ["kinetrack use sample", f"dvc checkout {ARCHIVE}"]
    restore(made, report)


@pytest.mark.slow
def test_a_fresh_clone_without_a_remote_is_a_line_for_each_folder(made, tmp_path):
    made.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    report = check_all(tmp_path / "clone")
    folders = ("videos/sample", "frames/sample", "splits", "tensors/sample", "model")
    expected = {f"data/{folder}": "is not here, nor in the cache" for folder in folders}
    assert problems(report) == expected
    assert in_order(report.findings)[0] == "dvc repro sample"
