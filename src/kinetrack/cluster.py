"""One function over many items on the machines of a Dask cluster.

Not by joblib's back end for Dask: that waits for ever for a task which Dask has given up on.
"""

import logging
import os
import queue
import re
import shutil
import tempfile
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, Future, KilledWorker, Worker, get_worker

from kinetrack.cluster_code import START_ANEW, describe_code, find_difference, refuse_strangers
from kinetrack.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
Answer = tuple[Result | None, Exception | None]

_CONNECT_S = 10
_FIRST_WORKER_S = 10
# A nanny starts a new worker in seconds; a queue of jobs may take longer to give a node back.
_WORKERS_GONE_S = 120
_LOOK_EVERY_S = 1
# After an error, clips in work are waited for: their files would come when nobody expects them.
_LAST_CLIPS_S = 60


def map_on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], *, address: str, description: str
) -> Iterator[tuple[int, Result]]:
    """Apply `function` to every item on the workers of the scheduler at `address`.

    Yields the place of an item and its result, in the order in which they are done. The function
    is one that a module holds by name. What it raises is raised here. A worker may die: what it
    had in work is done elsewhere.

    Raises:
        InputError: no scheduler or no worker is there, a worker has other code, versions or files,
            several workers died at one clip, or all are gone for two minutes.
    """
    _check_address(address)
    with _connect(address) as client, _shared_folder() as folder:
        workers = _Workers(client, address)
        workers.wait_for_first()
        facts = describe_code()
        refuse_strangers(client, facts, folder)
        call = partial(_call, function=function, facts=facts, folder=folder)
        yield from _map(call, items, client=client, workers=workers, description=description)


def _check_address(address: str) -> None:
    # Not left to Dask, which waits for ever for some that cannot be one.
    if not re.fullmatch(r"(tcp|tls|ws|wss)://[^\s/]+:[1-9][0-9]{0,4}", address):
        raise InputError(
            "KINETRACK_DASK",
            "is no address of a Dask scheduler",
            found=repr(address),
            expected="one such as tcp://host:8786",
        )


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    # What goes wrong is told by us, in one line.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    answers: queue.SimpleQueue[Client | Exception] = queue.SimpleQueue()
    # In a thread, since Dask waits for ever where something listens and never says a word.
    threading.Thread(target=_open, args=(address, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=_CONNECT_S + 1)
    except queue.Empty:
        answer = TimeoutError("something that listens and never answers")
    if isinstance(answer, Exception):
        raise InputError(
            address,
            "no Dask scheduler answers",
            found=str(answer) or type(answer).__name__,
            remedy="start one with `dask scheduler`, or unset KINETRACK_DASK to work here",
        )
    try:
        yield answer
    finally:
        answer.close(timeout=_CONNECT_S)


def _open(address: str, answers: "queue.SimpleQueue[Client | Exception]") -> None:
    try:
        answers.put(Client(address, timeout=_CONNECT_S, set_as_default=False))
    except Exception as error:
        answers.put(error)


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """A folder of a new name in the working directory: who can write to it shares our files."""
    ours = Path.cwd() / ".kinetrack"
    ours.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=ours))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Workers:
    """What the scheduler says of its workers."""

    def __init__(self, client: Client, address: str) -> None:
        self.num_threads = 0
        self._client = client
        self._address = address
        self._seen_at = self._asked_at = time.monotonic()

    def wait_for_first(self) -> None:
        """Wait a little for one that works.

        Raises:
            InputError: there is none.
        """
        try:
            # Some clusters start workers only when there is a task.
            self._client.submit(os.getpid, pure=False).result(timeout=_FIRST_WORKER_S)
        except (OSError, CancelledError):
            raise InputError(
                self._address,
                f"the Dask scheduler has no worker that answers within {_FIRST_WORKER_S} s",
                remedy=f"start some with `dask worker {self._address}`",
            ) from None
        self._ask()

    def watch(self) -> None:
        """Ask again if the last answer is old.

        Raises:
            InputError: the scheduler is gone, or all workers are for too long.
        """
        if time.monotonic() - self._asked_at >= _LOOK_EVERY_S:
            self._ask()
        if self._asked_at - self._seen_at > _WORKERS_GONE_S:
            raise InputError(
                self._address,
                f"the Dask scheduler has had no worker for {_WORKERS_GONE_S} s",
                remedy=f"see why they ended, and start some with `dask worker {self._address}`",
            )

    def tell_scheduler_gone(self) -> InputError:
        """The error for a scheduler that was there before."""
        return InputError(
            self._address,
            "the Dask scheduler is gone",
            remedy="start it and its workers again, then the same command",
        )

    def _ask(self) -> None:
        if self._client.status != "running":
            raise self.tell_scheduler_gone()
        try:
            self.num_threads = sum(self._client.nthreads().values())
        except OSError:
            raise self.tell_scheduler_gone() from None
        self._asked_at = time.monotonic()
        if self.num_threads:
            self._seen_at = self._asked_at


