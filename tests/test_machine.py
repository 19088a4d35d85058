import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kinetrack.errors import InputError
from kinetrack.machine import (
    _VARIABLES,
    MACHINE_FILE,
    MachineOptions,
    apply_machine_options,
    read_machine_options,
)

from documented import PAGES
from project import environment, make_project

ROOT = Path(__file__).parent.parent
# What a queued experiment runs here: it writes down the variables that it sees.
SHOW_OPTIONS = """
import os
from pathlib import Path
from kinetrack.stages import door

def main() -> None:
    names = ("KINETRACK_WORKERS", "KINETRACK_LOADERS", "MLFLOW_EXPERIMENT_NAME")
    Path("seen.txt").write_text(" ".join(os.environ.get(name, "unset") for name in names))

if __name__ == "__main__":
    door.run("show_options")
"""
PIPELINE = """
stages:
  show:
    cmd: PYTHONPATH=src python -m kinetrack.stages.show_options
    params: [sample.seed]
    outs: [{seen.txt: {cache: false}}]
"""


def write_options(root: Path, text: str) -> Path:
    path = root / MACHINE_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def open_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave all variables open, and put them back after the test."""
    for name in _VARIABLES.values():
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def set_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _VARIABLES.values() if name in os.environ}


def test_every_key_stands_for_its_variable(tmp_path: Path) -> None:
    path = write_options(
        tmp_path,
        "device: cuda:1\nprocesses: 2\nloaders: 0\nresident: true\nworkers: 8\n"
        "dask: tcp://host:8786\ntracking_uri: https://team.example\nexperiment: 手 walk\n",
    )
    assert read_machine_options(path) == {
        "KINETRACK_DEVICE": "cuda:1",
        "KINETRACK_PROCESSES": "2",
        "KINETRACK_LOADERS": "0",
        "KINETRACK_RESIDENT": "1",
        "KINETRACK_WORKERS": "8",
        "KINETRACK_DASK": "tcp://host:8786",
        "MLFLOW_TRACKING_URI": "https://team.example",
        "MLFLOW_EXPERIMENT_NAME": "手 walk",
    }
    assert set(_VARIABLES) == set(MachineOptions.model_fields)


def test_every_variable_that_people_are_told_of_has_a_key() -> None:
    # The reference is made from the keys, and would say whatever they say.
    pages = [path for path in PAGES if path.parent.name != "reference"]
    told = {name for page in pages for name in re.findall(r"KINETRACK_[A-Z]+", page.read_text())}
    ours = {name for name in _VARIABLES.values() if name.startswith("KINETRACK_")}
    # Of tests, and of a served model, which has no project.
    assert ours == told - {"KINETRACK_REAL", "KINETRACK_SERVE"}


@pytest.mark.parametrize("text", ["", "# device: cuda\n", "device: null\n"])
def test_a_file_may_choose_nothing(tmp_path: Path, text: str) -> None:
    assert read_machine_options(write_options(tmp_path, text)) == {}


def test_a_project_without_the_file_changes_nothing(tmp_path: Path) -> None:
    apply_machine_options(tmp_path)
    assert set_variables() == {}


@pytest.mark.parametrize(
    ("set_before", "seen"),
    [({}, "3"), ({"KINETRACK_WORKERS": "5"}, "5"), ({"KINETRACK_WORKERS": ""}, "")],
    ids=["open", "set", "set but empty"],
)
def test_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_before: dict[str, str], seen: str
) -> None:
    for name, value in set_before.items():
        monkeypatch.setenv(name, value)
    write_options(tmp_path, "workers: 3\nresident: false\n")
    apply_machine_options(tmp_path)
    assert set_variables() == {"KINETRACK_WORKERS": seen, "KINETRACK_RESIDENT": "0"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: 1\n", "unknown key machine.gpu -> allowed here: device, processes, loaders"),
        ("workers: 0\n", "machine.workers: .* found '0'"),
        ("workers: true\n", "machine.workers: .* found 'True'"),
        ("workers: '2'\n", "machine.workers: .* found '2'"),
        ("loaders: -1\n", "machine.loaders: .* found '-1'"),
        ("resident: 1\n", "machine.resident: .* found '1'"),
        ("device: 0\n", "machine.device: .* found '0'"),
        ("device: ''\n", "machine.device: must be one line of text"),
        ('device: "cpu\\0"\n', "machine.device: must be one line of text"),
        ('experiment: "\\ud800"\n', "machine.yaml: "),
        ("- workers\n", "is not a mapping, expected some of the keys device, processes"),
        ("workers: 1\nworkers: 2\n", "the key workers twice in line 2"),
        ("experiment: !!python/name:os.system\n", "is no valid YAML"),
        ("device: &d cpu\nexperiment: *d\n", "an alias in line 2"),
        ("workers: [", "is no valid YAML"),
        ("tracking_uri: 'http://['\n", "machine.tracking_uri is no address"),
        ("tracking_uri: runs\n", "machine.tracking_uri is relative"),
        ("tracking_uri: sqlite:///runs.db\n", "machine.tracking_uri is relative"),
    ],
)
def test_what_the_file_cannot_say_is_told_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write_options(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        apply_machine_options(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert set_variables() == {}


@pytest.mark.parametrize("address", ["sqlite:////srv/runs.db", "/srv/runs", "file:///srv/runs"])
def test_a_store_of_this_machine_has_an_absolute_path(tmp_path: Path, address: str) -> None:
    path = write_options(tmp_path, f"tracking_uri: {address}\n")
    assert read_machine_options(path) == {"MLFLOW_TRACKING_URI": address}


def test_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = write_options(tmp_path, "tracking_uri: https://me:hidden@team.example\n")
    with pytest.raises(InputError, match="holds a password -> set MLFLOW_TRACKING_US") as caught:
        read_machine_options(path)
    assert "hidden" not in str(caught.value)


def test_no_stage_depends_on_the_file() -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    deps = [dep for stage in pipeline["stages"].values() for dep in stage["deps"]]
    assert not [dep for dep in deps if dep.startswith(".kinetrack")]


@pytest.mark.parametrize(
    "command", [["cli.main", "use", "mine"], ["stages.sample", "--help"]], ids=" ".join
)
def test_commands_and_stages_read_the_file_of_the_project_first(
    tmp_path: Path, command: list[str]
) -> None:
    write_options(tmp_path, "workers: many\n")
    module, *arguments = command
    # As in the temporary checkout of an experiment.
    environ = {**environment(), "DVC_ROOT": str(tmp_path), "PYTHONPATH": "src"}
    result = subprocess.run(
        [sys.executable, "-m", f"kinetrack.{module}", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert f"error: {tmp_path / MACHINE_FILE}: machine.workers: " in result.stderr


@pytest.mark.slow
def test_an_experiment_of_the_queue_sees_the_file_of_its_project(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project.folder / "src/kinetrack/stages/show_options.py").write_text(SHOW_OPTIONS)
    (project.folder / "dvc.yaml").write_text(PIPELINE)
    project.commit("a stage that shows the machine's options")
    write_options(project.folder, "workers: 3\nexperiment: sweep\n")
    project.run("dvc", "exp", "run", "--queue", "--name", "seen", "-S", "sample.seed=7")
    project.run("dvc", "queue", "start")
    project.run("dvc", "queue", "logs", "--follow", "seen")
    project.run("dvc", "exp", "apply", "seen")
    assert (project.folder / "seen.txt").read_text() == "3 unset sweep"
