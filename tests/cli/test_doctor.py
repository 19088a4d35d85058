"""Each set-up is broken for real, and most remedies are carried out as they are printed."""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kinetrack.cli.doctor import environment as machine
from kinetrack.cli.doctor import report
from kinetrack.cli.doctor.finding import Finding
from kinetrack.cli.doctor.report import CHECKS, examine, run_check
from kinetrack.errors import InputError
from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.journal import Journal, journal_path
from kinetrack.versioning import setup

from project import Project, environment, make_project


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("sound") / "project")
    remote = project.folder.parent / "remote"
    remote.mkdir()
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(remote))
    project.commit("remote")
    return project.folder


@pytest.fixture
def project(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which nothing is broken, as working directory, with nobody's settings."""
    shutil.copytree(sound, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))  # for nobody else: 0700
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # The tests' own package is that of another folder.
    monkeypatch.setattr(machine.kinetrack, "__file__", str(Path("src/kinetrack/x").absolute()))
    return Project(tmp_path / "project")


def find(part: str, project: Project) -> list[Finding]:
    """What one check finds that is not in order."""
    return [one for one in run_check(CHECKS[part], project.folder) if one.state != "ok"]


def carry_out(remedy: str, project: Project) -> None:
    """Run a remedy as a person would, in the project's folder."""
    subprocess.run(remedy, shell=True, cwd=project.folder, check=True, capture_output=True)


