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


def test_import_of_names_with_blanks_leads_to_a_project_that_is_fine(
    project: Project, tmp_path: Path
) -> None:
    """The commands that `import` tells, but the last; the preset comes before the first check."""
    for place in write_data_set(tmp_path / "in", groups=21, num_frames=4):
        group = place.stem.split("_")[2]
        place.rename(place.with_name(f"tape{group[1:]} swing 1.avi"))
    shutil.copytree(project.folder, tmp_path / "here", symlinks=True)
    here = Project(tmp_path / "here")
    shutil.copyfile(ROOT / "presets/sample.yaml", here.folder / "params.yaml")
    pattern = r"^(tape\d+) "
    given = ("--name", "mine", "--group-pattern", pattern)
    screen = here.run(*KINETRACK, "import", "../in", *given).stdout
    following = screen[screen.index("Next: ") :].removeprefix("Next: ").splitlines()
    *commands, (make, repro) = [line.partition("#")[0].split() for line in following]
    for _, *arguments in commands:
        told = here.run(*KINETRACK, *arguments).stdout
    assert told.startswith("check: params.yaml is fine (preset recipe); data set mine: 42 clips")
    assert "40 train, 2 test" in told
    assert (make, repro) == ("make", "repro")
    assert here.read_params()["frames"]["group_pattern"] == pattern
    assert here.read_params()["dataset"] == "mine"


def test_second_import_of_the_name_is_refused(project: Project) -> None:
    refused = project.run(*KINETRACK, "import", "../in", "--name", "kitchen", check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert (
        "data/videos/kitchen: is there already -> choose another --name; to add" in refused.stderr
    )


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
