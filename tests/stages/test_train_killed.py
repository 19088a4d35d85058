"""Trainings that are killed: the next start goes on, and ends with the bytes of a clean one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from kinetrack.learning.resume import _read
from kinetrack.versioning.lock import data_md5

from project import Project, environment, make_project
from stage_forks import Ended
from trainings import (
    EPOCHS,
    MODEL,
    REPORTS,
    TrackedRun,
    Trainer,
    checkpoints,
    family,
    is_clean,
    make_training,
    outcome,
    tracked_runs,
    wait_for_end,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED = 20261122
ROUNDS = 60
LANES = 2
ALL_EPOCHS = list(range(1, EPOCHS + 1))


def forget(project: Project) -> None:
    """Have no model, no reports and nothing of an interrupted training."""
    for path in (MODEL, REPORTS, ".kinetrack/resume"):
        shutil.rmtree(project.folder / path, ignore_errors=True)


class Tally:
    """What the kills of a loop have hit."""

    def __init__(self) -> None:
        self.kills = 0
        self.after_an_epoch = 0
        self.checkpoints_read = 0

    def add(self, other: "Tally") -> None:
        self.kills += other.kills
        self.after_an_epoch += other.after_an_epoch
        self.checkpoints_read += other.checkpoints_read


class Killed(NamedTuple):
    """What a killed training has told, and whether it had ended before."""

    epochs: list[int]
    had_ended: bool


def kill_once(trainer: Trainer, after_s: float, tally: Tally) -> Killed:
    """Kill a training, and read all of its checkpoints."""
    # As DVC does. The reports stay, as those that it does not cache.
    shutil.rmtree(trainer.project.folder / MODEL, ignore_errors=True)
    pid = trainer.start()
    time.sleep(after_s)
    with suppress(ProcessLookupError):  # it may have ended
        os.killpg(pid, signal.SIGKILL)
    ended = trainer.wait()
    assert ended.exit_code in (0, -signal.SIGKILL), ended.stderr
    found = checkpoints(trainer.project)
    for path in found:
        _read(path)  # the whole of it, against its checksum
    tally.kills += ended.exit_code != 0
    tally.after_an_epoch += bool(found)
    tally.checkpoints_read += len(found)
    folder = trainer.project.folder
    had_ended = (folder / MODEL).exists() and not list(folder.glob(".kinetrack/resume/[!.]*"))
    return Killed(ended.epochs, had_ended)


def check_goes_on(killed: Killed, after: Ended) -> None:
    """Of what the killed one has told, nothing is trained again."""
    first = after.epochs[0] if after.epochs else EPOCHS + 1
    begun = "goes on after epoch" in after.stdout
    assert begun == (first > 1), after.stdout
    if not killed.had_ended:
        assert first > max(killed.epochs, default=0), (killed, after.stdout)
        assert after.epochs == list(range(first, EPOCHS + 1))


def check_tracked(runs: list[TrackedRun], *, num_runs: int, note: str) -> None:
    assert len(runs) == num_runs, f"{note}: {runs}"
    for run in runs:
        assert run.status == "FINISHED", note
        assert run.epochs == ALL_EPOCHS, note
        assert run.num_models == 1, note


def kill_and_finish(trainer: Trainer, number: int, clean: dict[str, str], took_s: float) -> Tally:
    """One to three kills in a row at random moments, then a run to the end."""
    tally, chance = Tally(), random.Random(f"{SEED} {number}")
    note = f"round {number} of seed {SEED}"
    project = trainer.project
    forget(project)
    known = {run.run_id for run in tracked_runs(project)}
    had_ended, killed = 0, Killed([], had_ended=False)
    for _ in range(chance.choice([1, 1, 2, 3])):
        killed = kill_once(trainer, chance.uniform(0, 1.02) * took_s, tally)
        had_ended += killed.had_ended
    ended = trainer.finish()
    check_goes_on(killed, ended)
    assert outcome(project) == clean, note
    assert is_clean(project), note
    runs = [run for run in tracked_runs(project) if run.run_id not in known]
    check_tracked(runs, num_runs=1 + had_ended, note=note)
    return tally


def measure(trainer: Trainer) -> float:
    """Seconds of a clean training."""
    forget(trainer.project)
    began = time.monotonic()
    trainer.finish()
    return time.monotonic() - began


def kill_loop(project: Project, rounds: list[int], clean: dict[str, str]) -> Tally:
    """All rounds of one lane, in a project of its own."""
    tally = Tally()
    with Trainer(project) as trainer:
        took_s = measure(trainer)
        assert outcome(project) == clean
        for number in rounds:
            tally.add(kill_and_finish(trainer, number, clean, took_s))
    return tally


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", ROUNDS), ("bf16", 6)])
def test_killed_at_random_moments_the_next_run_ends_as_a_clean_one(
    precision: str, rounds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_training(tmp_path / "clean", train={"precision": precision})
    with Trainer(project) as trainer:
        trainer.finish()
        clean = outcome(project)

    def run_lane(lane: int) -> Tally:
        copied = shutil.copytree(project.folder, tmp_path / f"lane {lane}")
        return kill_loop(Project(copied), list(range(rounds))[lane::LANES], clean)

    tally, began = Tally(), time.monotonic()
    with ThreadPoolExecutor(LANES) as lanes:
        for one in lanes.map(run_lane, range(LANES)):
            tally.add(one)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{precision}: {rounds} rounds, {tally.kills} kills, {tally.after_an_epoch} after the"
            f" first epoch, {tally.checkpoints_read} checkpoints read,"
            f" {time.monotonic() - began:.0f} s, seed {SEED}\n"
        )
    assert tally.after_an_epoch > rounds / 4, "too few of them said anything"


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    with Trainer(make_training(tmp_path_factory.mktemp("killed") / "a project")) as trainer:
        yield trainer


@pytest.fixture(scope="module")
def clean(trainer: Trainer) -> dict[str, str]:
    """What an undisturbed training makes."""
    trainer.finish()
    return outcome(trainer.project)


@pytest.fixture
def fresh(trainer: Trainer, clean: dict[str, str]) -> Project:
    """The project with nothing trained in it."""
    assert clean
    forget(trainer.project)
    return trainer.project


# Code that has the training kill itself while it writes the checkpoint of the third epoch.
_DIE = """
import os, signal
from contextlib import contextmanager
from pathlib import Path
from kinetrack.learning import resume

