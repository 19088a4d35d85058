"""One function over many items on the cores of this machine."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import joblib
from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS_VARIABLE = "KINETRACK_WORKERS"


def map_clips(
    function: Callable[[Item], Result], items: Sequence[Item], *, description: str
) -> list[Result]:
    """Apply `function` to every item in worker processes; results come in the order of `items`.

    The number of workers is a fact of the machine, never a param: `KINETRACK_WORKERS`, else one a
    core. On a terminal a bar shows progress; elsewhere nothing is printed.
    """
    workers = min(count_workers(), max(len(items), 1))
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    results = parallel(joblib.delayed(function)(item) for item in items)
    return list(with_progress(results, total=len(items), description=description))


def count_workers() -> int:
    """Worker processes to use on this machine."""
    wanted = os.environ.get(WORKERS_VARIABLE, "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else int(joblib.cpu_count())


def with_progress(items: Iterable[Item], *, total: int, description: str) -> Iterable[Item]:
    """Pass `items` on behind a progress bar, on a terminal only."""
    console = Console(stderr=True)
    return track(items, description, total=total, console=console, disable=not console.is_terminal)
