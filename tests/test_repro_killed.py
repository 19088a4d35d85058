"""The whole `dvc repro`, killed at random moments: the next one ends with the bytes of a clean one.

On a few real clips where `KINETRACK_REAL_VIDEOS` names their folder, else on the built-in data set.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from project import Project, environment, make_project
from trainings import family, is_clean, tracked_runs, wait_for_end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SEED = 20261129
ROUNDS, PARTS = 15, 3
REAL_VIDEOS = os.environ.get("KINETRACK_REAL_VIDEOS")
CLASSES, CLIPS_A_CLASS = 2, 4
QUICK = {
    "sample": {"groups": 4, "clips_per_group": 1},
    "split": {"train_groups": 3, "val_groups": 1},
    "pack": {"num_frames": 8, "resize_px": 32, "size_px": 32},
    "train": {"epochs": 6, "batch_size": 6, "micro_batch": 6, "threads": 1},
}


class Clean(NamedTuple):
    """A project in which nothing has run, what a repro makes of it, and how long that takes."""

    project: Project
    outcome: dict[str, str]
    took_s: float


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    root = tmp_path_factory.mktemp("repro")
    project = make_project(root / "a project")
    project.set_params(**QUICK)
    if REAL_VIDEOS:
        take_real_clips(project, Path(REAL_VIDEOS, "ucf101_slice"))
    project.commit("params")
    undisturbed = Project(shutil.copytree(project.folder, root / "undisturbed", symlinks=True))
    began = time.monotonic()
    undisturbed.run("dvc", "repro")
    return Clean(project, outcome(undisturbed), time.monotonic() - began)


def take_real_clips(project: Project, folder: Path) -> None:
    """Have a few clips of the first classes as a data set."""
    classes = sorted(path for path in folder.rglob("*") if len(list(path.glob("v_*.avi"))) > 3)
    for source in classes[:CLASSES]:
        target = project.folder / "data/videos/real" / source.name
        target.mkdir(parents=True)
        for path in spread(sorted(source.glob("v_*.avi"))):
            shutil.copyfile(path, target / path.name)
    project.set_params(dataset="real", frames={"classes": "all"})
    project.run("dvc", "add", "-q", "data/videos/real")


def spread(paths: list[Path]) -> list[Path]:
    """One clip of each of the first groups."""
    groups = {path.stem.rpartition("_c")[0]: path for path in reversed(paths)}
    return [groups[name] for name in sorted(groups)][:CLIPS_A_CLASS]


def outcome(project: Project) -> dict[str, str]:
    """Sha256 by path of dvc.lock, of all data and all reports."""
    folder = project.folder
    paths = [path for name in ("data", "reports") for path in (folder / name).rglob("*")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([folder / "dvc.lock", *paths])
        if path.is_file()
    }


def kill_once(project: Project, moment_s: float, *, only_dvc: bool) -> str:
    """Kill a repro; the stage that it was at, or "" when it had ended."""
    log = project.folder / ".git/log of dvc"
    with log.open("w") as file:
        dvc = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project.folder,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with suppress(subprocess.TimeoutExpired):
        dvc.wait(moment_s)
    if dvc.poll() is not None:
        assert dvc.returncode == 0, log.read_text()
        return ""
    processes = family(dvc.pid)
    if only_dvc:  # what it has started must end by itself
        dvc.kill()
    else:
        os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait()
    others = [process for process in processes if process.pid != dvc.pid]
    # A call to MLflow comes to its end first; that which makes the database takes long where much
    # else is done.
    wait_for_end(others, within_s=120)
    begun = [line for line in log.read_text().splitlines() if line.startswith("Running stage")]
    return begun[-1].split("'")[1] if begun else "before the first stage"


def unfinished(project: Project) -> list[str]:
    """What is left of work in the making."""
    places = [project.folder / name for name in ("data", "reports", ".kinetrack")]
    found = [path for place in places for path in place.rglob("*.partial")]
    return [str(path) for path in found]


@pytest.mark.parametrize("part", range(PARTS))
def test_repro_killed_at_random_moments_ends_as_a_clean_one(
    part: int, clean: Clean, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began, hits, again = time.monotonic(), Counter(), 0
    numbers = range(part, ROUNDS, PARTS)  # each part has its kills all over the time
    for number in numbers:
        chance = random.Random(f"{SEED} {number}")
        folder = tmp_path / f"round {number}"
        project = Project(shutil.copytree(clean.project.folder, folder, symlinks=True))
        note = f"round {number} of seed {SEED}"
        num_kills = chance.choice([1, 1, 2])
        for _ in range(num_kills):
            # One moment in each part of the time, so that all stages have their turn.
            share = (number + chance.random()) / ROUNDS
            hits[kill_once(project, share * clean.took_s, only_dvc=number % 2 == 1)] += 1
        project.run("dvc", "repro")
        assert outcome(project) == clean.outcome, note
        assert unfinished(project) == [], note
        assert is_clean(project), note
        statuses = [run.status for run in runs(project)]
        assert set(statuses) == {"FINISHED"}, note
        # Killed after the training, before DVC has recorded it, it is made again.
        assert len(statuses) <= 1 + num_kills, note
        again += len(statuses) - 1
        shutil.rmtree(folder)
    with capsys.disabled():
        sys.stdout.write(
            f"\nrepro, {len(numbers)} rounds, killed at {dict(hits)}, {again} trained again;"
            f" undisturbed {clean.took_s:.0f} s, all {time.monotonic() - began:.0f} s\n"
        )
    assert hits.total() - hits[""] >= len(numbers) - 2, "too few of them said anything"


def runs(project: Project) -> list[object]:
    dataset = project.read_params()["dataset"]
    return list(tracked_runs(project, experiment=dataset))


def test_a_stage_outlives_its_dvc_no_longer_than_moments(clean: Clean, tmp_path: Path) -> None:
    """Whatever stage it is: the next repro must not meet a second writer."""
    project = Project(shutil.copytree(clean.project.folder, tmp_path / "a", symlinks=True))
    project.set_params(train={"epochs": 10_000})
    dvc = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert dvc.stdout is not None
    while not (line := dvc.stdout.readline()).startswith("epoch 2:"):
        assert line
    [*_, stage] = [process for process in family(dvc.pid) if is_stage(process)]
    dvc.kill()
    dvc.wait()
    dvc.stdout.close()
    wait_for_end([stage])
    assert [run.status for run in runs(project)] == ["KILLED"]


def is_stage(process: psutil.Process) -> bool:
    return "kinetrack.stages.train" in process.cmdline()