def die_in_third_epoch():
    names = [path.name for path in Path(".kinetrack/resume").glob("*/epoch_*")]
    if "epoch_000002.safetensors" in names:
        os.kill(os.getpid(), signal.SIGKILL)
"""
HALF_WRITTEN = """
class Half:
    def __init__(self, file): self._file = file
    def write(self, content):
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        die_in_third_epoch()
        self._file.write(content[len(content) // 2 :])

@contextmanager
def atomic_file(path, whole=resume.atomic_file):
    with whole(path) as file:
        yield Half(file)

resume.atomic_file = atomic_file
"""
NOT_ON_DISK = """
def fsync(number, whole=os.fsync):
    die_in_third_epoch()
    whole(number)

os.fsync = fsync
"""
NOT_RENAMED = """
def replace(path, target, whole=os.replace):
    if Path(target).suffix == ".safetensors":
        die_in_third_epoch()
    whole(path, target)

os.replace = replace
"""
OLDER_STILL_THERE = """
def unlink(path, *, dir_fd=None, whole=os.unlink):
    if Path(path).name == "epoch_000001.safetensors":
        die_in_third_epoch()
    whole(path, dir_fd=dir_fd)

os.unlink = unlink
"""


@pytest.mark.parametrize(
    ("moment", "last"),
    [(HALF_WRITTEN, 2), (NOT_ON_DISK, 2), (NOT_RENAMED, 2), (OLDER_STILL_THERE, 3)],
    ids=["half-written", "not-on-disk", "not-renamed", "older-still-there"],
)
def test_killed_while_a_checkpoint_is_written_the_one_before_is_whole(
    moment: str, last: int, fresh: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    assert trainer.run(before=_DIE + moment).exit_code == -signal.SIGKILL
    found = checkpoints(fresh)
    assert [path.name for path in found] == [
        f"epoch_{number:06}.safetensors" for number in range(1, last + 1)
    ]
    for path in found:
        _read(path)
    ended = trainer.finish()
    assert ended.epochs == ALL_EPOCHS[last:]
    assert ended.stderr == ""
    assert outcome(fresh) == clean
    assert is_clean(fresh)


# Between two steps of the end: all of them must lead to one run, one model, nothing left.
_DIE_AT = """
import os, signal
from kinetrack.stages import train, train_reports, train_resume, train_run
from kinetrack.tracking.journal import Journal
from kinetrack.tracking.projection import Projection
from kinetrack.tracking.runs import TrainingRun

def die(*args, **keys):
    os.kill(os.getpid(), signal.SIGKILL)

"""


@pytest.mark.parametrize(
    "moment",
    [
        "TrainingRun.begin = die",
        "Projection._make = die",
        "Projection._open_inputs = die",
        "train_reports.write_json = die",
        "train.log_outcome = die",
        "TrainingRun.log_model = die",
        "TrainingRun.end = die",
        "Projection._send_model = die",
        "Projection._send_status = die",
        "Journal.mark_sent = die",
        "train_resume.Resume.finish = die",
    ],
    ids=lambda moment: moment.split(" ")[0],
)
def test_killed_between_two_steps_the_training_is_one_run(
    moment: str, fresh: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    known = {run.run_id for run in tracked_runs(fresh)}
    assert trainer.run(before=_DIE_AT + moment).exit_code == -signal.SIGKILL
    trainer.finish()
    assert outcome(fresh) == clean
    assert is_clean(fresh)
    runs = [run for run in tracked_runs(fresh) if run.run_id not in known]
    check_tracked(runs, num_runs=1, note=moment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_is_marked_and_goes_on(
    number: signal.Signals, fresh: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    pid = trainer.start()
    trainer.wait_for("epoch 3:")
    os.killpg(pid, number)  # as Ctrl-C on a terminal does
    ended = trainer.wait()
    assert ended.exit_code not in (0, 2)
    assert "Traceback" not in ended.stderr
    assert tracked_runs(fresh)[-1].status == "KILLED"
    again = trainer.finish()
    assert again.epochs == ALL_EPOCHS[len(ended.epochs) :]
    assert outcome(fresh) == clean
    run = tracked_runs(fresh)[-1]
    assert (run.status, run.epochs, run.tags["resumed"]) == ("FINISHED", ALL_EPOCHS, "1")


@pytest.mark.parametrize("after", ["epoch 1:", "epoch 4:"])
def test_killed_launcher_takes_its_processes_along(
    after: str, fresh: Project, trainer: Trainer
) -> None:
    pid = trainer.start(KINETRACK_PROCESSES="2")
    trainer.wait_for(after)
    processes = family(pid)
    os.kill(pid, signal.SIGKILL)
    killed = trainer.wait()
    assert len(processes) == 3, "the launcher and two that train"
    wait_for_end(processes)
    for path in checkpoints(fresh):
        _read(path)
    ended = trainer.finish(KINETRACK_PROCESSES="2")
    assert ended.epochs[0] > max(killed.epochs)
    cut = outcome(fresh)
    forget(fresh)
    trainer.finish(KINETRACK_PROCESSES="2")
    assert outcome(fresh) == cut


def start_dvc(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Start DVC, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def interrupt_dvc(
    project: Project, *arguments: str, number: signal.Signals = signal.SIGKILL
) -> None:
    """Send a signal to DVC and its stage, as a terminal does, once two epochs are trained."""
    dvc = start_dvc(project, *arguments)
    deadline = time.monotonic() + 120
    while len(checkpoints(project)) < 2:
        assert dvc.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes = family(dvc.pid)
    os.killpg(dvc.pid, number)
    dvc.communicate(timeout=120)
    wait_for_end(processes)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which DVC has run the training to its end."""
    project = make_training(tmp_path_factory.mktemp("dvc") / "a project", train={"epochs": 30})
    project.run("dvc", "repro", "-s", "train")
    return project


@pytest.fixture
def unlocked(locked: Project, tmp_path: Path) -> Project:
    """A copy of it in which DVC has run nothing."""
    project = Project(shutil.copytree(locked.folder, tmp_path / "a copy", symlinks=True))
    forget(project)
    (project.folder / "dvc.lock").unlink()
    shutil.rmtree(project.folder / ".dvc/cache")  # it remembers runs too
    return project


def locked_model(project: Project) -> str | None:
    return data_md5(MODEL, root=project.folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_repro_goes_on_and_ends_with_the_same_lock(
    number: signal.Signals, locked: Project, unlocked: Project
) -> None:
    interrupt_dvc(unlocked, "repro", "-s", "train", number=number)
    interrupted = tracked_runs(unlocked)[-1]
    assert interrupted.status == ("RUNNING" if number == signal.SIGKILL else "KILLED")
    again = unlocked.run("dvc", "repro", "-s", "train").stdout
    assert "train: goes on after epoch" in again
    assert "\nepoch 1:" not in again
    assert locked_model(unlocked) == locked_model(locked)
    assert outcome(unlocked) == outcome(locked)
    run = tracked_runs(unlocked)[-1]
    assert (run.run_id, run.status) == (interrupted.run_id, "FINISHED")
    assert run.epochs == list(range(1, 31))
    assert is_clean(unlocked)


def test_a_forced_repro_really_trains(locked: Project) -> None:
    before = locked_model(locked)
    told = locked.run("dvc", "repro", "-f", "-s", "train").stdout
    assert "\ntrain: starts\nepoch 1:" in told
    assert locked_model(locked) == before


def test_repro_with_another_param_starts_afresh_and_says_why(unlocked: Project) -> None:
    interrupt_dvc(unlocked, "repro", "-s", "train")
    unlocked.set_params(train={"epochs": 3})
    told = unlocked.run("dvc", "repro", "-s", "train").stdout
    line = "train: starts afresh; since the interrupted training train.epochs (30 -> 3) changed"
    assert line in told


def test_an_experiment_in_a_checkout_of_its_own_goes_on_too(tmp_path: Path) -> None:
    project = make_project(tmp_path / "a project")
    project.run("dvc", "repro")
    project.commit("ran")
    experiment = ("exp", "run", "--temp", "-S", "train.epochs=60")
    interrupt_dvc(project, *experiment)
    assert checkpoints(project), "in the project, not in its checkout"
    told = project.run("dvc", *experiment).stdout
    assert "train: goes on after epoch" in told
    assert is_clean(project)
