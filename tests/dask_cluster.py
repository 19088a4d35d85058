"""A real Dask cluster on this machine, and functions for its workers to call."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from distributed import Client

from kinetrack.errors import InputError
from kinetrack.isolation import run_isolated

ROOT = Path(__file__).parent.parent
Found = TypeVar("Found")


class Cluster:
    """A scheduler, and workers that are added and killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commands: list[subprocess.Popen[bytes]] = []
        scheduler_file = folder / "scheduler.json"
        self.scheduler = self._start(
            "dask_scheduler", "--scheduler-file", str(scheduler_file), "--port", "0"
        )
        wait_until(scheduler_file.exists)
        with Client(scheduler_file=str(scheduler_file), set_as_default=False) as client:
            self.address: str = client.scheduler.address

    def add_worker(
        self, *options: str, code: Path = ROOT / "src", cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, in another working directory than ours; wait for it."""
        num_workers = len(self.worker_pids())
        command = self._start(
            "dask_worker", self.address, "--nthreads", "1", *options, code=code, cwd=cwd
        )
        wait_until(lambda: len(self.worker_pids()) > num_workers)
        return command

    def worker_pids(self) -> list[int]:
        """The processes that work, without their nannies."""
        with Client(self.address, set_as_default=False) as client:
            return sorted(client.run(os.getpid).values())

    def _start(
        self, module: str, *options: str, code: Path = ROOT / "src", cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(code), str(ROOT / "tests")]),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2",
        }
        log = (self._folder / f"{module}-{len(self._commands)}.log").open("wb")
        with log:
            command = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"distributed.cli.{module}",
                    "--host",
                    "127.0.0.1",
                    "--no-dashboard",
                    *options,
                ],
                env=environ,
                cwd=cwd or self._folder,
                stdout=log,
                stderr=log,
            )
        self._commands.append(command)
        return command

    def close(self) -> None:
        """End the workers, then the scheduler."""
        for command in reversed(self._commands):
            command.terminate()
            try:
                command.wait(20)
            except subprocess.TimeoutExpired:
                command.kill()
                command.wait()


def wait_until(is_so: Callable[[], Found], *, most_s: float = 60) -> Found:
    """Wait for something to be true, and return it."""
    latest = time.monotonic() + most_s
    while not (found := is_so()):
        if time.monotonic() > latest:
            raise AssertionError("waited in vain")
        time.sleep(0.05)
    return found


@contextmanager
def start_cluster(
    folder: Path, *, workers: int, options: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    """A cluster of as many workers, its logs in `folder`."""
    cluster = Cluster(folder)
    try:
        for _ in range(workers):
            cluster.add_worker(*options)
        yield cluster
    finally:
        cluster.close()


def square(number: int) -> int:
    return number * number


def tell_process(_: int) -> tuple[int, str]:
    """The process that works, and its folder."""
    time.sleep(0.05)
    return os.getpid(), os.getcwd()  # noqa: PTH109  # as text


def refuse(number: int) -> int:
    if number == 3:
        raise InputError("clip\n3.avi", "is broken", found=1, expected=2, remedy="mend it")
    return number


def fail(number: int) -> int:
    raise TimeoutError(f"no {number}")


def mark(number: int, *, folder: Path) -> int:
    """Note the process under the number, and take a while."""
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.2)
    return number


def mark_late_or_refuse(number: int, *, folder: Path) -> int:
    """Refuse the first number, and note the others late."""
    if number == 0:
        time.sleep(0.5)
        raise InputError("clip", "is broken")
    time.sleep(2)
    (folder / f"{number}").touch()
    return number


def die(number: int, *, deadly: int) -> int:
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number


def square_isolated(number: int) -> int:
    return run_isolated(square, number, stall_s=30)
