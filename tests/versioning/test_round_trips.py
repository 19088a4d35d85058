"""The data to a remote and back, by real DVC: a folder, an SSH server, a server that speaks S3."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kinetrack.cli.verify import check_all
from kinetrack.versioning.findings import in_order

from project import Project, environment, make_project
from remote_servers import Place, folder_place, s3_server, ssh_server
from tracked_files import md5_of, object_file, overwrite

pytestmark = pytest.mark.slow
EXTRA = "data/videos/extra"
ARCHIVE = "data/frames/sample/Grow/v_Grow_g01_c01.zip"
TENSOR = "data/tensors/sample/test/Grow/v_Grow_g04_c01.pt"
MakePlace = Callable[[str], Place]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, with a folder beside that takes a while to send."""
    project = make_project(tmp_path_factory.mktemp("round trips") / "project")
    content = random.Random(0)
    for number in range(60):
        path = project.folder / EXTRA / f"{number}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.randbytes(200_000))
    project.run("dvc", "add", "-q", EXTRA)
    project.run("dvc", "repro", "-q")
    project.commit("repro")
    return project


@pytest.fixture(scope="module", params=["folder", "ssh", "s3"])
def make_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakePlace]:
    """Each kind of remote; a test makes a place of its own on it."""
    folder = tmp_path_factory.mktemp(request.param) / "a server"
    if request.param == "folder":
        yield lambda name: folder_place(folder / name)
        return
    with (ssh_server if request.param == "ssh" else s3_server)(folder) as make:
        yield make


@pytest.fixture
def place(make_place: MakePlace, tmp_path: Path) -> Place:
    """An empty remote, in a path with a space."""
    place = make_place(f"of {tmp_path.name}")
    place.folder.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture
def sender(done: Project, place: Place, tmp_path: Path) -> Project:
    """The project that has all of it."""
    shutil.copytree(done.folder, tmp_path / "sender", symlinks=True)
    return connect(Project(tmp_path / "sender"), place)


def connect(project: Project, place: Place) -> Project:
    """Name the remote in the project, with what is not for Git in the file that Git ignores."""
    project.run("dvc", "remote", "add", "-q", "-d", "team", place.url)
    for option, value in place.settings.items():
        project.run("dvc", "remote", "modify", "-q", "--local", "team", option, value)
    project.run("git", "commit", "-q", "-m", "remote", ".dvc/config")
    return project


def clone(sender: Project, folder: Path) -> Project:
    sender.run("git", "clone", "-q", str(sender.folder), str(folder))
    secrets = sender.folder / ".dvc/config.local"
    if secrets.exists():
        shutil.copyfile(secrets, folder / ".dvc/config.local")
    return Project(folder)


def kinetrack(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "kinetrack.cli.main", *arguments, check=False)


def verify(project: Project, *options: str) -> dict[str, Any]:
    """What `kinetrack verify` finds, with its exit code."""
    result = kinetrack(project, "verify", "--json", *options)
    assert result.returncode in (0, 1), result.stderr
    return {**json.loads(result.stdout), "exit_code": result.returncode}


def require_all_well(project: Project) -> None:
    """Both the clone and the remote are whole, to the last byte."""
    assert check_all(project.folder).findings == []
    found = verify(project, "--remote", "team")
    assert (found["exit_code"], found["commands"]) == (0, []), found


def contents(project: Project) -> dict[str, bytes]:
    """Every data file by its path."""
    paths = [path for path in (project.folder / "data").rglob("*") if path.is_file()]
    return {path.relative_to(project.folder).as_posix(): path.read_bytes() for path in paths}


def md5_of_path(project: Project, path: str) -> str:
    """What DVC calls a file."""
    return md5_of((project.folder / path).read_bytes())


def list_of(project: Project, path: str) -> str:
    """The MD5 of a folder's list."""
    lines = (project.folder / "dvc.lock").read_text().splitlines()
    at = max(number for number, line in enumerate(lines) if line.strip() == f"- path: {path}")
    return next(line.split()[1] for line in lines[at : at + 4] if line.strip().startswith("md5:"))


def interrupt(project: Project, *command: str, when: Callable[[], bool]) -> bool:
    """Run DVC, and kill it and all that it has started as soon as that is so; was it in time?"""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *command],
        cwd=project.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not when():
        time.sleep(0.002)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_all_of_it_comes_to_a_fresh_clone_and_nothing_runs_there(
    sender: Project, place: Place, tmp_path: Path
) -> None:
    sender.run("dvc", "push", "-q")
    receiver = clone(sender, tmp_path / "receiver")
    receiver.run("dvc", "pull", "-q")
    assert contents(receiver) == contents(sender)
    require_all_well(receiver)
    assert "Running stage" not in receiver.run("dvc", "repro").stdout
    assert receiver.run("git", "status", "--porcelain").stdout == ""


