"""Trainings as real processes, in a project of their own with a real MLflow store.

A training takes two seconds and its imports take ten. So one process makes the imports, and forks
a process for each training, with a session, a working directory and variables of its own.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from kinetrack.tracking.store import prepare_database, quiet

from factories import write_packed
from project import Project, environment, make_project

TENSORS, MODEL, REPORTS = "data/tensors/mine", "data/model", "reports/train"
COMMAND = (sys.executable, "-m", "kinetrack.stages.train", TENSORS, MODEL, REPORTS)
EPOCHS = 8
# Everything with a state takes part: schedule, momenta, augmentation, the best weights so far.
QUICK = {
    "pack": {"num_frames": 4, "resize_px": 16, "size_px": 16},
    "augment": {"flip": 0.5, "brightness": 0.2, "mixup": 0.3},
    "model": {"name": "separable_3dcnn"},
    "train": {
        "epochs": EPOCHS,
        "batch_size": 4,
        "micro_batch": 4,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "keep": "best",
        "threads": 1,
    },
}

_FORKING = f"""
import json, os, sys
import matplotlib.figure, mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, torch._dynamo
import kinetrack.stages.train, kinetrack.tracking.runs
from kinetrack.stages import door

sys.argv = ["train", {TENSORS!r}, {MODEL!r}, {REPORTS!r}]
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.environ.update(order["variables"])
        for number, path in enumerate(order["outputs"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        exec(order["before"])
        door.run("train")  # it ends the process
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def make_training(folder: Path, **sections: dict[str, Any]) -> Project:
    """A project with packed clips, ten a side, and an empty MLflow store: `train` can run."""
    project = make_project(folder)
    write_packed(project.folder / TENSORS, clips_per_class=5)
    project.set_params(dataset="mine", **QUICK)
    project.set_params(**sections)
    prepare_database(project.folder / "mlruns/mlflow.db")
    return project


class Ended(NamedTuple):
    """How a training ended; minus the number of the signal that ended it."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def epochs(self) -> list[int]:
        """The epochs that it told."""
        return [int(number) for number in re.findall(r"^epoch (\d+):", self.stdout, re.MULTILINE)]


class Trainer:
    """Starts trainings in a project, one at a time; a context manager that ends with them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._outputs = [project.folder / ".git" / name for name in ("stdout", "stderr")]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKING],
            cwd=project.folder,
            env={**environment(), "PYTHONPATH": "src"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._pid = 0
        assert self._answer() == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, *, before: str = "", **variables: str) -> int:
        """Start a training; its process id. `before` is code that runs in it at first."""
        if self._pid:  # a test that failed has left it
            os.killpg(self._pid, signal.SIGKILL)
            self.wait()
        for path in self._outputs:
            path.write_text("")
        order = {"variables": variables, "outputs": list(map(str, self._outputs)), "before": before}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._pid = int(self._answer())
        return self._pid

    def wait(self) -> Ended:
        """Wait for the end of the training that was started."""
        exit_code = int(self._answer())
        self._pid = 0
        stdout, stderr = (path.read_text() for path in self._outputs)
        return Ended(exit_code, stdout, stderr)

    def run(self, *, before: str = "", **variables: str) -> Ended:
        """Start a training and wait for its end."""
        self.start(before=before, **variables)
        return self.wait()

    def finish(self, **variables: str) -> Ended:
        """Run a training that must succeed."""
        ended = self.run(**variables)
        assert ended.exit_code == 0, ended.stderr
        return ended

    def refuse(self, *, before: str = "", **variables: str) -> str:
        """Run a training that must end with one line and exit code 2; return that line."""
        ended = self.run(before=before, **variables)
        assert ended.exit_code == 2, ended
        lines = ended.stderr.splitlines()
        assert lines[-1].startswith("error: "), ended.stderr
        assert "Traceback" not in ended.stderr
        return lines[-1]

    def wait_for(self, text: str, *, within_s: float = 120) -> None:
        """Wait until the training that was started has printed some text."""
        deadline = time.monotonic() + within_s
        while text not in self._outputs[0].read_text():
            told = [path.read_text() for path in self._outputs]
            assert psutil.pid_exists(self._pid) or text in told[0], told
            assert time.monotonic() < deadline, told
            time.sleep(0.002)

    def kill_after(self, text: str, **variables: str) -> Ended:
        """Start a training and end it by SIGKILL once it has printed some text."""
        pid = self.start(**variables)
        self.wait_for(text)
        os.killpg(pid, signal.SIGKILL)
        return self.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def checkpoints(project: Project) -> list[Path]:
    """Those of interrupted trainings, sorted by name."""
    return sorted(project.folder.glob(".kinetrack/resume/*/epoch_*.safetensors"))


def is_clean(project: Project) -> bool:
    """Whether nothing is left of a training but what it was to make."""
    places = (".kinetrack/resume", "data", "reports")
    found = [path for place in places for path in (project.folder / place).glob(".*")]
    return not [path for path in found if path.name != ".gitignore"] and not [
        *project.folder.glob(".kinetrack/resume/*")
    ]


def outcome(project: Project) -> dict[str, str]:
    """Sha256 by path of the model and the reports."""
    return {
        path.relative_to(project.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (MODEL, REPORTS)
        for path in sorted((project.folder / folder).rglob("*"))
        if path.is_file()
    }


class TrackedRun(NamedTuple):
    """What MLflow has of a training; `epochs` in the order in which they were logged."""

    run_id: str
    status: str
    epochs: list[int]
    tags: dict[str, str]
    num_models: int


def tracked_runs(project: Project) -> list[TrackedRun]:
    """All trainings in the project's own store, the first one first."""
    from mlflow import MlflowClient

    with quiet():
        client = MlflowClient(f"sqlite:///{project.folder / 'mlruns/mlflow.db'}")
        found = client.search_experiments(filter_string="name = 'mine'")
        places = [experiment.experiment_id for experiment in found]
        runs = client.search_runs(places, order_by=["start_time ASC"]) if places else []
        models = [one.source_run_id for one in client.search_logged_models(places)] if runs else []
        return [
            TrackedRun(
                run.info.run_id,
                run.info.status,
                [one.step for one in client.get_metric_history(run.info.run_id, "train/loss")],
                run.data.tags,
                models.count(run.info.run_id),
            )
            for run in runs
        ]


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait_for_end(processes: list[psutil.Process], *, within_s: float = 20) -> None:
    """Wait until none of them lives any more; a busy machine takes seconds."""
    deadline = time.monotonic() + within_s
    while alive := [process for process in processes if is_alive(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
