import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from kinetrack.cli.main import app
from kinetrack.cli.summary import print_summary
from kinetrack.cli.version import _find_commit
from kinetrack.errors import InputError
from kinetrack.files import write_json
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models import build_model
from kinetrack.tables import write_csv

from factories import model_card
from project import make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("cli") / "project")


@pytest.mark.parametrize(
    "command", [["check"], ["train"], ["preset", "lecture"], ["summary"]], ids=" ".join
)
def test_every_command_ends_bad_input_in_one_line_and_code_2(project, command):
    original = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(original + "surprise: 1\n")
    result = project.run("python", "-m", "kinetrack.cli.main", *command, check=False)
    (project.folder / "params.yaml").write_text(original)
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert not list(project.folder.glob("data/*/*/"))


@pytest.mark.parametrize("command", ["demo", "ui"])
@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_what_is_no_port_is_refused_before_anything_is_loaded(command, port):
    result = CliRunner().invoke(app, [command, f"--port={port}"])
    assert result.exit_code == 2
    assert "Invalid value for" in result.output


def test_outside_a_project_it_says_so(tmp_path):
    command = [sys.executable, "-m", "kinetrack.cli.main", "check"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no dvc.yaml here or above" in result.stderr


def test_the_version_is_that_of_the_package(project):
    """And, in a checkout, names the commit; with a star where that is not all."""
    told = f"kinetrack {version('kinetrack')}"
    commit = project.run("git", "rev-parse", "--short=7", "HEAD").stdout.strip()

    def ask() -> str:
        # With the code of the project, as it would be with an editable install.
        result = project.run(
            "env", "PYTHONPATH=src", "python", "-m", "kinetrack.cli.main", "--version"
        )
        return result.stdout.strip()

    assert ask() == f"{told} (commit {commit})"
    code = project.folder / "src/kinetrack/errors.py"
    original = code.read_text()
    code.write_text(f"{original}\n# changed\n")
    assert ask() == f"{told} (commit {commit}*)"
    code.write_text(original)


def test_without_git_behind_it_the_version_stands_alone(tmp_path):
    (tmp_path / "kinetrack").mkdir()
    (tmp_path / "kinetrack/__init__.py").touch()
    assert _find_commit(tmp_path / "kinetrack") == ""
    # As an environment within a repository, which ignores it.
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert _find_commit(tmp_path / "kinetrack") == ""


METRICS = {
    "accuracy": 0.625,
    "num_clips": 8,
    "num_groups": 2,
    "accuracy_low": 0.25,
    "accuracy_high": 0.875,
    "shuffled_accuracy": 0.5,
}
LOCK_OF_ANOTHER = """
stages:
  train:
    cmd: train
    params:
      params.yaml:
        augment: {mixup: 0.2}
  evaluate:
    cmd: evaluate
    deps:
    - {path: data/tensors/kitchen, md5: 0d.dir}
"""


def test_the_summary_says_what_was_trained_and_how_well(project, capsys, monkeypatch):
    monkeypatch.chdir(project.folder)
    card = model_card()
    model = build_model(card.model, num_classes=2, num_frames=4, size_px=16)
    save_model(project.folder / "data/model", model, card)
    reports = project.folder / "reports"
    sides = {
        f"{side}_{kind}": "nan"
        for side in ("train", "val", "test")
        for kind in ("loss", "accuracy")
    }
    row = {"epoch": 3, **sides, "train_accuracy": 0.75, "val_accuracy": 0.5}
    write_csv(reports / "train/history.csv", list(row), [row])
    write_json(reports / "evaluate/metrics.json", METRICS)
    scores = {"label": "Jump[bold]", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "num_clips": 4}
    write_csv(reports / "evaluate/per_class.csv", list(scores), [scores])
    print_summary(project.folder)
    screen = capsys.readouterr().out
    for text in (
        "small_3dcnn",
        "data set sample",
        "2 classes",
        "train 0.7500, val 0.5000",
        "0.6250 on 8 clips of 2 groups; 95 % interval 0.250 to 0.875",
        "; with their frames shuffled 0.500",
        "Jump[bold]",
        "0.667",
        "make ui",
    ):
        assert text in screen
    print_summary(project.folder, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["epochs"], told["test"]["accuracy"]) == ("small_3dcnn", 1, 0.625)
    assert told["last_epoch"]["val_accuracy"] == 0.5
    assert told["last_epoch"]["test_loss"] is None
    assert told["classes"] == [{**scores, "f1": pytest.approx(2 / 3)}]
    (project.folder / "dvc.lock").write_text(LOCK_OF_ANOTHER)
    print_summary(project.folder)
    screen = capsys.readouterr().out
    assert "on data set kitchen" in screen
    assert "params.yaml names data set sample now: not trained on yet" in screen
    assert "val 0.5000 (train: of mixed clips" in screen
    assert "kinetrack report --open" in screen
    for path in ("evaluate/metrics.json", "train/history.csv"):
        (reports / path).write_text("<<<<<<< HEAD\n")
        with pytest.raises(InputError, match=f"{path}: .* -> make repro"):
            print_summary(project.folder)