def test_a_clone_with_the_tensors_alone_trains_another_model(
    sender: Project, tmp_path: Path
) -> None:
    sender.run("dvc", "push", "-q")
    receiver = clone(sender, tmp_path / "receiver")
    receiver.run("dvc", "pull", "-q", "tensors")
    receiver.set_params(train={"epochs": 1})
    told = receiver.run("dvc", "repro", "--allow-missing").stdout
    ran = [line for line in told.splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'train':", "Running stage 'evaluate':"]
    assert not (receiver.folder / "data/videos/sample").exists()
    assert not list((receiver.folder / "data/frames").glob("*/*"))
    receiver.run("dvc", "push", "-q", "train")  # which asks for nothing that is not here
    assert named(verify(receiver, "--remote", "team")) == {}


def test_a_push_that_was_killed_goes_on_and_ends_whole(sender: Project, place: Place) -> None:
    killed = [
        interrupt(sender, "push", "--jobs", "1", when=lambda least=least: place.count() >= least)
        for least in (0, 1, 20, 50, 90)
    ]
    assert sum(killed) >= 3
    assert named(verify(sender, "--remote", "team"))
    # Of a folder one kill in a hundred leaves an empty list, which is to be removed first.
    repair(sender, place)
    require_all_well(sender)


def test_a_pull_that_was_killed_goes_on_and_ends_whole(
    sender: Project, place: Place, tmp_path: Path
) -> None:
    sender.run("dvc", "push", "-q")
    receiver = clone(sender, tmp_path / "receiver")
    cache = receiver.folder / ".dvc/cache/files/md5"

    def has(least: int) -> bool:
        return sum(1 for _ in cache.glob("*/*")) >= least

    killed = [
        interrupt(receiver, "pull", "--jobs", "1", when=lambda least=least: has(least))
        for least in (0, 1, 20, 50, 90)
    ]
    assert sum(killed) >= 3
    assert check_all(receiver.folder).findings
    receiver.run("dvc", "pull", "-q")
    assert contents(receiver) == contents(sender)
    require_all_well(receiver)


def test_g1_g2_damage_on_a_remote_is_named_and_repaired_by_what_is_printed(
    sender: Project, place: Place, tmp_path: Path
) -> None:
    sender.run("dvc", "push", "-q")
    place.write(md5_of_path(sender, TENSOR), b"other bytes")
    place.remove(md5_of_path(sender, ARCHIVE))
    place.write(list_of(sender, "data/splits"), b"[]")
    assert "up to date" in sender.run("dvc", "push").stdout  # DVC sees nothing
    assert named(verify(sender, "--remote", "team")) == {
        TENSOR: "has other bytes on the remote",
        ARCHIVE: "is missing on the remote",
        "data/splits": "has other bytes on the remote (the list of its files)",
    }
    repair(sender, place)
    require_all_well(sender)
    receiver = clone(sender, tmp_path / "receiver")
    receiver.run("dvc", "pull", "-q")
    assert contents(receiver) == contents(sender)


def named(found: dict[str, Any]) -> dict[str, str]:
    """Every problem that was found, by its path."""
    findings = [one for part in found["tracked"] for one in part["findings"]]
    return {path: one["problem"] for one in findings for path in one["paths"]}


def repair(project: Project, place: Place) -> None:
    """Run what `kinetrack verify --remote` prints."""
    *removals, push = verify(project, "--remote", "team")["commands"]
    for command in removals:
        place.run_removal(command)
    subprocess.run(push, shell=True, cwd=project.folder, env=environment(), check=True)


def test_a_list_that_a_kill_left_empty_stops_every_push_until_the_repair(
    sender: Project, place: Place
) -> None:
    sender.run("dvc", "push", "-q", "split")
    place.write(list_of(sender, "data/splits"), b"")
    assert "corrupted" in sender.run("dvc", "push", check=False).stderr
    repair(sender, place)
    require_all_well(sender)


def test_the_repair_goes_round_what_dvc_remembers_of_an_earlier_version(
    sender: Project, place: Place
) -> None:
    sender.run("dvc", "push", "-q")
    first = sender.folder / EXTRA / "0.avi"
    file = md5_of_path(sender, f"{EXTRA}/0.avi")
    # A version that another clone has sent, and this one made itself.
    (sender.folder / EXTRA / "59.avi").unlink()
    sender.run("dvc", "add", "-q", EXTRA)
    other = environment() | {"DVC_SITE_CACHE_DIR": str(sender.folder.parent / "other")}
    push = [sys.executable, "-m", "dvc", "push", "-q"]
    subprocess.run(push, cwd=sender.folder, env=other, check=True)
    place.remove(file)
    repair(sender, place)
    assert place.read(file) == first.read_bytes()
    require_all_well(sender)


def test_a_pull_takes_damaged_bytes_and_verify_names_them(
    sender: Project, place: Place, tmp_path: Path
) -> None:
    sender.run("dvc", "push", "-q")
    file = md5_of_path(sender, TENSOR)
    place.write(file, b"X" + (place.read(file) or b"")[1:])
    receiver = clone(sender, tmp_path / "receiver")
    assert receiver.run("dvc", "pull", "-q", check=False).returncode == 0
    assert receiver.run("dvc", "status", "-q", check=False).returncode == 0
    assert [finding.path for finding in check_all(receiver.folder).findings] == [TENSOR]


def test_with_verify_true_a_pull_refuses_damaged_bytes_and_goes_on_after_the_repair(
    sender: Project, place: Place, tmp_path: Path
) -> None:
    sender.run("dvc", "push", "-q")
    file = md5_of_path(sender, TENSOR)
    place.write(file, b"X" + (place.read(file) or b"")[1:])
    receiver = clone(sender, tmp_path / "receiver")
    receiver.run("dvc", "remote", "modify", "-q", "--local", "team", "verify", "true")
    refused = receiver.run("dvc", "pull", check=False)
    assert refused.returncode != 0
    assert "data/tensors/sample" in refused.stderr
    assert not (receiver.folder / TENSOR).exists()
    repair(sender, place)
    receiver.run("dvc", "pull", "-q")
    assert contents(receiver) == contents(sender)
    require_all_well(receiver)


def test_g2_what_the_cache_here_lacks_too_is_not_removed_from_the_remote(
    sender: Project, place: Place
) -> None:
    sender.run("dvc", "push", "-q")
    file = md5_of_path(sender, TENSOR)
    place.write(file, b"X" + (place.read(file) or b"")[1:])
    overwrite(object_file(sender.folder, file), b"Y")
    found = verify(sender, "--remote", "team")
    assert (found["exit_code"], found["commands"]) == (1, [])
    # As the advice says: first here, then over there.
    for command in in_order(check_all(sender.folder).findings):
        subprocess.run(command, shell=True, cwd=sender.folder, env=environment(), check=True)
    repair(sender, place)
    require_all_well(sender)


# A disk that is full; only of a folder can a test make one.

ON_SMALL_DISK = """
set -u
mkdir -p "$disk" && mount -t tmpfs -o size=2m tmpfs "$disk"
python -m dvc $1 && exit 3
python -m dvc $1 && exit 4
mount -o remount,size=50m "$disk"
python -m dvc $1 -q || exit 5
python -m kinetrack.cli.main verify && python -m kinetrack.cli.main verify --remote team
"""


@pytest.mark.parametrize("command", ["push", "pull"])
def test_d5_a_full_disk_fails_and_with_more_room_the_same_command_ends_whole(
    done: Project, tmp_path: Path, command: str
) -> None:
    place = folder_place(tmp_path / "remote")
    shutil.copytree(done.folder, tmp_path / "sender", symlinks=True)
    project = connect(Project(tmp_path / "sender"), place)
    disk = place.folder
    if command == "pull":
        project.run("dvc", "push", "-q")
        project.run("dvc", "config", "-q", "--local", "cache.type", "copy")
        project = clone(project, tmp_path / "receiver")
        disk = project.folder / ".dvc/cache"
    result = in_mount_namespace(
        "sh", "-c", ON_SMALL_DISK, "sh", command, cwd=project.folder, disk=str(disk)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No space left on device" in result.stderr


def in_mount_namespace(
    *command: str, cwd: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that may mount what nobody else sees; skips where nobody may."""
    for user in (["--user", "--map-root-user"], []):
        inside = ["unshare", *user, "--mount"]
        trial = [*inside, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(trial, check=False, capture_output=True).returncode == 0:
            return subprocess.run(
                [*inside, *command],
                cwd=cwd,
                env={**environment(), **environ},
                check=False,
                capture_output=True,
                text=True,
            )
    pytest.skip("neither a user namespace nor root may mount here: no full disk")
