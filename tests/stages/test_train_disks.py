"""A training on disks that are full, read-only or unreadable; real disks, in small."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mounts import Mounts, open_mounts
from project import Project, environment
from trainings import (
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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ALL_EPOCHS = list(range(1, EPOCHS + 1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that can train."""
    return make_training(tmp_path_factory.mktemp("disks") / "made")


@pytest.fixture(scope="module")
def clean(made: Project) -> dict[str, str]:
    """What an undisturbed training makes."""
    with Trainer(made) as trainer:
        trainer.finish()
    found = outcome(made)
    for path in (MODEL, REPORTS, ".kinetrack"):
        shutil.rmtree(made.folder / path)
    return found


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with open_mounts(tmp_path) as mounts:
        yield mounts


@pytest.fixture
def project(made: Project, clean: dict[str, str], tmp_path: Path) -> Project:
    assert clean
    return Project(shutil.copytree(made.folder, tmp_path / "a project", symlinks=True))


@pytest.fixture
def trainer(mounts: Mounts, project: Project) -> Iterator[Trainer]:
    """Trains where the disks are."""
    with Trainer(project, prefix=mounts.prefix(project.folder)) as trainer:
        yield trainer


def there(mounts: Mounts, project: Project) -> Project:
    """The project as it is on the disks, seen from here."""
    return Project(mounts.see(project.folder))


def test_d3_full_disk_of_the_checkpoints(
    mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    kinetrack = project.folder / ".kinetrack"
    mounts.put_disk(kinetrack, room_kib=200)
    line = trainer.refuse()
    assert line.startswith("error: .kinetrack/")
    assert "cannot be written, found No space left on device; " in line
    assert "bytes free there" in line
    assert not list(mounts.see(kinetrack).rglob("*.partial"))
    assert not (project.folder / MODEL).exists()
    mounts.set_room(kinetrack, room_kib=100_000)
    trainer.finish()
    assert outcome(project) == clean
    assert is_clean(there(mounts, project))
    assert tracked_runs(project)[-1].status == "FINISHED"


def test_d3_full_disk_of_the_model(
    mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    data = project.folder / "data"
    mounts.put_disk(data, room_kib=20)
    line = trainer.refuse()
    assert "data/.model." in line
    assert "cannot be written, found No space left on device; " in line
    seen = there(mounts, project)
    assert not [path for path in (seen.folder / "data").glob(".*") if path.name != ".gitignore"]
    mounts.set_room(data, room_kib=100_000)
    again = trainer.finish()
    assert again.epochs == [], "all of them were trained and kept"
    assert outcome(seen) == clean
    assert tracked_runs(project)[-1].epochs == ALL_EPOCHS


def integrity(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        [answer] = connection.execute("PRAGMA integrity_check").fetchone()
    return str(answer)


def test_d4_full_disk_of_the_database(
    mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    """The training is worth more: it ends well, and MLflow is told later."""
    mlruns = project.folder / "mlruns"
    mounts.put_disk(mlruns, room_kib=16)
    ended = trainer.run()
    assert ended.exit_code == 0, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if "sends it later" in line]
    assert "mlflow.db" in line
    assert "disk is full" in line or "No space left" in line
    assert ended.epochs == ALL_EPOCHS
    assert outcome(project) == clean
    assert integrity(mounts.see(mlruns) / "mlflow.db") == "ok"
    mounts.set_room(mlruns, room_kib=100_000)
    for _ in range(2):  # the second time changes nothing
        track(mounts, project)
        [run] = tracked_runs(there(mounts, project))
        assert (run.status, run.epochs, run.num_models) == ("FINISHED", ALL_EPOCHS, 1)


def track(mounts: Mounts, project: Project) -> None:
    command = [sys.executable, "-m", "kinetrack.cli.main", "track"]
    subprocess.run(
        [*mounts.prefix(project.folder), *command],
        env=environment(),
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("name", [".kinetrack", "data", "reports"])
def test_d6_read_only_folder(
    name: str, mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    folder = project.folder / name
    mounts.put_disk(folder, room_kib=100_000)
    mounts.run("mount", "-o", "remount,ro", folder)
    line = trainer.refuse()
    assert line.startswith(f"error: {name}/") or f"/{name}/" in line
    assert "cannot be written, found Read-only file system; " in line
    mounts.run("mount", "-o", "remount,rw", folder)
    again = trainer.finish()
    assert again.epochs == (ALL_EPOCHS if name == ".kinetrack" else []), "none is trained twice"
    seen = there(mounts, project)
    assert outcome(seen) == clean
    assert is_clean(seen)


def test_d6_read_only_store(
    mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    mlruns = project.folder / "mlruns"
    mounts.put_disk(mlruns, room_kib=100_000)
    mounts.run("mount", "-o", "remount,ro", mlruns)
    ended = trainer.run()
    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr.count("sends it later") == 1
    assert outcome(project) == clean
    mounts.run("mount", "-o", "remount,rw", mlruns)
    track(mounts, project)
    [run] = tracked_runs(there(mounts, project))
    assert (run.status, run.epochs) == ("FINISHED", ALL_EPOCHS)


def test_d7_packed_clip_that_cannot_be_read(
    mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    clip = project.folder / TENSORS / "train/Jump/v_Jump_g01_c01.pt"
    mounts.make_unreadable(clip)
    line = trainer.refuse()
    assert line.startswith(f"error: {clip.relative_to(project.folder)}: is no packed clip")
    assert not (project.folder / MODEL).exists()
    mounts.run("umount", clip)
    trainer.finish()
    assert outcome(project) == clean


def test_d7_checkpoint_that_cannot_be_read(
    mounts: Mounts, project: Project, trainer: Trainer, clean: dict[str, str]
) -> None:
    trainer.kill_after("epoch 3:")
    *_, last = checkpoints(project)
    mounts.make_unreadable(last)
    ended = trainer.run()
    assert f"not used: {last.relative_to(project.folder)}: is no whole checkpoint" in ended.stderr
    mounts.run("umount", last)
    if ended.exit_code:  # the file that is mounted over cannot be replaced
        assert ended.exit_code == 2
        assert "cannot be" in ended.stderr.splitlines()[-1]
        trainer.finish()
    assert outcome(project) == clean
