"""What a command costs: time, CPU seconds and memory of all the processes that it starts."""

import ctypes
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_SAMPLE_EVERY_S = 0.05
_SET_CHILD_SUBREAPER = 36  # of prctl(2)


class Cost(NamedTuple):
    """What a command used, with its children and theirs.

    `cpu_s` is user and system time. `peak_bytes` is the anonymous memory of the largest of the
    processes (RssAnon: what they hold themselves, without mapped files), sampled every 50 ms.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str

    def then(self, other: "Cost") -> "Cost":
        """The cost of this command and, after its end, another one."""
        return Cost(
            wall_s=self.wall_s + other.wall_s,
            cpu_s=self.cpu_s + other.cpu_s,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            output=self.output + other.output,
        )


def measure(
    command: Sequence[str | Path], *, folder: Path, environ: Mapping[str, str] | None = None
) -> Cost:
    """Run a command in a folder to its end, and tell what it cost.

    Raises:
        RuntimeError: it failed; the text ends with what it printed.
    """
    with tempfile.TemporaryFile() as printed, _adopted_orphans():
        earlier, cpu_before_s = _children(os.getpid()), _cpu_of_children_s()
        start_s = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=printed, stderr=subprocess.STDOUT
        )
        with _watched_memory(process.pid) as peaks:
            exit_code = process.wait()
            wall_s = time.perf_counter() - start_s
        _wait_for_orphans(earlier)
        cpu_s = _cpu_of_children_s() - cpu_before_s
        printed.seek(0)
        output = printed.read().decode(errors="replace")
    if exit_code != 0:
        raise RuntimeError(f"{command} in {folder} ended with {exit_code}:\n{output[-4000:]}")
    return Cost(wall_s, cpu_s, max(peaks, default=0), output)


def _cpu_of_children_s() -> float:
    """User and system time of all the children that ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _adopted_orphans() -> Iterator[None]:
    """Become the parent of processes whose parent ends before them; else nobody counts them."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    try:
        yield
    finally:
        prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _wait_for_orphans(earlier: Collection[int]) -> None:
    while orphans := [pid for pid in _children(os.getpid()) if pid not in earlier]:
        for pid in orphans:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


@contextmanager
def _watched_memory(pid: int) -> Iterator[list[int]]:
    """Sample a process and all below it; the list gets the bytes of the largest, each time."""
    peaks: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_EVERY_S):
            peaks.append(max(map(_anonymous_bytes, _tree(pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        is_over.set()
        watcher.join()


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(found for child in _children(pid) for found in _tree(child))]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # a process or thread that has just ended
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, path.read_text().split())
    return found


def _anonymous_bytes(pid: int) -> int:
    """What a process holds itself; 0 when it has just ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
