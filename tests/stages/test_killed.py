"""Stages as real processes that are killed, doubled, interrupted, or find no room.

In all cases the next plain run must end with the bytes of an undisturbed one.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
import pytest

from kinetrack.files import write_alone

from factories import write_data_set, write_video
from mounts import Mounts, open_mounts
from project import Project, environment, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEED = 20261122
ROUNDS = 50
LANES = 2
State = Literal["nothing", "earlier"]


class Work(NamedTuple):
    """A stage's command line, and the folder that it writes."""

    stage: str
    arguments: tuple[str, ...]
    output: str


WORKS = {
    work.stage: work
    for work in (
        Work("sample", ("data/videos/sample",), "data/videos/sample"),
        Work("frames", ("data/videos/mine", "data/frames/mine"), "data/frames/mine"),
        Work("split", ("data/frames/mine/index.csv", "data/splits"), "data/splits"),
        Work(
            "tensors",
            ("data/frames/mine", "data/splits/split.json", "data/tensors/mine"),
            "data/tensors/mine",
        ),
    )
}
# Other values than the final ones, for the earlier outputs.
EARLIER = {"sample": {"seed": 1, "groups": 3}, "split": {"train_groups": 1}}
FINAL = {
    "sample": {"seed": 0, "groups": 2},
    "split": {"train_groups": 2, "val_groups": 0},
    "pack": {"num_frames": 8},
}


class Prepared(NamedTuple):
    """A project with the inputs of every stage, and the folders that its stages made.

    `earlier` holds, by stage, the output for other inputs or params, and beside them what was
    remembered of it; `clean` the sha256 of the files that a stage makes of the final ones.
    """

    project: Project
    earlier: Path
    clean: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("killed")
    project = make_project(root / "a project")
    videos = project.folder / "data/videos/mine"
    write_data_set(videos, labels=("Jump", "Run"), groups=3, num_frames=12)
    project.set_params(**FINAL)
    project.set_params(**EARLIER)
    run_all(project)
    for work in WORKS.values():
        shutil.copytree(project.folder / work.output, root / "earlier" / work.stage)
    shutil.move(project.folder / ".kinetrack", root / "earlier")
    write_video(videos / "Jump/v_Jump_g01_c01.avi", num_frames=13)
    write_video(videos / "Jump/v_Jump_g04_c01.avi", num_frames=12, start=7)
    (videos / "Run/v_Run_g01_c01.avi").rename(videos / "Run/v_Run_g01_c07.avi")
    (videos / "Run/v_Run_g03_c01.avi").unlink()
    project.set_params(**FINAL)
    for work in WORKS.values():
        shutil.rmtree(project.folder / work.output)
    run_all(project)
    clean = {work.stage: checksums(project.folder / work.output) for work in WORKS.values()}
    for stage, files in clean.items():
        assert files != checksums(root / "earlier" / stage)
    return Prepared(project, root / "earlier", clean)


def run_all(project: Project) -> None:
    for work in WORKS.values():
        finish(project, work)