def _call(
    item: Item,
    *,
    function: Callable[[Item], Result],
    facts: Mapping[str, str],
    folder: Path,
) -> Answer[Result]:
    """On a worker: what the function returns and raises, apart from what Dask raises."""
    if difference := find_difference(facts, folder, get_worker().address):
        return None, difference
    try:
        return function(item), None
    except Exception as error:
        error.add_note(f"On the worker {get_worker().address}:\n{traceback.format_exc()}")
        return None, error


def _map(
    call: Callable[[Item], Answer[Result]],
    items: Sequence[Item],
    *,
    client: Client,
    workers: _Workers,
    description: str,
) -> Iterator[tuple[int, Result]]:
    """Hand out items as workers become free, and results as they come."""
    run = f"{description}-{uuid.uuid4()}"
    waiting = deque(range(len(items)))
    in_work: dict[int, Future[Any]] = {}
    done: queue.SimpleQueue[int] = queue.SimpleQueue()

    def hand_out(place: int) -> None:
        future = in_work[place] = client.submit(call, items[place], key=(run, place))
        future.add_done_callback(lambda _: done.put(place))

    try:
        while waiting or in_work:
            # Few ahead: Dask suspects all that a dying worker was given of having killed it.
            while waiting and len(in_work) < 2 * workers.num_threads:
                hand_out(waiting.popleft())
            workers.watch()
            try:
                place = done.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
            which = f"{description}: clip {place + 1} of {len(items)}"
            yield place, _take(in_work.pop(place), workers, which)
    except BaseException:
        _end(client, in_work.values(), run)
        raise


def _take(future: Future[Answer[Result]], workers: _Workers, which: str) -> Result:
    while True:
        try:
            value, error = future.result(timeout=_LOOK_EVERY_S)
            break
        except TimeoutError:  # the worker died with the result; another makes it again
            workers.watch()
        except CancelledError:
            raise workers.tell_scheduler_gone() from None
        except KilledWorker as killed:
            raise InputError(
                which,
                f"ended {killed.allowed_failures + 1} workers, perhaps for lack of memory",
                found=f"the last one at {killed.last_worker.address}",
                remedy="see that worker's log; give workers more memory, or fewer threads each",
            ) from None
        except Exception as failed:
            raise InputError(
                which,
                "could not be given to a worker",
                found=f"{type(failed).__name__}: {failed}",
                remedy=START_ANEW,
            ) from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # there is one where there is no error


def _end(client: Client, futures: Collection[Future[Any]], run: str) -> None:
    """Cancel what has not begun, and wait for what has."""
    latest = time.monotonic() + _LAST_CLIPS_S
    with suppress(OSError, CancelledError):
        client.cancel(list(futures))
        while time.monotonic() < latest:
            time.sleep(_LOOK_EVERY_S / 4)
            if not any(client.run(_is_at_work, run, on_error="ignore").values()):
                break


def _is_at_work(run: str, *, dask_worker: Worker) -> bool:
    return any(isinstance(key, tuple) and key[0] == run for key in dask_worker.active_keys)
