"""Ctrl-C and SIGTERM, so that what is half-written is removed and nobody has to ask twice."""

import os
import signal
import sys
import threading
from contextlib import suppress

_WAIT_S = 0.05


def exit_when_asked() -> None:
    """Have SIGTERM end this process as Ctrl-C does: by an exception, exit code 143.

    Where Python drops the exception of either, because a callback of its garbage collector was
    just running (SQLAlchemy has such), the signal is sent again: the process would go on as if
    nobody had asked.
    """
    signal.signal(signal.SIGTERM, _exit)
    sys.unraisablehook = _ask_again


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _ask_again(dropped: "sys.UnraisableHookArgs") -> None:
    number = _signal_of(dropped.exc_value)
    if number is None:
        sys.__unraisablehook__(dropped)
        return
    # Later, by a thread: raised in here, it would be dropped as well.
    again = threading.Timer(_WAIT_S, os.kill, (os.getpid(), number))
    again.daemon = True
    with suppress(RuntimeError):  # Python ends anyway
        again.start()


def _signal_of(error: BaseException | None) -> signal.Signals | None:
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        return signal.SIGTERM
    return None
