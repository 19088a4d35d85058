"""How a stage starts: as a process, with what DVC tells it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from project import Project, environment, make_project

STAGE = ("-m", "kinetrack.stages.split", "data/frames/none/index.csv", "data/splits")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("door") / "a project")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def start(project: Project, dvc: int, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start a stage, which finds no frames, in a project where DVC says that it is at work."""
    locked = {"data/splits": {"write": {"pid": dvc, "cmd": "dvc repro"}}}
    path = project.folder / ".dvc/tmp/rwlock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(locked))
    return subprocess.run(
        [sys.executable, *STAGE],
        cwd=project.folder,
        env={**environment(), "PYTHONPATH": "src", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stage_whose_dvc_was_killed_while_it_loaded_does_not_begin(project: Project) -> None:
    ended = start(project, dead_process(), DVC_STAGE="split")
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")


def test_a_stage_of_a_dvc_that_lives_begins(project: Project) -> None:
    ended = start(project, os.getpid(), DVC_STAGE="split")
    assert ended.returncode == 2
    assert "index.csv: cannot be read" in ended.stderr


def test_a_stage_by_hand_begins_whatever_a_dead_dvc_has_left(project: Project) -> None:
    ended = start(project, dead_process())
    assert ended.returncode == 2
    assert "index.csv: cannot be read" in ended.stderr