def checksums(folder: Path) -> dict[str, str]:
    """Sha256 by path below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copy_project(prepared: Prepared, folder: Path) -> Project:
    shutil.copytree(prepared.project.folder, folder)
    return Project(folder)


def bring_to(state: State, project: Project, work: Work, prepared: Prepared) -> None:
    """Have no output, or the earlier one, with what is remembered of it."""
    output = project.folder / work.output
    for folder in (output, project.folder / ".kinetrack"):
        shutil.rmtree(folder, ignore_errors=True)
    if state == "earlier":
        shutil.copytree(prepared.earlier / work.stage, output)
        shutil.copytree(prepared.earlier / ".kinetrack", project.folder / ".kinetrack")


def start(
    project: Project, work: Work, *, workers: int = 2, prefix: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a stage by hand, in a session of its own."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", f"kinetrack.stages.{work.stage}", *work.arguments],
        cwd=project.folder,
        env={**environment(), "PYTHONPATH": "src", "KINETRACK_WORKERS": str(workers)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class Ended(NamedTuple):
    """How a stage ended."""

    exit_code: int
    stdout: str
    stderr: str


def wait(process: subprocess.Popen[str]) -> Ended:
    stdout, stderr = process.communicate(timeout=300)
    return Ended(process.returncode, stdout, stderr)


def finish(project: Project, work: Work, *, workers: int = 1) -> str:
    """Run a stage to its end; what it printed."""
    ended = wait(start(project, work, workers=workers))
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout


def end_session(process: subprocess.Popen[str]) -> None:
    """End whatever a stage has left behind, and wait for its end."""
    for orphan in processes_of_session(process.pid):
        orphan.kill()
    wait(process)


def processes_of_session(number: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def wait_for_end_of_session(number: int) -> None:
    """Workers see within moments that their stage is gone; a busy machine takes longer."""
    deadline = time.monotonic() + 20
    while processes_of_session(number):
        assert time.monotonic() < deadline, processes_of_session(number)
        time.sleep(0.1)


def hidden_beside(output: Path) -> list[str]:
    """What is left of work in the making."""
    return sorted(
        path.name
        for path in output.parent.iterdir()
        if path.name.startswith(".") and path.name != ".gitignore"
    )


def wait_until_at_work(process: subprocess.Popen[str], output: Path) -> None:
    """Until the folder is being written, or the stage has ended."""
    lock = output.with_name(f".{output.name}.lock")
    while process.poll() is None and not lock.exists():
        time.sleep(0.0005)


class Round(NamedTuple):
    """One kill and what it hit."""

    number: int
    state: State
    workers: int
    whole_group: bool
    moment: float

    @classmethod
    def draw(cls, stage: str, number: int) -> "Round":
        """By the seed alone: the same rounds on every run."""
        chance = random.Random(f"{SEED} {stage} {number}")
        state: State = chance.choice(["nothing", "earlier"])
        # Workers that load torch take seconds of two cores.
        workers = 2 if number % (5 if stage == "tensors" else 2) == 0 else 1
        return cls(number, state, workers, number % 4 < 2, chance.uniform(0, 1.05))


@pytest.mark.parametrize("stage", WORKS)
def test_killed_at_random_moments_the_next_run_ends_as_a_clean_one(
    stage: str, prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = [Round.draw(stage, number) for number in range(ROUNDS)]

    def run_lane(lane: int) -> list[bool]:
        project = copy_project(prepared, tmp_path / f"lane {lane}")
        durations: dict[tuple[State, int], float] = {}
        return [
            kill_and_rerun(project, WORKS[stage], one, prepared, durations)
            for one in rounds[lane::LANES]
        ]

    started = time.monotonic()
    with ThreadPoolExecutor(LANES) as lanes:
        hits = sum(map(sum, lanes.map(run_lane, range(LANES))))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{stage}: {ROUNDS} kills, {hits} of them at work,"
            f" {time.monotonic() - started:.0f} s, seed {SEED}\n"
        )
    assert hits > ROUNDS / 4, "too few of them said anything"


def kill_and_rerun(
    project: Project,
    work: Work,
    one: Round,
    prepared: Prepared,
    durations: dict[tuple[State, int], float],
) -> bool:
    """Kill a run and check the one after it; whether the first was at work when it was killed."""
    output = project.folder / work.output
    kind = one.state, one.workers
    if kind not in durations:
        bring_to(one.state, project, work, prepared)
        durations[kind] = measure(project, work, workers=one.workers)
    bring_to(one.state, project, work, prepared)
    process = start(project, work, workers=one.workers)
    try:
        wait_until_at_work(process, output)
        time.sleep(one.moment * durations[kind])
        is_at_work = process.poll() is None
        if one.whole_group and is_at_work:
            os.killpg(process.pid, signal.SIGKILL)
        elif is_at_work:
            process.kill()
        finish(project, work)
    finally:
        end_session(process)
    assert checksums(output) == prepared.clean[work.stage], f"{one} seed {SEED}"
    assert hidden_beside(output) == [], f"{one} seed {SEED}"
    return is_at_work


def measure(project: Project, work: Work, *, workers: int) -> float:
    """Seconds from the moment at which a stage begins to write to its end."""
    process = start(project, work, workers=workers)
    wait_until_at_work(process, project.folder / work.output)
    began = time.monotonic()
    assert wait(process).exit_code == 0
    return time.monotonic() - began


AT_ONCE = pytest.mark.parametrize("stage", ["frames", "split", "tensors"])


@pytest.fixture
def project(prepared: Prepared, tmp_path: Path) -> Project:
    """A copy to work in."""
    return copy_project(prepared, tmp_path / "project")


def is_one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1 and text.endswith("\n")


@AT_ONCE
def test_two_commands_at_once_end_as_one(stage: str, project: Project, prepared: Prepared) -> None:
    work = WORKS[stage]
    bring_to("earlier", project, work, prepared)
    both = [start(project, work) for _ in range(2)]
    ended = sorted(map(wait, both))
    assert [one.exit_code for one in ended] in ([0, 0], [0, 2])
    for one in ended:
        if one.exit_code == 2:
            assert "is being written by another process" in one.stderr
            assert is_one_line(one.stderr)
    assert checksums(project.folder / work.output) == prepared.clean[stage]
    assert hidden_beside(project.folder / work.output) == []


@AT_ONCE
def test_a_folder_that_another_process_writes_is_left_alone(
    stage: str, project: Project, prepared: Prepared
) -> None:
    work = WORKS[stage]
    output = project.folder / work.output
    bring_to("earlier", project, work, prepared)
    with write_alone(output):
        ended = wait(start(project, work))
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert is_one_line(ended.stderr)
    assert f"{output}: is being written by another process" in ended.stderr
    assert checksums(output) == checksums(prepared.earlier / stage)
    finish(project, work)
    assert checksums(output) == prepared.clean[stage]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["sample", "frames", "tensors"])
def test_an_interrupted_stage_leaves_the_output_as_it_was(
    stage: str, number: signal.Signals, project: Project, prepared: Prepared
) -> None:
    work = WORKS[stage]
    output = project.folder / work.output
    bring_to("earlier", project, work, prepared)
    process = start(project, work)
    wait_until_at_work(process, output)
    time.sleep(0.2)  # its workers are starting
    os.killpg(process.pid, number)  # as Ctrl-C on a terminal does
    ended = wait(process)
    assert ended.exit_code not in (0, 2)
    assert checksums(output) == checksums(prepared.earlier / stage)
    assert set(hidden_beside(output)) <= {f".{output.name}.{end}" for end in ("partial", "lock")}
    wait_for_end_of_session(process.pid)
    finish(project, work)
    assert checksums(output) == prepared.clean[stage]
    assert hidden_beside(output) == []


@pytest.mark.parametrize("stage", ["frames", "tensors"])
def test_a_stage_ends_when_the_dvc_that_runs_it_is_killed(
    stage: str, project: Project, prepared: Prepared
) -> None:
    work = WORKS[stage]
    output = project.folder / work.output
    project.set_params(dataset="mine")
    for path in (output, project.folder / ".kinetrack"):
        shutil.rmtree(path)
    dvc = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-s", stage],
        cwd=project.folder,
        env={**environment(), "KINETRACK_WORKERS": "2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until_at_work(dvc, output)
    dvc.kill()
    dvc.wait()
    orphans = processes_of_session(dvc.pid)
    assert orphans, "the stage had ended before"
    _, alive = psutil.wait_procs(orphans, timeout=20)
    assert alive == []
    project.run("dvc", "repro", "-s", stage)
    assert checksums(output) == prepared.clean[stage]
    assert hidden_beside(output) == []


class StageMounts:
    """Stages on disks of their own."""

    def __init__(self, mounts: Mounts) -> None:
        self.mounts = mounts
        self.run, self.see = mounts.run, mounts.see

    def start(self, project: Project, work: Work, *, workers: int = 1) -> subprocess.Popen[str]:
        """Start a stage there."""
        return start(project, work, workers=workers, prefix=self.mounts.prefix(project.folder))

    def refuse(self, project: Project, work: Work, *, workers: int = 1) -> str:
        """Run a stage that must end with one line; return that."""
        ended = wait(self.start(project, work, workers=workers))
        assert (ended.exit_code, ended.stdout) == (2, ""), ended.stderr
        assert is_one_line(ended.stderr), ended.stderr
        return ended.stderr

    def finish(self, project: Project, work: Work) -> str:
        """Run a stage to its end; return what it printed."""
        ended = wait(self.start(project, work))
        assert ended.exit_code == 0, ended.stderr
        return ended.stdout


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[StageMounts]:
    with open_mounts(tmp_path) as mounts:
        yield StageMounts(mounts)


# The folder above an output is the disk; that of `split` holds its input too.
ON_DISK = {
    **WORKS,
    "split": Work("split", ("data/frames/mine/index.csv", "disk/splits"), "disk/splits"),
}


def put_on_small_disk(
    mounts: StageMounts, project: Project, work: Work, prepared: Prepared, *, room_kib: int
) -> Path:
    """Have the earlier output on a disk of its own with that much room; return the output there."""
    bring_to("earlier", project, work, prepared)
    output = project.folder / work.output
    disk = output.parent
    disk.mkdir(exist_ok=True)
    mounts.run("mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", disk)
    mounts.run("cp", "-r", prepared.earlier / work.stage, output)
    used = shutil.disk_usage(mounts.see(disk)).used
    mounts.run("mount", "-o", f"remount,size={used // 1024 + room_kib}k", disk)
    return output


@pytest.mark.parametrize(
    "case", [("frames", "decoded", 1), ("frames", "decoded", 2), ("tensors", "packed", 1)]
)
def test_a_full_disk_is_told_and_costs_no_finished_clip(
    case: tuple[str, str, int], mounts: StageMounts, project: Project, prepared: Prepared
) -> None:
    stage, made, workers = case
    work = ON_DISK[stage]
    files = [path for path in (project.folder / work.output).rglob("*") if path.is_file()]
    for_one_file = max(path.stat().st_size for path in files) * 3 // 2 + 8192
    output = put_on_small_disk(mounts, project, work, prepared, room_kib=for_one_file // 1024)
    line = mounts.refuse(project, work, workers=workers)
    assert line.startswith(f"error: {output.parent}/.mine.partial/")
    assert ": cannot be written, found No space left on device; " in line
    assert "bytes free there" in line
    assert checksums(mounts.see(output)) == checksums(prepared.earlier / stage)
    mounts.run("mount", "-o", "remount,size=50m", output.parent)
    again = re.search(rf" (\d+) {made},", mounts.finish(project, work))
    assert again is not None
    assert int(again[1]) <= workers, "only what was being made"
    assert checksums(mounts.see(output)) == prepared.clean[stage]
    assert hidden_beside(mounts.see(output)) == []


@pytest.mark.parametrize("stage", WORKS)
def test_a_read_only_disk_is_told(
    stage: str, mounts: StageMounts, project: Project, prepared: Prepared
) -> None:
    work = ON_DISK[stage]
    output = put_on_small_disk(mounts, project, work, prepared, room_kib=50_000)
    mounts.run("mount", "-o", "remount,ro", output.parent)
    line = mounts.refuse(project, work)
    assert f"{output}: cannot be written, found Read-only file system" in line
    mounts.run("mount", "-o", "remount,rw", output.parent)
    assert checksums(mounts.see(output)) == checksums(prepared.earlier / stage)
    mounts.finish(project, work)
    assert checksums(mounts.see(output)) == prepared.clean[stage]


@pytest.mark.parametrize("stage", ["sample", "split"])
def test_a_full_disk_is_told_by_the_stages_that_write_their_folder_at_once(
    stage: str, mounts: StageMounts, project: Project, prepared: Prepared
) -> None:
    work = ON_DISK[stage]
    output = put_on_small_disk(mounts, project, work, prepared, room_kib=4)
    line = mounts.refuse(project, work)
    assert str(output.parent) in line
    assert "No space left on device" in line
    assert checksums(mounts.see(output)) == checksums(prepared.earlier / stage)
    assert hidden_beside(mounts.see(output)) == []
    mounts.run("mount", "-o", "remount,size=50m", output.parent)
    mounts.finish(project, work)
    assert checksums(mounts.see(output)) == prepared.clean[stage]


@pytest.mark.parametrize("stage", ["frames", "tensors"])
def test_a_file_larger_than_files_may_be_is_told(
    stage: str, project: Project, prepared: Prepared
) -> None:
    """As a full disk, where nothing can be mounted."""
    work = WORKS[stage]
    output = project.folder / work.output
    bring_to("earlier", project, work, prepared)
    ended = wait(start(project, work, prefix=("prlimit", "--fsize=5000", "--")))
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert is_one_line(ended.stderr)
    assert "cannot be written, found File too large; " in ended.stderr
    assert "bytes free there" in ended.stderr
    assert checksums(output) == checksums(prepared.earlier / stage)
    finish(project, work)
    assert checksums(output) == prepared.clean[stage]


def test_a_video_that_cannot_be_read_is_named(
    mounts: StageMounts, project: Project, prepared: Prepared
) -> None:
    work = WORKS["frames"]
    output = project.folder / work.output
    bring_to("earlier", project, work, prepared)
    video = project.folder / "data/videos/mine/Run/v_Run_g02_c01.avi"
    mounts.mounts.make_unreadable(video)
    line = mounts.refuse(project, work)
    assert "Run/v_Run_g02_c01.avi: cannot be opened as a video: Input/output error" in line
    assert checksums(output) == checksums(prepared.earlier / "frames")
    mounts.run("umount", video)
    assert " 0 decoded," in mounts.finish(project, work)
    assert checksums(output) == prepared.clean["frames"]


def test_an_archive_that_cannot_be_read_is_named(
    mounts: StageMounts, project: Project, prepared: Prepared
) -> None:
    work = WORKS["tensors"]
    output = project.folder / work.output
    bring_to("nothing", project, work, prepared)
    archive = project.folder / "data/frames/mine/Run/v_Run_g02_c01.zip"
    mounts.mounts.make_unreadable(archive)
    line = mounts.refuse(project, work)
    assert "Run/v_Run_g02_c01.zip: is no whole frame archive" in line
    assert not output.exists()
    mounts.run("umount", archive)
    assert " 1 packed," in mounts.finish(project, work)
    assert checksums(output) == prepared.clean["tensors"]
