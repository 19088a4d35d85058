"""One function over many items, on the cores of this machine or on a Dask cluster."""

import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from typing import TypeVar

import joblib
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kinetrack.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS_VARIABLE = "KINETRACK_WORKERS"
DASK_VARIABLE = "KINETRACK_DASK"
_LINE_EVERY_S = 60


def map_clips(
    function: Callable[[Item], Result], items: Sequence[Item], *, description: str
) -> list[Result]:
    """Apply `function` to every item in worker processes; results come in the order of `items`.

    Where the work is done is a fact of the machine, never a param, and changes no result: on the
    workers of the Dask scheduler that `KINETRACK_DASK` names, else in `KINETRACK_WORKERS` local
    processes, else in one a core. With `KINETRACK_DASK`, `KINETRACK_WORKERS` has no effect.

    A function and items that hold paths hold absolute ones: workers have working directories of
    their own. What the function writes, it writes so that a second call for the item, in another
    process, does no harm: where a worker dies, another one does its clip again.

    Raises:
        InputError: a worker ended in the middle of a clip, or the cluster is not usable.
    """
    if not items:
        return []
    done = _start(function, items, description)
    results = dict(with_progress(done, total=len(items), description=description))
    return [results[place] for place in range(len(items))]


def _start(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[tuple[int, Result]]:
    if address := os.environ.get(DASK_VARIABLE, ""):
        return _map_on_cluster(function, items, address=address, description=description)
    return _map_here(function, items, description)


def _map_on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], *, address: str, description: str
) -> Iterator[tuple[int, Result]]:
    try:
        # An extra that most do without, and a second to import.
        from kinetrack.cluster import map_on_cluster  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InputError(
            DASK_VARIABLE,
            "needs a package that is not installed",
            found=error.name,
            remedy="pip install 'kinetrack[dask]'",
        ) from None
    return map_on_cluster(function, items, address=address, description=description)


def _map_here(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[tuple[int, Result]]:
    # Loky ends a worker that grew, as by loading torch, and starts another: nobody need know.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    workers = min(count_workers(), len(items))
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    try:
        work = joblib.delayed(partial(_work, function, os.getpid()))
        yield from enumerate(parallel(work(item) for item in items))
    except BrokenProcessPool:
        raise InputError(
            description,
            "a worker process was ended from outside or crashed, perhaps for lack of memory",
            found=f"{workers} workers",
            remedy=f"set {WORKERS_VARIABLE} to fewer, and close what else needs memory",
        ) from None


def _work(function: Callable[[Item], Result], parent: int, item: Item) -> Result:
    """Call the function; a worker process ends when the process that it works for is gone."""
    if os.getpid() != parent:
        _end_with(parent)
    return function(item)


@lru_cache(maxsize=1)  # once a process
def _end_with(parent: int) -> None:
    # joblib's workers would go on with what is queued, and then wait for more for minutes.
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)


def count_workers() -> int:
    """Worker processes to use on this machine.

    Raises:
        InputError: `KINETRACK_WORKERS` is set to something else than a positive number.
    """
    wanted = os.environ.get(WORKERS_VARIABLE, "")
    if not wanted:
        return int(joblib.cpu_count())
    if not re.fullmatch("[1-9][0-9]{0,3}", wanted):
        raise InputError(
            WORKERS_VARIABLE, "is no number of workers", found=repr(wanted), expected="1 to 9999"
        )
    return int(wanted)


def with_progress(items: Iterable[Item], *, total: int, description: str) -> Iterator[Item]:
    """Pass `items` on and tell how far they are, on stderr.

    On a terminal by a bar; elsewhere by a line a minute, so by none for what ends sooner.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        return _with_bar(items, total=total, description=description, console=console)
    return _with_lines(items, total=total, description=description)


def _with_bar(
    items: Iterable[Item], *, total: int, description: str, console: Console
) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)


class _RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_tell_rate(speed)} a second" if speed else "")


def _with_lines(items: Iterable[Item], *, total: int, description: str) -> Iterator[Item]:
    started = told = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - told >= _LINE_EVERY_S and done < total:
            told = now
            line = describe_progress(done, total=total, elapsed_s=now - started)
            sys.stderr.write(f"{description}: {line}\n")
            sys.stderr.flush()


def describe_progress(done: int, *, total: int, elapsed_s: float) -> str:
    """How far, how fast since the start, and how long it will take at that rate."""
    rate = done / elapsed_s
    left = _tell_time((total - done) / rate)
    return f"{done} of {total}, {_tell_rate(rate)} a second, {left} left"


def _tell_rate(rate: float) -> str:
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def _tell_time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
