"""What may go wrong in a training: one line, and nothing that was good is lost."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kinetrack.learning.checkpoint import load_model, save_model
from kinetrack.learning.resume import _read
from kinetrack.tables import read_csv

from project import Project, environment
from trainings import (
    COMMAND,
    EPOCHS,
    MODEL,
    REPORTS,
    TENSORS,
    Trainer,
    checkpoints,
    is_clean,
    make_training,
    outcome,
    tracked_runs,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ALL_EPOCHS = list(range(1, EPOCHS + 1))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    with Trainer(make_training(tmp_path_factory.mktemp("faults") / "a project")) as trainer:
        yield trainer


@pytest.fixture(scope="module")
def clean(trainer: Trainer) -> dict[str, str]:
    """What an undisturbed training makes."""
    trainer.finish()
    folder = trainer.project.folder
    shutil.copyfile(folder / "params.yaml", folder / "clean.yaml")
    return outcome(trainer.project)


@pytest.fixture(autouse=True)
def project(trainer: Trainer, clean: dict[str, str]) -> Project:
    """The project with an earlier model, as that of `clean`, and its params."""
    assert clean
    project = trainer.project
    reset_params(project)
    shutil.rmtree(project.folder / ".kinetrack/resume", ignore_errors=True)
    return project


def reset_params(project: Project) -> None:
    shutil.copyfile(project.folder / "clean.yaml", project.folder / "params.yaml")


def test_loss_that_is_not_finite(trainer: Trainer, project: Project) -> None:
    trainer.finish()
    before = outcome(project)
    project.set_params(
        train={"optimiser": "sgd", "learning_rate": 2.0, "schedule": "constant"},
        augment={"mixup": 0.0},
    )
    line = trainer.refuse()
    assert " loss is no longer finite" in line
    last = checkpoints(project)[-1]
    assert f"the weights before that epoch are in {last.relative_to(project.folder)}" in line
    tensors, _ = _read(last)
    assert all(values.isfinite().all() for values in tensors.values())
    assert outcome(project) == before
    assert tracked_runs(project)[-1].status == "FAILED"


def test_gradient_that_is_not_finite_takes_no_step(trainer: Trainer, project: Project) -> None:
    before = outcome(project)
    model, card = load_model(project.folder / MODEL)
    weights = model.get_parameter("head.weight")
    # Logits and loss can be told; the squares of the gradients behind them cannot.
    weights.data.mul_(1e25)
    save_model(project.folder / "steep", model, card)
    project.set_params(train={"init_from": "steep", "clip_gradient": 1.0})
    assert " gradient is no longer finite" in trainer.refuse()
    assert checkpoints(project) == []
    assert outcome(project) == before
    assert tracked_runs(project)[-1].status == "FAILED"


def test_clip_of_no_numbers(trainer: Trainer, project: Project) -> None:
    clip = project.folder / TENSORS / "train/Jump/v_Jump_g01_c01.pt"
    content = clip.read_bytes()
    torch.save(torch.full((3, 4, 16, 16), float("nan")), clip)
    line = trainer.refuse()
    clip.write_bytes(content)
    assert line.startswith(f"error: {clip.relative_to(project.folder)}: is of another shape")


def test_killed_loader_process(trainer: Trainer, project: Project, clean: dict[str, str]) -> None:
    pid = trainer.start(KINETRACK_LOADERS="1")
    trainer.wait_for("epoch 2:")
    for loader in psutil.Process(pid).children():
        loader.kill()
    ended = trainer.wait()
    assert ended.exit_code == 2, ended.stderr
    assert ended.stderr.startswith("error: KINETRACK_LOADERS: a process that loads clips has died")
    assert ended.stderr.count("\n") == 1
    assert tracked_runs(project)[-1].status == "FAILED"
    again = trainer.finish(KINETRACK_LOADERS="0")
    assert again.epochs == ALL_EPOCHS[len(ended.epochs) :]
    assert outcome(project) == clean


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_device_that_is_not_there(trainer: Trainer) -> None:
    line = trainer.refuse(KINETRACK_DEVICE="cuda")
    assert line.startswith("error: KINETRACK_DEVICE: names no device of this machine, found cuda")


# Memory for so many clips at once, and no more: what is asked for beyond, no machine has.
MEMORY_FOR = """
import torch
from kinetrack.learning.models.separable_3dcnn import Separable3dCnn

