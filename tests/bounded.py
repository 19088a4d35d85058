"""A command in a process of its own, and what it cost: CPU time and memory.

How long it took by the clock says more of the machine than of the command. CPU time does so too,
on a machine that others use: several times as much for the same work. So what a harmless file costs
by the same command is measured first, and tells how slow the machine is just now.
"""

import ctypes
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

MOST_CPU_S = 10.0
MOST_MB = 1024.0
# The machine may become as much slower between the two.
_MARGIN = 2
# Against what never ends.
_KILLED_AFTER_CPU_S = 200
_PATIENCE_S = 550
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parent ended are waited for here
_EVERY_S = 0.01


class Cost(NamedTuple):
    """How a command ended, what it said, and what it took."""

    returncode: int
    stdout: str
    stderr: str
    cpu_s: float
    """Of the command and all processes below it."""
    peak_mb: float
    """Memory that they hold at one time, looked at every few milliseconds. Pages of files that are
    mapped and unchanged, as those of libraries, are not counted: the kernel takes them back."""


def run_bounded(command: Sequence[str | Path], *, folder: Path, environ: Mapping[str, str]) -> Cost:
    """Run a command; a process of it that takes far more CPU time than is allowed is killed."""
    whole = [sys.executable, __file__, *map(str, command)]
    done = subprocess.run(
        whole,
        cwd=folder,
        # Threads of torch that wait for each other on busy cores would count as work.
        env={**environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=_PATIENCE_S,
        check=False,
    )
    stderr, _, figures = done.stderr.rpartition("\n\0")
    return Cost(done.returncode, done.stdout, stderr, **json.loads(figures))


def assert_cheap(cost: Cost, name: str, *, harmless: Cost, usual_s: float) -> None:
    """Fail where a hostile file cost more than it may; `pytest -rP` shows what each one cost.

    `harmless` is what the command took for a good file, `usual_s` the CPU time of that on a machine
    that is free.
    """
    slowness = max(1.0, harmless.cpu_s / usual_s)
    said = f"{name}: {cost.cpu_s:.1f} s of CPU time, {cost.peak_mb:.0f} MB; {slowness:.1f} x slow\n"
    sys.stdout.write(said)
    assert cost.cpu_s - harmless.cpu_s < _MARGIN * slowness * MOST_CPU_S, said + cost.stderr[-500:]
    assert cost.peak_mb < MOST_MB, said + cost.stderr[-500:]


def _main() -> int:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    with subprocess.Popen(sys.argv[1:], preexec_fn=_limit) as process:  # noqa: PLW1509  # no thread
        peak = 0
        while process.poll() is None:
            peak = max(peak, _held_kb())
            time.sleep(_EVERY_S)
    for child in psutil.Process().children(recursive=True):
        child.wait(10)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "peak_mb": round(peak / 2**10, 1)}
    sys.stdout.flush()
    sys.stderr.write("\n\0" + json.dumps(figures))
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_KILLED_AFTER_CPU_S, _KILLED_AFTER_CPU_S))


def _held_kb() -> int:
    """Of all processes below this one."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(OSError):  # it has ended
            status = Path(f"/proc/{child.pid}/status").read_text()
            total += sum(map(int, re.findall(r"Rss(?:Anon|Shmem):\s+(\d+)", status)))
    return total


if __name__ == "__main__":
    sys.exit(_main())
