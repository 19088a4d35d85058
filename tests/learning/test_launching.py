import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from kinetrack.errors import InputError
from kinetrack.learning.launching import ToldError, _explain


def failure(
    folder: Path, *, rank: int = 0, exit_code: int = 1, message: str | None = None
) -> ProcessFailure:
    """One process that failed; with `message`, as it wrote it down for the launcher."""
    path = folder / f"error{rank}.json"
    if message is not None:
        told = {"message": message, "extraInfo": {"timestamp": "1"}}
        path.write_text(json.dumps({"message": told}))
    return ProcessFailure(rank, 100 + rank, exit_code, str(path))


LOST = "TeamLostError: KINETRACK_PROCESSES: another process of the training has ended"


def test_what_a_process_said_is_told_as_it_stands(tmp_path: Path) -> None:
    error = _explain(
        [failure(tmp_path, exit_code=2, message="InputError: a.pt: is no clip, found: text")]
    )
    assert isinstance(error, ToldError)
    assert str(error) == "a.pt: is no clip, found: text"


def test_cause_is_told_and_not_its_echo(tmp_path: Path) -> None:
    error = _explain(
        [
            failure(tmp_path, rank=0, exit_code=2, message=LOST),
            failure(tmp_path, rank=1, exit_code=2, message="InputError: b.pt: is no clip"),
            failure(tmp_path, rank=2, exit_code=-15),
        ]
    )
    assert str(error) == "b.pt: is no clip"


def test_killed_process_is_told_by_its_signal(tmp_path: Path) -> None:
    error = _explain(
        [
            failure(tmp_path, rank=0, exit_code=2, message=LOST),
            failure(tmp_path, rank=1, exit_code=-9),
        ]
    )
    assert str(error) == (
        "KINETRACK_PROCESSES: a process of the training has died, found SIGKILL"
        " -> run it again: it goes on after the last whole epoch"
    )


@pytest.mark.parametrize("exit_code", [-15, 128 + 15])
def test_those_that_the_launcher_ended_are_no_cause(tmp_path: Path, exit_code: int) -> None:
    error = _explain(
        [
            failure(tmp_path, rank=0, exit_code=exit_code),
            failure(tmp_path, rank=1, exit_code=-9),
        ]
    )
    assert "a process of the training has died, found SIGKILL" in str(error)


def test_crashed_process_is_told_by_its_exit_code(tmp_path: Path) -> None:
    error = _explain(
        [
            failure(tmp_path, rank=0, exit_code=-15),
            failure(tmp_path, rank=1, exit_code=2, message=LOST),
            failure(tmp_path, rank=2, exit_code=1),
        ]
    )
    assert isinstance(error, InputError)
    assert "a process of the training has failed, found exit code 1" in str(error)
    assert "see what it has printed above" in str(error)


# A module that the launcher runs; it needs neither torch nor this project.
MODULE = """
import os, pathlib, signal, sys, time

rank = os.environ["RANK"]
pathlib.Path(f"rank{rank}").write_text(" ".join([*sys.argv[1:], os.environ["WORLD_SIZE"]]))
if sys.argv[1] == "fail" and rank == "1":
    sys.exit(3)
elif sys.argv[1] == "die" and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[1] in ("fail", "die"):
    time.sleep(600)
"""
LAUNCH = """
import sys
from kinetrack.errors import InputError
from kinetrack.learning.launching import launch

try:
    launch("module", sys.argv[1:], processes=2)
except InputError as error:
    sys.exit(f"error: {error}")
"""


def run_launcher(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "module.py").write_text(MODULE)
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_processes_get_the_arguments_and_their_places(tmp_path: Path) -> None:
    ended = run_launcher(tmp_path, "work", "with a space")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == [
        "work with a space 2"
    ] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "found"), [("fail", "has failed, found exit code 3"), ("die", "died, found SIGKILL")]
)
def test_one_that_ends_early_ends_all(tmp_path: Path, what: str, found: str) -> None:
    """The other one would sleep for ten minutes."""
    ended = run_launcher(tmp_path, what)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: KINETRACK_PROCESSES: a process of the training has")
    assert found in ended.stderr
    assert ended.stderr.count("\n") == 1