def forward(network, clips, whole=Separable3dCnn.forward):
    if network.training and len(clips) > {most}:
        torch.empty(2**60, dtype=torch.uint8)
    return whole(network, clips)

Separable3dCnn.forward = forward
"""


def card(project: Project) -> dict[str, Any]:
    return dict(json.loads((project.folder / MODEL / "model.json").read_text()))


def history(project: Project) -> list[dict[str, float]]:
    rows = read_csv(project.folder / REPORTS / "history.csv")
    return [{name: float(value) for name, value in row.items()} for row in rows]


def test_lack_of_memory_halves_the_parts(trainer: Trainer, project: Project) -> None:
    # Adam divides by the size of a gradient, and so magnifies the last bits of one that is near 0.
    project.set_params(train={"optimiser": "sgd", "learning_rate": 0.002})
    trainer.finish()
    expected = history(project)
    assert card(project)["halvings"] == 0
    assert tracked_runs(project)[-1].tags["comparable"] == "true"
    ended = trainer.run(before=MEMORY_FOR.format(most=1))
    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr == (
        "out of memory: going on with micro-batches of 2 clips\n"
        "out of memory: going on with micro-batches of 1 clips\n"
    )
    assert (card(project)["micro_batch"], card(project)["halvings"]) == (4, 2)
    assert tracked_runs(project)[-1].tags["comparable"] == "false"
    for row, usual in zip(history(project), expected, strict=True):
        assert row == pytest.approx(usual, rel=1e-4, nan_ok=True)


def test_smaller_parts_outlive_a_kill(trainer: Trainer, project: Project) -> None:
    pid = trainer.start(before=MEMORY_FOR.format(most=2))
    trainer.wait_for("epoch 3:")
    os.killpg(pid, signal.SIGKILL)
    trainer.wait()
    assert trainer.finish().stderr == "", "not tried again with larger ones"
    assert card(project)["halvings"] == 1


def test_memory_that_does_not_suffice_for_one_clip(trainer: Trainer) -> None:
    line = trainer.refuse(before=MEMORY_FOR.format(most=0))
    assert "params.yaml: the memory does not suffice for a single clip" in line


def interrupt(trainer: Trainer) -> list[Path]:
    """Two checkpoints at least of a training that was killed."""
    trainer.kill_after("epoch 3:")
    return checkpoints(trainer.project)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class Payload:
    """Unpickled, it would make a folder."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def put_a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def put_a_torch_file(path: Path) -> None:
    torch.save(Payload(), path)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, put_a_pickle, put_a_torch_file])