def test_nothing_is_broken_in_a_sound_project(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = project.run("git", "status", "--short").stdout
    assert examine(project.folder, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[:-1]} == set(CHECKS)
    assert lines[-1] == "doctor: nothing is broken"
    assert not (project.folder / "mlruns/mlflow.db").exists()
    assert project.run("git", "status", "--short").stdout == before


def test_json_names_every_finding(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.folder / "params.yaml").write_text("dataset: [")
    assert not examine(project.folder, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    broken = {one["part"]: one for one in told["findings"] if one["state"] == "broken"}
    assert broken.keys() == {"dvc", "params"}  # dvc.yaml takes the data set's name from there
    assert all(one["remedy"] for one in broken.values())
    assert {one["part"] for one in told["findings"]} == set(CHECKS)


def break_git_repository(project: Project) -> None:
    shutil.rmtree(project.folder / ".git")


def leave_a_merge(project: Project) -> None:
    for branch, text in (("theirs", "1"), ("ours", "2")):
        project.run("git", "checkout", "-q", "-b", branch, "main")
        (project.folder / "dvc.lock").write_text(text)
        project.commit(branch)
    project.run("git", "merge", "theirs", check=False)


def forget_a_data_file(project: Project) -> None:
    folder = project.folder / "data/videos"
    folder.mkdir(parents=True)
    (folder / "my clips.dvc").write_text("outs: []\n")


def remove_dvc(project: Project) -> None:
    shutil.rmtree(project.folder / ".dvc")


def damage_dvc_config(project: Project) -> None:
    (project.folder / ".dvc/config").write_text("['remote \"team\n")


def choose_hard_links(project: Project) -> None:
    project.run("dvc", "config", "cache.type", "hardlink")


def take_the_default_away(project: Project) -> None:
    project.run("dvc", "config", "--unset", "core.remote")


def write_a_secret(project: Project) -> None:
    project.run("dvc", "remote", "add", "store", "ssh://127.0.0.1:1/x")
    project.run("dvc", "remote", "modify", "store", "password", "s3cr3t")


def lose_the_host(project: Project) -> None:
    project.run("dvc", "remote", "modify", "team", "url", "ssh://127.0.0.1:1/data")


def damage_the_database(project: Project) -> None:
    (project.folder / "mlruns/mlflow.db").write_text("x" * 4096)


def have_another_database(project: Project) -> None:
    path = project.folder / "mlruns/mlflow.db"
    prepare_database(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of_the_future'")


def damage_the_pipeline(project: Project) -> None:
    (project.folder / "dvc.yaml").write_text("stages: [")


def leave_marks(project: Project) -> None:
    (project.folder / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n")


def damage_local_settings(project: Project) -> None:
    (project.folder / ".dvc/config.local").write_text("[core\n")


def mistype_the_remote(project: Project) -> None:
    project.run("dvc", "remote", "modify", "team", "url", str(project.folder / "nowhere"))


def name_an_unknown_machine_option(project: Project) -> None:
    (project.folder / ".kinetrack").mkdir()
    (project.folder / ".kinetrack/machine.yaml").write_text("devise: cpu\n")


def mistype_a_param(project: Project) -> None:
    project.set_params(train={"epochs": -1})


def change_a_version(project: Project) -> None:
    (project.folder / "constraints.txt").write_text("numpy==1.0.0\nav==0.1\n")


SET_UPS: dict[str, tuple[Callable[[Project], None], str, str, str]] = {
    "no Git repository": (break_git_repository, "git", "not a git repository", "git init"),
    "merge with conflicts": (leave_a_merge, "git", "a merge is not ended: dvc.lock", "--theirs"),
    "data that Git does not know": (
        forget_a_data_file,
        "git",
        "data/videos/my clips.dvc stands for data",
        "git add 'data/videos/my clips.dvc'",
    ),
    "no DVC": (remove_dvc, "dvc", "is not under DVC", "git checkout .dvc"),
    "damaged .dvc/config": (damage_dvc_config, "dvc", "DVC: ", "git checkout HEAD -- .dvc/config"),
    "hard links": (choose_hard_links, "dvc", "hardlink: an edited file", "dvc checkout --relink"),
    "no default remote": (take_the_default_away, "remote", "no remote is the", "default team"),
    "secret in Git": (write_a_secret, "remote", "password stands in .dvc/config", "--local"),
    "remote that is away": (
        lose_the_host,
        "remote",
        "team (ssh://127.0.0.1:1/data, the default): ",
        "docs/sharing.md",
    ),
    "damaged database": (damage_the_database, "mlflow", "not an MLflow database", "move it away"),
    "database of another MLflow": (have_another_database, "mlflow", "of_the_future", "MLflow"),
    "damaged dvc.yaml": (damage_the_pipeline, "dvc", "'./dvc.yaml' is invalid", "git checkout"),
    "marks of a merge in dvc.lock": (leave_marks, "dvc", "'./dvc.lock' is inv", "git checkout"),
    "settings of this clone": (damage_local_settings, "dvc", "DVC: ", "mend .dvc/config.local"),
    "remote that is not there": (mistype_the_remote, "remote", "the folder is not", "mount"),
    "unknown machine option": (
        name_an_unknown_machine_option,
        "machine",
        "devise",
        "allowed here: device",
    ),
    "mistyped param": (mistype_a_param, "params", "train.epochs", "what each key takes"),
    "other versions": (change_a_version, "python", "instead of 1.0.0", "make install"),
}


@pytest.mark.parametrize(("damage", "part", "told", "remedy"), SET_UPS.values(), ids=SET_UPS)
def test_broken_set_up_is_told_with_its_remedy(
    project: Project, damage: Callable[[Project], None], part: str, told: str, remedy: str
) -> None:
    damage(project)  # nothing is found before: the first test
    findings = find(part, project)
    assert any(told in one.told and remedy in one.remedy for one in findings), findings
    assert "s3cr3t" not in str(findings)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (break_git_repository, "git"),
        (forget_a_data_file, "git"),
        (damage_dvc_config, "dvc"),
        (remove_dvc, "dvc"),
        (take_the_default_away, "remote"),
    ],
)
def test_remedy_mends_it(project: Project, damage: Callable[[Project], None], part: str) -> None:
    damage(project)
    finding, *_ = find(part, project)  # what was changed is also not committed
    carry_out(finding.remedy, project)
    assert not find(part, project)


def test_pickles_of_dvc_that_anybody_may_exchange(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    (finding,) = find("dvc", project)
    assert finding.state == "note"
    assert "everybody on this machine may write /var/tmp/dvc/repo" in finding.told
    carry_out(finding.remedy, project)
    assert not find("dvc", project)
    assert Path("~/.cache/dvc/repo").expanduser().is_dir()


def test_remote_that_no_clone_would_have(project: Project) -> None:
    project.run("git", "rm", "-q", "--cached", ".dvc/config")
    project.run("git", "commit", "-q", "-m", "without")
    (project.folder / "other").touch()
    project.run("git", "add", "other")
    (finding,) = find("remote", project)
    assert finding.state == "note"
    assert finding.told.startswith(".dvc/config, which names team, is not committed as it is")
    carry_out(finding.remedy, project)
    assert not find("remote", project)
    assert project.run("git", "show", "--name-only", "--format=").stdout == ".dvc/config\n"


def test_remote_of_this_machine_need_not_be_committed(project: Project) -> None:
    team = str(project.folder.parent / "team")
    Path(team).mkdir()
    project.run("dvc", "remote", "remove", "team")
    project.run("dvc", "remote", "add", "-q", "-d", "--local", "team", team)
    assert not find("remote", project)


def test_without_a_remote_the_data_are_on_one_machine(project: Project) -> None:
    project.run("dvc", "remote", "remove", "team")
    (finding,) = find("remote", project)
    assert finding.state == "note"
    assert "on this machine alone" in finding.told


def test_person_whom_git_does_not_know(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    project.run("git", "config", "user.useConfigOnly", "true")
    (finding,) = find("git", project)
    assert finding.told.startswith("Git does not know who commits")
    carry_out(finding.remedy, project)
    assert not find("git", project)


def test_git_that_is_not_installed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project.folder))
    (finding,) = find("git", project)
    assert finding == Finding("broken", "Git is not installed", finding.remedy)


def test_device_that_this_machine_has_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETRACK_DEVICE", "cuda:9")
    (finding,) = find("devices", project)
    assert finding.told.startswith("KINETRACK_DEVICE: names no device of this machine")


def test_device_that_the_machine_s_file_names(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.folder / ".kinetrack").mkdir()
    (project.folder / ".kinetrack/machine.yaml").write_text("device: cuda:9\n")
    assert not examine(project.folder, as_json=True)
    told = json.loads(capsys.readouterr().out)["findings"]
    (broken,) = [one for one in told if one["state"] == "broken"]
    assert broken["told"].startswith("KINETRACK_DEVICE: names no device")
    assert broken["remedy"] == "edit .kinetrack/machine.yaml"


def test_check_that_fails_by_itself_is_a_finding(project: Project) -> None:
    def fail(_: Path) -> Iterator[Finding]:
        yield Finding("ok", "so far")
        raise OSError("gone\nand more")

    found = list(run_check(fail, project.folder))
    assert found[0].told == "so far"
    assert found[1][:2] == ("broken", "cannot be looked at: OSError: gone")


def test_remedies_are_for_the_project_s_folder(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder / "src")
    monkeypatch.setattr(report, "CHECKS", {})
    examine(project.folder, as_json=False)
    assert capsys.readouterr().out.startswith(f"cd {project.folder}   # the remedies")
    assert Path.cwd() == project.folder


def test_project_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be entered, found No such file"):
        examine(tmp_path / "nowhere", as_json=True)


@pytest.mark.parametrize("address", ["sqlite:foo", "sqlite:////nowhere/to/be/found/runs.db"])
def test_address_of_no_store(
    project: Project, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    (finding,) = find("mlflow", project)
    assert finding.state == "broken"
    assert "MLFLOW_TRACKING_URI" in finding.remedy


@pytest.mark.slow  # it waits until the lock is given up
def test_database_that_cannot_be_written(project: Project) -> None:
    path = project.folder / "mlruns/mlflow.db"
    prepare_database(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # root may write what is read-only
        (finding,) = find("mlflow", project)
    assert "is being written by another process" in finding.told


def test_repository_of_somebody_else(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    top = project.folder.parent
    problem = f"detected dubious ownership in repository at '{top}'"
    monkeypatch.setattr(setup, "inspect_git", lambda _: setup.GitSetup("2.39", problem))
    (finding,) = find("git", project)
    assert finding.remedy == f"git config --global --add safe.directory {top}"


def test_damaged_repository_is_not_begun_anew(project: Project) -> None:
    (project.folder / ".git/config").write_text("[core\n")
    (finding,) = find("git", project)
    assert "git init" not in finding.remedy


def test_full_disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(project.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    (finding,) = find("disk", project)
    assert "1.0 MB are free" in finding.told
    assert "kinetrack gc" in finding.remedy


def test_server_that_is_away(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cr3t@127.0.0.1:1")
    (finding,) = find("mlflow", project)
    assert finding.told.startswith("http://***@127.0.0.1:1 does not answer")
    assert "s3cr3t" not in str(finding)


def test_training_that_mlflow_was_not_told_of(project: Project) -> None:
    prepare_database(project.folder / "mlruns/mlflow.db")
    journal = Journal(journal_path("a" * 64), "a" * 64)
    journal.begin(
        name="x", experiment="e", place="mlruns", params={}, tags={}, files={}, datasets=[]
    )
    journal.end("FINISHED")
    (finding,) = find("mlflow", project)
    assert finding == Finding("note", finding.told, "kinetrack track")
    assert finding.told.startswith("1 training of this machine")


def test_python_of_another_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    other = project.folder.parent / "bin"
    other.mkdir()
    (other / "python").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other}:{os.environ['PATH']}")
    (finding,) = find("python", project)
    assert f"the first `python` of PATH is {other}/python" in finding.told
    assert shlex.split(finding.remedy) == [".", f"{sys.prefix}/bin/activate"]


def test_command_of_another_checkout(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.kinetrack, "__file__", "/elsewhere/kinetrack/__init__.py")
    (finding,) = find("python", project)
    assert finding.state == "broken"
    assert finding.told.startswith("the command is of /elsewhere/kinetrack, the stages run")


def test_package_that_is_missing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "requires", lambda _: ["no-such-package>=1", "av>=1"])
    (finding,) = find("python", project)
    assert finding == Finding("broken", "package no-such-package is missing", "make install")
