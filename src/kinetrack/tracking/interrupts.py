"""Ctrl-C and SIGTERM that come while MLflow is written to."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back() -> Iterator[None]:
    """Have the first Ctrl-C or SIGTERM wait for the end of the block.

    Within a transaction it would leave the database locked, for the end of the run too. The
    second one does not wait: a server may not answer for long.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def hold(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            signal.raise_signal(number)

    for number in usual:
        signal.signal(number, hold)
    try:
        yield
    finally:
        restore()
        if came:  # also when the block ends in an error
            signal.raise_signal(came[0])