def test_damaged_checkpoint_is_named_and_costs_an_epoch(
    damage: Callable[[Path], None], trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    earlier, last = interrupt(trainer)
    damage(last)
    ended = trainer.finish()
    assert ended.stderr.startswith(f"not used: {last.relative_to(project.folder)}: is ")
    assert ended.stderr.count("\n") == 1
    number = int(earlier.stem.removeprefix("epoch_"))
    assert f"goes on after epoch {number}," in ended.stdout
    assert ended.epochs == ALL_EPOCHS[number:]
    assert outcome(project) == clean
    assert not (project.folder / "executed").exists()
    run = tracked_runs(project)[-1]
    assert (run.status, run.epochs) == ("FINISHED", ALL_EPOCHS)


def test_checkpoint_of_another_network_is_named_and_not_used(
    trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    project.set_params(model={"name": "small_3dcnn"})
    other = interrupt(trainer)[-1]
    reset_params(project)
    mine = next(path for path in interrupt(trainer) if path.parent != other.parent)
    shutil.copyfile(other, mine.with_name("epoch_000008.safetensors"))
    ended = trainer.finish()
    assert "epoch_000008.safetensors: " in ended.stderr
    assert "is of another shape" in ended.stderr
    assert outcome(project) == clean


def test_changed_params_start_afresh_and_tell_what_changed(
    trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    kept = interrupt(trainer)
    project.set_params(train={"learning_rate": 0.01})
    ended = trainer.finish()
    assert ended.stdout.startswith(
        "train: starts afresh; since the interrupted training"
        " train.learning_rate (0.003 -> 0.01) changed\n"
    )
    assert ended.epochs == ALL_EPOCHS
    assert outcome(project) != clean
    assert checkpoints(project) == kept
    reset_params(project)
    assert "goes on after epoch" in trainer.finish().stdout
    assert outcome(project) == clean


@pytest.mark.parametrize("name", ["small_3dcnn", "separable_3dcnn"])
def test_last_batch_of_one_clip(name: str, trainer: Trainer, project: Project) -> None:
    project.set_params(model={"name": name}, train={"batch_size": 3, "micro_batch": 2})
    assert trainer.finish().epochs == ALL_EPOCHS


# The clock of the day goes back by an hour at every look at it.
CLOCK = """
import time

def back(real=time.time, looks=[]):
    looks.append(None)
    return real() - 3600 * len(looks)

time.time = back
"""


def test_clock_that_jumps_changes_nothing_but_time_stamps(
    trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    interrupt(trainer)
    ended = trainer.run(before=CLOCK)
    assert ended.exit_code == 0, ended.stderr
    assert ended.epochs[-1] == EPOCHS
    assert outcome(project) == clean
    assert is_clean(project)
    run = max(tracked_runs(project), key=lambda run: run.tags.get("resumed", ""))
    assert (run.status, sorted(run.epochs)) == ("FINISHED", ALL_EPOCHS)


# As on a full disk: every checkpoint is larger, the database is not.
SMALL_FILES = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 2**20, 3 * 2**20))
"""


def test_checkpoint_that_cannot_be_written_leaves_those_before(
    trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    before = interrupt(trainer)
    contents = [path.read_bytes() for path in before]
    number = int(before[-1].stem.removeprefix("epoch_")) + 1
    line = trainer.refuse(before=SMALL_FILES)
    path = before[-1].with_name(f"epoch_{number:06}.safetensors").relative_to(project.folder)
    assert f"error: {path}: cannot be written, found File too large; " in line
    assert "bytes free there" in line
    assert checkpoints(project) == before
    assert [path.read_bytes() for path in before] == contents
    assert not list(before[0].parent.glob(".*.partial"))
    assert tracked_runs(project)[-1].status == "FAILED"
    assert trainer.finish().epochs == ALL_EPOCHS[number - 1 :]
    assert outcome(project) == clean
    assert tracked_runs(project)[-1].status == "FINISHED"


def command(project: Project, **variables: str) -> subprocess.Popen[str]:
    """Start the training as dvc.yaml does."""
    return subprocess.Popen(
        COMMAND,
        cwd=project.folder,
        env={**environment(), "PYTHONPATH": "src", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_second_start_of_the_same_training_is_refused(
    trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    pid = trainer.start()
    trainer.wait_for("epoch 1:")
    os.kill(pid, signal.SIGSTOP)
    try:
        second = command(project)
        stdout, stderr = second.communicate(timeout=120)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (second.returncode, stdout) == (2, "")
    assert stderr.startswith("error: .kinetrack/resume/")
    assert "is being written by another process" in stderr
    assert stderr.count("\n") == 1
    assert trainer.wait().exit_code == 0
    assert outcome(project) == clean


def test_two_trainings_into_one_store(
    trainer: Trainer, project: Project, clean: dict[str, str], tmp_path: Path
) -> None:
    known = {run.run_id for run in tracked_runs(project)}
    other = Project(shutil.copytree(project.folder, tmp_path / "other"))
    store = f"sqlite:///{project.folder / 'mlruns/mlflow.db'}"
    second = command(other, MLFLOW_TRACKING_URI=store)
    time.sleep(2)
    first = trainer.run()
    _, stderr = second.communicate(timeout=120)
    assert (first.exit_code, second.returncode) == (0, 0), first.stderr + stderr
    assert "does not take it" not in first.stderr + stderr
    runs = [run for run in tracked_runs(project) if run.run_id not in known]
    assert [(run.status, run.epochs) for run in runs] == [("FINISHED", ALL_EPOCHS)] * 2
    assert outcome(project) == outcome(other) == clean
