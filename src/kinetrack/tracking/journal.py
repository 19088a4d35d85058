"""What a training did, in a file of this machine: the source of its MLflow run.

One line of JSON for each event, written before MLflow hears of it. Whatever becomes of the
tracking server, a run can be made of this at any time, and made again without doubling anything:
every event has a time of its own.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kinetrack.files import append_line

# The tag by which a training finds its run, in whatever store.
TRAINING_TAG = "training"
# Of where a start was made from: code, data and params are the same in all starts of a training,
# but it may go on at another commit. All of these and the files are those of the last start.
START_TAGS = ("git.", "dvc.exp_", "dvc.stage", "mlflow.source.git.")
# What a line of another version, or one that was edited, leads to.
_NO_EVENT = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


class DatasetInput(NamedTuple):
    """The clips of one side."""

    name: str
    digest: str  # DVC's md5, `<32 hex digits>.dir` for a folder
    path: str  # relative to the project
    context: str  # the side


class ModelFacts(NamedTuple):
    """What tells of a model without opening it."""

    md5: str  # DVC's, of its folder
    clip_shape: tuple[int, int, int, int]  # (C, T, H, W) of one uint8 clip
    num_classes: int


class LoggedEpoch(NamedTuple):
    """Metrics of an epoch, and when it ended."""

    time_ms: int
    metrics: dict[str, float]


@dataclass
class Training:
    """All that is known of a training; what a store shall show of it."""

    id: str
    experiment: str
    name: str
    begun_ms: int
    params: dict[str, str]
    tags: dict[str, str]
    datasets: list[DatasetInput] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Text of small files by name; bytes that are no UTF-8 as lone surrogates."""
    epochs: dict[int, LoggedEpoch] = field(default_factory=dict)
    model: ModelFacts | None = None
    status: str = "RUNNING"
    """MLflow's word."""
    ended_ms: int | None = None
    starts: int = 1
    places: set[str] = field(default_factory=set)
    """Addresses of the stores that it was meant for."""
    num_events: int = 0
    sent: dict[str, "Sent"] = field(default_factory=dict)
    """By store."""

    def is_sent(self, store: str) -> bool:
        """Whether this store was given all, the model too."""
        sent = self.sent.get(store)
        return sent is not None and sent.num_events == self.num_events and sent.has_model

    def lacks_only_model(self, store: str) -> bool:
        """Whether this store was given all but the model, whose files were not to be had."""
        sent = self.sent.get(store)
        return sent is not None and sent.num_events == self.num_events and not sent.has_model


class Sent(NamedTuple):
    """How much of a training a store was given."""

    num_events: int
    has_model: bool


class Journal:
    """The file in which a training is recorded."""

    def __init__(self, path: Path, training: str) -> None:
        self._path, self._training_id = path, training
        self.training = next((one for one in read(path) if one.id == training), None)

    def begin(self, **facts: Any) -> None:
        """Record the start of the training, or that it goes on after an interruption."""
        self._record("begin", **facts)

    def add_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record an epoch, unless that was done before a kill."""
        assert self.training
        if epoch not in self.training.epochs:
            self._record("epoch", epoch=epoch, metrics=dict(metrics))

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Record what is known of the training now."""
        self._record("tags", tags=dict(tags))

    def add_model(self, model: ModelFacts) -> None:
        """Record that the model is whole."""
        self._record("model", **model._asdict())

    def end(self, status: str) -> None:
        """Record how the training ended, in MLflow's words."""
        self._record("end", status=status)

    def mark_sent(self, store: str, *, has_model: bool) -> None:
        """Record that a store has been given all that there is."""
        assert self.training
        self._record("sent", store=store, events=self.training.num_events, model=has_model)

    def _record(self, kind: str, **facts: Any) -> None:
        now_ms = int(time.time() * 1000)
        event = {"training": self._training_id, "time_ms": now_ms, "kind": kind, **facts}
        line = json.dumps(event)
        append_line(self._path, line)
        self.training = _apply(json.loads(line), self.training)


def spool_folder() -> Path:
    """Return where the journals are; DVC says in its temporary checkouts where the project is."""
    return Path(os.environ.get("DVC_ROOT", "."), ".kinetrack/spool")


def journal_path(key: str) -> Path:
    """Return the journal of the trainings with this train key."""
    return spool_folder() / f"{key}.jsonl"


def find_journal(training: str, key: str) -> Path:
    """Return the file that has a training, whatever key it began with, else that of the key.

    One that was begun by hand has no train key, and goes on under DVC.
    """
    for path, known in read_all(spool_folder()):
        if known.id == training:
            return path
    return journal_path(key)


def read_all(spool: Path) -> Iterator[tuple[Path, Training]]:
    """Yield all trainings of this machine, each with its file."""
    for path in sorted(spool.glob("[!.]*.jsonl")):
        yield from ((path, training) for training in read(path))


def read(path: Path) -> list[Training]:
    """Return the trainings of one file, in the order of their beginnings."""
    trainings: dict[str, Training] = {}
    for event in _events(path):
        name = event.get("training", "")
        try:
            trainings[name] = _apply(event, trainings.get(name))
        except _NO_EVENT:
            continue
    return list(trainings.values())


def _events(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        if isinstance(event, dict):
            yield event


def _apply(event: Mapping[str, Any], training: Training | None) -> Training:
    """Return the training as it is after an event."""
    kind, time_ms = event["kind"], int(event["time_ms"])
    if training is None:
        training = _begin(event, time_ms)
    elif kind == "begin":
        kept = {key: x for key, x in training.tags.items() if not key.startswith(START_TAGS)}
        training.tags = kept | event["tags"]
        # No store takes a file back: those that this start has not are made empty.
        training.files = dict.fromkeys(training.files, "") | event["files"]
        training.places.add(event["place"])
        training.status, training.ended_ms = "RUNNING", None
        training.starts += 1
    elif kind == "epoch":
        metrics = {key: float(value) for key, value in event["metrics"].items()}
        training.epochs.setdefault(int(event["epoch"]), LoggedEpoch(time_ms, metrics))
    elif kind == "tags":
        training.tags |= event["tags"]
    elif kind == "model":
        channels, frames, height, width = event["clip_shape"]
        shape = (channels, frames, height, width)
        training.model = ModelFacts(event["md5"], shape, event["num_classes"])
    elif kind == "end":
        training.status, training.ended_ms = event["status"], time_ms
    elif kind == "sent":
        training.sent[event["store"]] = Sent(event["events"], event["model"])
    training.num_events += kind != "sent"
    return training


def _begin(event: Mapping[str, Any], time_ms: int) -> Training:
    return Training(
        id=event["training"],
        experiment=event["experiment"],
        name=event["name"],
        begun_ms=time_ms,
        params=event["params"],
        tags=event["tags"],
        datasets=[DatasetInput(*dataset) for dataset in event["datasets"]],
        files=event["files"],
        places={event["place"]},
    )
