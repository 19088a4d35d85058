"""One training by several real processes, on a CPU by Gloo."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

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
    family,
    is_clean,
    make_training,
    outcome,
    tracked_runs,
    wait_for_end,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ALL_EPOCHS = list(range(1, EPOCHS + 1))
# Adam divides by the size of a gradient, and so magnifies the last bits of one that is near 0.
CALM = {"optimiser": "sgd", "learning_rate": 0.002}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """Ten training clips in batches of four: the last batch has two."""
    project = make_training(tmp_path_factory.mktemp("team") / "a project", train=CALM)
    with Trainer(project) as trainer:
        yield trainer


@pytest.fixture(autouse=True)
def project(trainer: Trainer) -> Project:
    """The project with nothing trained in it."""
    for path in (MODEL, REPORTS, ".kinetrack/resume"):
        shutil.rmtree(trainer.project.folder / path, ignore_errors=True)
    return trainer.project


@pytest.fixture(scope="module")
def clean(trainer: Trainer) -> dict[str, str]:
    """What two undisturbed processes make."""
    trainer.finish(KINETRACK_PROCESSES="2")
    return outcome(trainer.project)


def history(project: Project) -> list[dict[str, float]]:
    """The figures of all epochs."""
    rows = read_csv(project.folder / REPORTS / "history.csv")
    return [{name: float(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("processes", [2, 4])
def test_several_train_as_one(processes: int, trainer: Trainer, project: Project) -> None:
    trainer.finish()
    alone = history(project)
    known = {run.run_id for run in tracked_runs(project)}
    shutil.rmtree(project.folder / MODEL)
    ended = trainer.finish(KINETRACK_PROCESSES=str(processes))
    assert ended.stderr == ""
    assert ended.epochs == ALL_EPOCHS, "told by one of them"
    for row, expected in zip(history(project), alone, strict=True):
        assert row == pytest.approx(expected, rel=1e-4, nan_ok=True)
    runs = [run for run in tracked_runs(project) if run.run_id not in known]
    assert [(run.status, run.epochs) for run in runs] == [("FINISHED", ALL_EPOCHS)]
    assert is_clean(project)


def test_every_clip_counts_once_an_epoch(trainer: Trainer, project: Project) -> None:
    trainer.kill_after("epoch 2:", KINETRACK_PROCESSES="4")
    wait_until_unlocked(project)
    _, state = _read(checkpoints(project)[-1])
    counted = [
        {side: score["num_clips"] for side, score in epoch["scores"].items()}
        for epoch in state.history
    ]
    assert counted == [{"train": 10, "val": 10}] * len(counted)


def wait_until_unlocked(project: Project) -> None:
    """Processes whose launcher was killed end within moments."""
    held = [
        process
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] == str(project.folder) and process.ppid() == 1
    ]
    wait_for_end(held)


# What each process holds after every epoch, in a file of its own.
REPORTING = """
import hashlib, os
from pathlib import Path
from kinetrack.learning.processes import Team
from kinetrack.stages.door import run

def average_buffers(team, model, whole=Team.average_buffers):
    whole(team, model)
    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(values.contiguous().numpy().tobytes())
    with Path(f"rank{team.rank}").open("a") as file:
        file.write(digest.hexdigest() + "\\n")

Team.average_buffers = average_buffers
run("train")
"""


def torchrun(
    project: Project, *arguments: str, command: tuple[str, ...] = ("-m", *COMMAND[2:])
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *arguments, *command],
        cwd=project.folder,
        env={**environment(), "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_all_hold_the_same_weights_and_statistics_of_batch_norm(project: Project) -> None:
    project.set_params(model={"name": "small_3dcnn"})
    (project.folder / "reporting.py").write_text(REPORTING)
    command = ("reporting.py", TENSORS, MODEL, REPORTS)
    _, stderr = torchrun(project, "--nproc-per-node=2", command=command).communicate(timeout=300)
    project.set_params(model={"name": "separable_3dcnn"})
    first, second = ((project.folder / f"rank{rank}").read_text().split() for rank in (0, 1))
    assert len(first) == EPOCHS, stderr
    assert first == second


def test_torchrun_starts_it_too(project: Project, clean: dict[str, str]) -> None:
    process = torchrun(project, "--nproc-per-node=2")
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert stdout.count("epoch 1:") == 1
    assert outcome(project) == clean


def test_two_machines_train_as_one_with_two_processes(
    project: Project, clean: dict[str, str]
) -> None:
    """Two launchers that meet at an address; here, both on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=1")
    nodes = [torchrun(project, "--nnodes=2", "--nproc-per-node=1", *meeting) for _ in range(2)]
    outputs = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert sorted(stdout.count("epoch 1:") for stdout, _ in outputs) == [0, 1]
    assert outcome(project) == clean
    assert is_clean(project)


def workers(pid: int) -> list[psutil.Process]:
    """Those that train, by rank."""
    found = [process for process in family(pid)[1:] if "RANK" in process.environ()]
    return sorted(found, key=lambda process: int(process.environ()["RANK"]))


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_and_the_next_start_goes_on(
    rank: int, trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    shutil.rmtree(project.folder / MODEL, ignore_errors=True)
    pid = trainer.start(KINETRACK_PROCESSES="2")
    trainer.wait_for("epoch 2:")
    processes = family(pid)
    workers(pid)[rank].kill()
    ended = trainer.wait()
    wait_for_end(processes)
    assert ended.exit_code == 2
    assert ended.stderr == (
        "error: KINETRACK_PROCESSES: a process of the training has died, found SIGKILL"
        " -> run it again: it goes on after the last whole epoch\n"
    )
    again = trainer.finish(KINETRACK_PROCESSES="2")
    assert again.epochs == ALL_EPOCHS[len(ended.epochs) :]
    assert outcome(project) == clean
    run = tracked_runs(project)[-1]
    assert (run.status, run.epochs) == ("FINISHED", ALL_EPOCHS)


def test_damaged_clip_is_told_in_one_line(trainer: Trainer, project: Project) -> None:
    clip = project.folder / TENSORS / "train/Walk/v_Walk_g01_c05.pt"
    content = clip.read_bytes()
    clip.write_bytes(content[:100])
    ended = trainer.run(KINETRACK_PROCESSES="2")
    clip.write_bytes(content)
    assert ended.exit_code == 2
    assert ended.stderr.startswith(f"error: {clip.relative_to(project.folder)}: is no packed clip")
    assert ended.stderr.count("\n") == 1


def test_wrong_params_are_told_once(trainer: Trainer, project: Project) -> None:
    project.set_params(train={"epochs": -1})
    ended = trainer.run(KINETRACK_PROCESSES="2")
    project.set_params(train={"epochs": EPOCHS})
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: params.yaml: train.epochs: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_launcher_ends_all(
    number: signal.Signals, trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    pid = trainer.start(KINETRACK_PROCESSES="2")
    trainer.wait_for("epoch 2:")
    processes = family(pid)
    os.killpg(pid, number)
    ended = trainer.wait()
    wait_for_end(processes)
    assert ended.exit_code not in (0, 2)
    assert "Traceback" not in ended.stderr
    assert tracked_runs(project)[-1].status == "KILLED"
    trainer.finish(KINETRACK_PROCESSES="2")
    assert outcome(project) == clean


def test_another_number_of_processes_is_another_training(
    trainer: Trainer, project: Project
) -> None:
    trainer.kill_after("epoch 1:")
    ended = trainer.finish(KINETRACK_PROCESSES="2")
    assert "since the interrupted training the number of processes" in ended.stdout
    assert ended.epochs == ALL_EPOCHS
