"""Calls that may hang or crash in native code, made in a child process that can be ended.

A decoder that hangs inside C hears no exception, no thread and no Ctrl-C; one that crashes takes
its process along. The child is a process of its own, so it works from everywhere: the main
process, a worker process, a thread. It is kept for the next call. A file that has a decoder ask for
far more memory than any picture needs is refused it.
"""

import atexit
import fcntl
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import PicklingError
from typing import Any, TypeVar

Result = TypeVar("Result")

# Pictures of 8K, with as many that they refer to as H.264 allows there, take 600 MB.
MOST_MB = 640
# The same code as here: this process's sys.path, whether kinetrack is installed or not.
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from kinetrack.isolation import serve; serve(int(sys.argv[1]))"
)


class StalledError(Exception):
    """The call made no progress for longer than it may."""


class CrashedError(Exception):
    """The call ended its process; the text says how."""


def run_isolated(function: Callable[..., Result], *args: Any, stall_s: float) -> Result:
    """Call `function(*args)` in a child process and return what it returns.

    The function is one that a module holds by name; it, the arguments and the result are pickled.
    What it raises is raised here. `stall_s` is the longest time without a `report_progress`, from
    the call on, not the longest time of the call.

    Raises:
        StalledError: no progress for that long; the child was ended.
        CrashedError: the child ended by itself.
        MemoryError: it asked for more than `MOST_MB` beyond what it needs to start.
    """
    child = _take_child()
    try:
        value, error = child.call(function, args, stall_s=stall_s)
    except BaseException:  # Ctrl-C too: whatever it is still at, nobody waits for it
        child.end()
        raise
    if isinstance(error, MemoryError):
        child.end()  # what it still holds would be missing at the next call
    else:
        _idle.append(child)
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]  # it came through a pipe


def report_progress() -> None:
    """Say that the call goes on; outside of a child this does nothing."""
    if _stall_s:
        signal.setitimer(signal.ITIMER_REAL, _stall_s)


class _Child:
    """A child process at the other end of a pipe."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        # A process group of its own: Ctrl-C on the terminal is for the parent to answer.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), *_same_code()],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        try:
            self._connection.recv()
        except EOFError:
            self.end()
            raise RuntimeError("the child process for decoding did not start") from None

    def is_alive(self) -> bool:
        """Whether it waits for a call."""
        return self._process.poll() is None

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], *, stall_s: float
    ) -> tuple[Any, Exception | None]:
        """Have it make one call: what the function returned, and what it raised."""
        try:
            self._connection.send((stall_s, Path.cwd()))
            self._connection.send((function, args))
            answer: tuple[Any, Exception | None] = self._connection.recv()
        except (EOFError, ConnectionError):
            raise _tell_end(self._process.wait(), stall_s) from None
        return answer

    def end(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        if self._process.stdin:
            self._process.stdin.close()


def _tell_end(exit_code: int, stall_s: float) -> StalledError | CrashedError:
    if exit_code == -signal.SIGALRM:
        return StalledError(f"no progress for {stall_s:g} s")
    if exit_code == -signal.SIGKILL:
        return CrashedError("SIGKILL, perhaps for lack of memory")
    if exit_code < 0:
        return CrashedError(signal.Signals(-exit_code).name)
    return CrashedError(f"exit code {exit_code}")


def _same_code() -> list[str]:
    """This process's `sys.path` without other copies of this package.

    MLflow puts the code that a model carries before all else, and leaves it there.
    """
    ours = Path(__file__).resolve().parents[1]
    return [
        entry
        for entry in sys.path
        if Path(entry).resolve() == ours or not Path(entry, __package__).is_dir()
    ]


# They wait for a call. A fork finds them not alive: they are its parent's children.
_idle: list[_Child] = []


@atexit.register
def end_idle_children() -> None:
    """End the children that wait for a call; the next call starts one."""
    while _idle:
        _idle.pop().end()


def _take_child() -> _Child:
    """A child for one call: as many calls as threads make at once, so many children."""
    while True:
        try:
            child = _idle.pop()
        except IndexError:  # another thread may have taken the last one just now
            return _Child()
        if child.is_alive():
            return child
        child.end()


# In a child at work: how long it may go without progress. 0 elsewhere.
_stall_s = 0.0


def serve(connection_fd: int) -> None:
    """Be the child: answer calls until the parent is gone."""
    _let_the_kernel_end_this()
    connection = Connection(connection_fd)
    try:
        connection.send(None)
        while True:
            _answer(connection)
    except (EOFError, ConnectionError):
        return


def _let_the_kernel_end_this() -> None:
    """Have signals end this process that need no help of Python: it may hang inside C.

    SIGALRM comes when the timer of `report_progress` runs out; SIGIO when the parent's end of
    stdin closes, on which nothing is ever written, that is when the parent is gone.
    """
    for number in (signal.SIGALRM, signal.SIGIO):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _limit_memory() -> None:
    """Have memory refused beyond what this process has now; once, with all modules loaded."""
    if _most_data_bytes() == resource.RLIM_INFINITY:
        most_bytes = _data_bytes() + MOST_MB * 2**20
        # The upper limit as well: it is this process's own for good.
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))


def has_room(num_bytes: int) -> bool:
    """Whether a child may still take so much memory; a library need not say what it lacked."""
    most_bytes = _most_data_bytes()
    return most_bytes == resource.RLIM_INFINITY or _data_bytes() + num_bytes <= most_bytes


def _most_data_bytes() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def _data_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _answer(connection: Connection) -> None:
    global _stall_s  # noqa: PLW0603  # one call at a time, one process for it
    stall_s, folder = connection.recv()
    _stall_s = stall_s
    report_progress()
    answer = _call(connection, folder)
    _stall_s = 0.0
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        connection.send(answer)
    except (TypeError, AttributeError, PicklingError) as error:
        connection.send((None, TypeError(f"the answer cannot be sent: {error}")))


def _call(connection: Connection, folder: Path) -> tuple[Any, Exception | None]:
    try:
        function, args = connection.recv()  # imports the function's module
        os.chdir(folder)
        _limit_memory()
        return function(*args), None
    except Exception as error:
        error.add_note(f"In the child process:\n{traceback.format_exc()}")
        return None, error
