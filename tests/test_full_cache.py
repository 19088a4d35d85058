"""DVC's cache on a disk that is full or read-only; with room, the plain command goes on."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mounts import Mounts, open_mounts
from project import Project, environment, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# The last stages are left out: they take long, and DVC caches all outputs in one way.
STAGES = ("sample", "frames", "split", "tensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has run."""
    project = make_project(tmp_path_factory.mktemp("cache") / "made")
    project.set_params(sample={"groups": 2}, split={"train_groups": 1, "val_groups": 0})
    return project


@pytest.fixture(scope="module")
def clean(made: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data of an undisturbed repro, and the lock."""
    copied = Project(shutil.copytree(made.folder, tmp_path_factory.mktemp("clean") / "project"))
    copied.run("dvc", "repro", *STAGES)
    return checksums(copied.folder)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with open_mounts(tmp_path) as mounts:
        yield mounts


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(made.folder, tmp_path / "a project"))


def checksums(folder: Path) -> dict[str, str]:
    paths = [folder / "dvc.lock", *(path for path in folder.glob("data/**/*") if path.is_file())]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def repro(mounts: Mounts, project: Project) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*mounts.prefix(project.folder), sys.executable, "-m", "dvc", "repro", *STAGES],
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
    )


def assert_sound(cache: Path) -> None:
    """Every object has the bytes of its name; a temporary file that DVC leaves is none."""
    objects = [path for path in cache.glob("files/md5/??/*") if len(path.name) == 30]
    for path in objects:
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        assert md5 == path.parent.name + path.name


def test_d5_full_cache(mounts: Mounts, project: Project, clean: dict[str, str]) -> None:
    cache = project.folder / ".dvc/cache"
    mounts.put_disk(cache, room_kib=100)
    failures = 0
    for room_kib in (100, 400, 1600):  # more each time
        mounts.set_room(cache, room_kib=room_kib)
        ended = repro(mounts, project)
        assert_sound(mounts.see(cache))
        if ended.returncode == 0:
            break
        failures += 1
        assert "No space left on device" in ended.stdout + ended.stderr
    assert failures >= 2
    mounts.set_room(cache, room_kib=200_000)
    ended = repro(mounts, project)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert checksums(project.folder) == clean
    assert_sound(mounts.see(cache))
    assert verify(mounts, project) == 0


def test_d6_read_only_cache(mounts: Mounts, project: Project, clean: dict[str, str]) -> None:
    cache = project.folder / ".dvc/cache"
    mounts.put_disk(cache, room_kib=200_000)
    mounts.run("mount", "-o", "remount,ro", cache)
    ended = repro(mounts, project)
    assert ended.returncode != 0
    assert "Read-only file system" in ended.stdout + ended.stderr
    mounts.run("mount", "-o", "remount,rw", cache)
    ended = repro(mounts, project)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert checksums(project.folder) == clean
    assert verify(mounts, project) == 0


def verify(mounts: Mounts, project: Project) -> int:
    command = [sys.executable, "-m", "kinetrack.cli.main", "verify"]
    return subprocess.run(
        [*mounts.prefix(project.folder), *command],
        env=environment(),
        capture_output=True,
        check=False,
    ).returncode
