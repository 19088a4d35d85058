"""One MLflow run for each training: its params, epochs, figures and model.

A training writes its journal, and the run is made of that: at once where MLflow answers in time,
else by `kinetrack track`.
"""

import getpass
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from kinetrack.errors import InputError, WriteError
from kinetrack.files import write_alone
from kinetrack.tracking.database import require_writable
from kinetrack.tracking.host import SystemMonitor
from kinetrack.tracking.interrupts import held_back
from kinetrack.tracking.journal import (
    DatasetInput,
    Journal,
    ModelFacts,
    find_journal,
    journal_path,
)
from kinetrack.tracking.outage import Outage, place
from kinetrack.tracking.projection import Projection
from kinetrack.tracking.replay import identify
from kinetrack.tracking.settings import http_limits, quiet
from kinetrack.tracking.store import local_database, open_store

# A training waits so long for one answer, and begins no other request after so long: together
# what an epoch may lose. What was not sent then is sent with a later epoch.
_ANSWER_S = 2
_REQUESTS_S = 2.0
# At the end, once a server has answered in time: of one file of the model.
_UPLOAD_S = 60
# After an attempt that took long, so many times as long is trained first.
_PATIENCE = 20


class _EnoughError(Exception):
    """The time that a training has for MLflow is over; nothing is wrong."""


@contextmanager
def training_run(
    *,
    experiment: str,
    name: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    datasets: Sequence[DatasetInput] = (),
    files: Mapping[str, str] | None = None,
    key: str = "by-hand",
    training: str | None = None,
) -> Iterator["TrainingRun"]:
    """Open a run for a training and close it as FINISHED, FAILED or KILLED.

    MLflow that does not answer, or has no room, costs one warning line, never the training.

    Args:
        experiment: made when missing.
        params: may be nested; logged under dotted keys.
        files: text of small files by name.
        key: the train key, which names the journal.
        training: name of the training that goes on after an interruption, or of a new one; its
            run is found by it. A new training without a name gets one.

    Raises:
        WriteError: its journal cannot be written.
    """
    path = find_journal(training, key) if training else journal_path(key)
    training = training or uuid.uuid4().hex
    with _alone(path.with_name(training)) as is_alone:
        run = TrainingRun(Journal(path, training), sends=is_alone)
        run.begin(
            experiment=experiment,
            name=name,
            params=flatten(params),
            tags={"mlflow.user": _user(), **tags},
            datasets=[list(dataset) for dataset in datasets],
            files=dict(files or {}),
        )
        try:
            yield run
        except Exception:
            run.end("FAILED")
            raise
        except BaseException:  # Ctrl-C, or SIGTERM as SystemExit
            run.end("KILLED")
            raise
        run.end("FINISHED")


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold the right to tell MLflow of a training; yield whether it could be had.

    `kinetrack track` may be at it, and a training does not wait for that.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(write_alone(path))
        except WriteError:
            raise
        except InputError:
            sys.stderr.write("another process tells MLflow of this training; ")
            sys.stderr.write("`kinetrack track` tells the rest later\n")
            yield False
            return
        yield True


@contextmanager
def untracked_run() -> Iterator["TrainingRun"]:
    """Yield a run that records nothing: of several processes of a training, one is tracked."""
    yield TrainingRun(None)


def flatten(params: Mapping[str, object], *, prefix: str = "") -> dict[str, str]:
    """Return nested params under dotted keys, the values as text."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


class TrainingRun:
    """A training that is recorded, and sent to MLflow as far as that answers in time."""

    def __init__(self, journal: Journal | None, *, sends: bool = True) -> None:
        self._journal, self._sends = journal, sends
        self._projection: Projection | None = None
        self._monitor = SystemMonitor()
        self._outage = Outage()
        self._next_try = 0.0
        self._model_folder: Path | None = None
        self.is_sent = False

    @property
    def run_id(self) -> str:
        """Empty where MLflow has not answered yet."""
        return self._projection.run_id if self._projection else ""

    def begin(self, *, tags: Mapping[str, str], **facts: object) -> None:
        """Record the start of a training, or that it goes on with the params that it had."""
        if self._journal:
            self._monitor.sample()  # from here on
            self._journal.begin(place=place(), tags=dict(tags), **facts)
            self._send()

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch (from 1); `train/loss` is among them."""
        if self._journal:
            self._journal.add_epoch(epoch, {**metrics, **self._monitor.sample()})
            self._send()

    def log_history(self, epochs: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log those epochs, each with its metrics, that are not recorded.

        A kill may fall between the checkpoint of an epoch and its record.
        """
        if self._journal and epochs:
            for epoch, metrics in epochs:
                self._journal.add_epoch(epoch, metrics)
            self._send()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, `model_sha256` among them, by which an evaluation finds the run."""
        if self._journal:
            self._journal.add_tags(tags)

    def log_model(self, folder: Path, facts: ModelFacts) -> None:
        """Log a model folder so that `mlflow.pyfunc.load_model` gives it back anywhere."""
        if self._journal:
            self._model_folder = folder
            self._journal.add_model(facts)

    def end(self, status: str) -> None:
        """Close the run with a status of MLflow's."""
        if self._journal:
            self._journal.end(status)
            self._next_try = 0.0
            self._send()

    def _send(self) -> None:
        """Send what MLflow lacks, in the time that there is for it."""
        begin, self.is_sent = time.monotonic(), False
        if begin < self._next_try or not self._sends:
            return
        try:
            with held_back(), quiet():
                self._send_in_time()
            self._outage.end()
        except _EnoughError:
            pass
        except Exception as error:  # whatever a store raises, the training is worth more
            self._projection = None  # what it knows may be wrong now
            self._outage.begin(error)
        now = time.monotonic()
        if now - begin > _REQUESTS_S:
            self._next_try = now + _PATIENCE * (now - begin)

    def _send_in_time(self) -> None:
        assert self._journal
        assert self._journal.training
        is_over = self._journal.training.status != "RUNNING"
        with http_limits(timeout_s=_ANSWER_S, retries=0):
            client = open_store(timeout_s=_ANSWER_S)
            if database := local_database():
                require_writable(database, timeout_s=_ANSWER_S)
        began = time.monotonic()

        def stop_when_late() -> None:
            if not is_over and time.monotonic() - began > _REQUESTS_S:
                raise _EnoughError

        self._projection = self._projection or Projection(client)
        with http_limits(timeout_s=_UPLOAD_S if is_over else _ANSWER_S, retries=int(is_over)):
            self.is_sent = self._projection.send(
                self._journal.training,
                lambda _: nullcontext(self._model_folder),
                between=stop_when_late,
            )
            if is_over:
                self._journal.mark_sent(identify(client), has_model=self.is_sent)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
