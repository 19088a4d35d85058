"""One function over many items on the cores of this machine."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import joblib
from rich.console import Console
from rich.progress import track

from kinetrack.errors import InputError

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


def with_progress(items: Iterable[Item], *, total: int, description: str) -> Iterable[Item]:
    """Pass `items` on behind a progress bar, on a terminal only."""
    console = Console(stderr=True)
    return track(items, description, total=total, console=console, disable=not console.is_terminal)
