"""The real command in a real Git and DVC project."""

import shutil
from pathlib import Path

import pytest

from factories import write_data_set
from project import ROOT, Project, make_project

KINETRACK = ("python", "-m", "kinetrack.cli.main")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project into which a collection was imported; its tests read only."""
    folder = tmp_path_factory.mktemp("project")
    write_data_set(folder / "in", num_frames=16)
    project = make_project(folder / "here")
    done = project.run(*KINETRACK, "import", "../in", "--name", "kitchen")
    (folder / "screen").write_text(done.stdout)
    return project


def test_import_puts_the_data_under_dvc_and_git(project: Project) -> None:
    staged = project.run("git", "diff", "--cached", "--name-only").stdout.split()
    assert staged == ["data/videos/.gitignore", "data/videos/kitchen.dvc"]
    assert len(list((project.folder / "data/videos/kitchen").rglob("*.avi"))) == 6
    assert "up to date" in project.run("dvc", "status", "data/videos/kitchen.dvc").stdout


def test_import_tells_the_next_command_and_it_works(project: Project) -> None:
    screen = (project.folder.parent / "screen").read_text()
    assert "Next: kinetrack use kitchen" in screen
    project.run(*KINETRACK, "use", "kitchen")
    project.set_params(split={"train_groups": 2, "val_groups": 1})
    checked = project.run(*KINETRACK, "check").stdout
    assert "data set kitchen: 6 clips of 2 classes" in checked


def test_second_import_of_the_name_is_refused(project: Project) -> None:
    refused = project.run(*KINETRACK, "import", "../in", "--name", "kitchen", check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "data/videos/kitchen: is there already -> choose another --name" in refused.stderr


@pytest.mark.parametrize(
    ("setup", "reason"),
    [([], "is no Git repository -> git init"), (["git", "init", "-q"], "is not under DVC")],
)
def test_place_without_version_control_is_refused_at_once(
    tmp_path: Path, setup: list[str], reason: str
) -> None:
    write_data_set(tmp_path / "in", num_frames=2)
    here = Project(tmp_path / "here")
    here.folder.mkdir()
    for name in ("dvc.yaml", "presets/sample.yaml"):
        shutil.copyfile(ROOT / name, here.folder / Path(name).name.replace("sample", "params"))
    if setup:
        here.run(*setup)
    refused = here.run(*KINETRACK, "import", "../in", "--name", "kitchen", check=False)
    assert refused.returncode == 2
    assert reason in refused.stderr
    assert not (here.folder / "data").exists()
