"""Videos are decoded ahead, some side by side, while the network answers for those before them."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import psutil

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, at_once: int
) -> Generator[Result]:
    """Call a function that decodes for every item; yield the results in the order of the items.

    At most `at_once` items are begun and not yet taken. Threads suffice: each decodes in a child
    process of its own. Where this ends early, as by Ctrl-C, the children are ended.
    """
    pool = ThreadPoolExecutor(workers)
    begun: deque[Future[Result]] = deque()

    def take() -> Result:
        result = begun[0].result()
        begun.popleft()
        return result

    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) == at_once:
                yield take()
        while begun:
            yield take()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _end_decoding(begun)
        pool.shutdown()


def _end_decoding(begun: Sequence[Future[Any]]) -> None:
    """End the child processes that decode, until none of these is at work any more."""
    while not all(future.done() for future in begun):
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if any("kinetrack.isolation" in part for part in child.cmdline()):
                    child.kill()
        time.sleep(0.05)
