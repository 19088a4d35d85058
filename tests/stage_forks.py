"""Stages as real processes that start at once.

A stage on small data takes less than a second and its imports take ten. So one process makes the
imports, and forks a process for each run, with a session, a working directory and variables of its
own.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from project import Project, environment

_FORKING = """
import atexit, importlib, json, os, sys

for module in sys.argv[1:]:
    importlib.import_module(module)
from kinetrack.stages import door

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.environ.update(order["variables"])
        for number, path in enumerate(order["outputs"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = order["work"]
        exec(order["before"])
        try:
            door.run(order["work"][0])  # it ends the process
        except SystemExit as end:
            # As Python ends, but for the taking down of all modules, which takes seconds.
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
_SLOW_TO_IMPORT = (
    "matplotlib.figure",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "torch._dynamo",
    "kinetrack.tracking.runs",
)


class Ended(NamedTuple):
    """How a stage ended; minus the number of the signal that ended it."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def epochs(self) -> list[int]:
        """The epochs that a training told."""
        return [int(number) for number in re.findall(r"^epoch (\d+):", self.stdout, re.MULTILINE)]


class Forks:
    """Runs a stage in a project, one run at a time; a context manager that ends with them.

    `work` is its name and arguments; it may be set to those of another stage between two runs, one
    of `others`. `prefix` begins the command that starts it all.
    """

    def __init__(
        self,
        project: Project,
        work: Sequence[str],
        *,
        others: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        self.project, self.work = project, tuple(work)
        self._outputs = [project.folder / ".git" / name for name in ("stdout", "stderr")]
        stages = [f"kinetrack.stages.{stage}" for stage in (work[0], *others)]
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-c", _FORKING, *_SLOW_TO_IMPORT, *stages],
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
        """Start a run; its process id. `before` is code that runs in it at first."""
        if self._pid:  # a test that failed has left it
            os.killpg(self._pid, signal.SIGKILL)
            self.wait()
        for path in self._outputs:
            path.write_text("")
        order = {
            "work": self.work,
            "variables": variables,
            "outputs": list(map(str, self._outputs)),
            "before": before,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._pid = int(self._answer())
        return self._pid

    def wait(self) -> Ended:
        """Wait for the end of the run that was started."""
        exit_code = int(self._answer())
        self._pid = 0
        stdout, stderr = (path.read_text() for path in self._outputs)
        return Ended(exit_code, stdout, stderr)

    def run(self, *, before: str = "", **variables: str) -> Ended:
        """Start a run and wait for its end."""
        self.start(before=before, **variables)
        return self.wait()

    def finish(self, **variables: str) -> Ended:
        """Make a run that must succeed."""
        ended = self.run(**variables)
        assert ended.exit_code == 0, ended.stderr
        return ended

    def refuse(self, *, before: str = "", **variables: str) -> str:
        """Make a run that must end with one line and exit code 2; return that line."""
        ended = self.run(before=before, **variables)
        assert ended.exit_code == 2, ended
        lines = ended.stderr.splitlines()
        assert lines[-1].startswith("error: "), ended.stderr
        assert "Traceback" not in ended.stderr
        return lines[-1]

    def wait_for(self, text: str, *, within_s: float = 120) -> None:
        """Wait until the run that was started has printed some text."""
        deadline = time.monotonic() + within_s
        while text not in self._outputs[0].read_text():
            told = [path.read_text() for path in self._outputs]
            assert psutil.pid_exists(self._pid) or text in told[0], told
            assert time.monotonic() < deadline, told
            time.sleep(0.002)

    def kill_after(self, text: str, **variables: str) -> Ended:
        """Start a run and end it by SIGKILL once it has printed some text."""
        pid = self.start(**variables)
        self.wait_for(text)
        os.killpg(pid, signal.SIGKILL)
        return self.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
