"""The run of a training in one store, brought to what the training's journal says."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from kinetrack.tracking.figures import draw_curves
from kinetrack.tracking.journal import (
    START_TAGS,
    TRAINING_TAG,
    DatasetInput,
    LoggedEpoch,
    ModelFacts,
    Training,
)
from kinetrack.tracking.model import begin_served_model, finish_served_model
from kinetrack.tracking.paging import (
    MOST_METRICS_A_CALL,
    MOST_PARAMS_A_CALL,
    all_runs,
    chunks,
)
from kinetrack.tracking.store import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient, entities

# Finds the folder of a model; yields None where its files are not to be had.
FindModel = Callable[[ModelFacts], AbstractContextManager[Path | None]]

RESUMED_TAG = "resumed"  # how often a run was gone on with
NOTE_TAG = "mlflow.note.content"  # the description in MLflow's pages
# Every epoch has this one, and the metrics of a call are written all at once.
_METRIC_OF_EVERY_EPOCH = "train/loss"
_CURVES = "plots/curves.png"


def _go_on() -> None:
    pass


class Projection:
    """One training's run in a store, and what the store has of it, so that an epoch is one call."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client
        self._between: Callable[[], None] = _go_on
        self._run: entities.Run | None = None
        self._model: entities.LoggedModel | None = None
        self._tags: dict[str, str] = {}
        self._files: set[str] = set()
        self._epochs: set[int] = set()
        self._status = ""

    @property
    def run_id(self) -> str:
        """Empty until there is a run."""
        return self._run.info.run_id if self._run else ""

    def send(
        self,
        training: Training,
        find_model: FindModel,
        *,
        between: Callable[[], None] = _go_on,
    ) -> bool:
        """Send what the store lacks; return whether it has all then, the model's files too.

        A run that a person has deleted in MLflow stays deleted, and counts as sent; it comes back
        when its training goes on.

        Args:
            between: called between requests; it may end the sending by an exception of its own,
                and the next sending goes on from there.

        Raises:
            Exception: whatever MLflow raises; a new projection then finds out what was sent.
        """
        self._between = between
        run = self._run or self._open(training)
        if run.info.lifecycle_stage != "active":
            return True
        self._send_tags(training)
        self._send_epochs(training)
        try:
            if training.status == "RUNNING":
                return True
            self._send_files(training)
            return self._send_model(training, find_model)
        finally:
            # Also when its files find no room: it is over.
            self._send_status(training)

    def _open(self, training: Training) -> "entities.Run":
        """Find the run by the training's name, or make it."""
        # In whatever experiment: a person may have renamed it meanwhile, or moved on.
        wanted = f"tags.{TRAINING_TAG} = '{training.id}'"
        found = next(all_runs(self._client, wanted, deleted_too=True), None)
        self._between()
        run = found or self._make(training)
        if run.info.lifecycle_stage != "active" and training.status == "RUNNING":
            self._client.restore_run(run.info.run_id)
            run = self._client.get_run(run.info.run_id)
        self._between()
        if run.info.lifecycle_stage == "active":
            run = self._open_inputs(run, training)
            if found:
                self._look(run, training)
            self._tags = dict(run.data.tags)
            self._status = run.info.status
        self._run = run
        return run

    def _make(self, training: Training) -> "entities.Run":
        place = experiment_id(self._client, training.experiment)
        self._between()
        tags = {**training.tags, TRAINING_TAG: training.id}
        return self._client.create_run(
            place, start_time=training.begun_ms, tags=tags, run_name=training.name
        )

    def _open_inputs(self, run: "entities.Run", training: Training) -> "entities.Run":
        """Log what a training starts from, as far as the run does not have it."""
        from mlflow.entities import Param

        missing = {
            key: value for key, value in training.params.items() if key not in run.data.params
        }
        for params in chunks([Param(*pair) for pair in missing.items()], MOST_PARAMS_A_CALL):
            self._client.log_batch(run.info.run_id, params=params)
            self._between()
        inputs = run.inputs.dataset_inputs if run.inputs else []
        if len(inputs) < len(training.datasets):  # those that it has are not doubled
            datasets = [_describe_input(dataset) for dataset in training.datasets]
            self._client.log_inputs(run.info.run_id, datasets=datasets)
            self._between()
        run = self._client.get_run(run.info.run_id)
        self._between()
        self._model = begin_served_model(self._client, run)
        self._between()
        return run

    def _look(self, run: "entities.Run", training: Training) -> None:
        """See what a run has that was there already."""
        history = self._client.get_metric_history(run.info.run_id, _METRIC_OF_EVERY_EPOCH)
        self._epochs = {metric.step for metric in history}
        # Those of a training that went on are of its interruption.
        for folder in ("", "plots") if training.starts == 1 else ():
            self._between()
            self._files |= {
                one.path for one in self._client.list_artifacts(run.info.run_id, folder)
            }

    def _send_tags(self, training: Training) -> None:
        from mlflow.entities import RunTag

        tags = dict(training.tags)
        if training.starts > 1:
            tags[RESUMED_TAG] = str(training.starts - 1)
        if NOTE_TAG not in self._tags:  # a person may have written another one
            tags[NOTE_TAG] = f"`kinetrack reproduce {self.run_id[:8]}` repeats this training."
        new = {key: value for key, value in tags.items() if self._tags.get(key) != value}
        for key in [key for key in self._tags if _is_stale(key, training)]:
            self._client.delete_tag(self.run_id, key)
            del self._tags[key]
            self._between()
        if training.status == "RUNNING" and self._status != "RUNNING":
            # It keeps the end time of its interruption until it ends again: no store takes it back.
            self._client.update_run(self.run_id, status="RUNNING")
            self._status = "RUNNING"
            self._between()
        if new:
            self._client.log_batch(self.run_id, tags=[RunTag(*tag) for tag in new.items()])
            self._tags |= new
            self._between()

    def _send_epochs(self, training: Training) -> None:
        new = {
            number: epoch for number, epoch in training.epochs.items() if number not in self._epochs
        }
        for epochs in _whole_epochs(new):
            metrics = [metric for epoch in epochs for metric in self._metrics(training, *epoch)]
            self._client.log_batch(self.run_id, metrics=metrics)
            self._epochs |= {number for number, _ in epochs}
            self._between()

    def _metrics(
        self, training: Training, number: int, epoch: LoggedEpoch
    ) -> Iterator["entities.Metric"]:
        """Bind each metric to the model, and to the clips of the side that it is of."""
        from mlflow.entities import Metric

        datasets = {dataset.context: dataset for dataset in training.datasets}
        for key, value in epoch.metrics.items():
            dataset = datasets.get(key.partition("/")[0])
            yield Metric(
                key,
                value,
                epoch.time_ms,
                number,
                model_id=self._model.model_id if self._model else None,
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest if dataset else None,
                run_id=self.run_id,
            )

    def _send_files(self, training: Training) -> None:
        for name, text in training.files.items():
            if name not in self._files:
                log_text(self._client, self.run_id, text, name)
                self._files.add(name)
                self._between()
        if training.epochs and _CURVES not in self._files:
            figure = draw_curves(_history(training))
            self._client.log_figure(self.run_id, figure, _CURVES)
            self._files.add(_CURVES)
            self._between()

    def _send_model(self, training: Training, find_model: FindModel) -> bool:
        if self._model is None or self._model.status == "READY":
            return True
        if training.model is None:
            if training.status == "FAILED":
                self._client.finalize_logged_model(self._model.model_id, "FAILED")
            return True
        with find_model(training.model) as folder:
            if folder is None:
                return False
            finish_served_model(self._client, self._model, folder)
        self._model = None
        return True

    def _send_status(self, training: Training) -> None:
        if self._status != training.status:
            self._client.set_terminated(self.run_id, training.status, training.ended_ms)
            self._status = training.status


def _is_stale(key: str, training: Training) -> bool:
    """Whether a tag is of an earlier start, and the last one has no such tag."""
    return training.starts > 1 and key.startswith(START_TAGS) and key not in training.tags


def log_text(client: "MlflowClient", run_id: str, text: str, name: str) -> None:
    """Log a file whose bytes may be no UTF-8, as lone surrogates."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, name)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        client.log_artifact(run_id, str(path))


def _describe_input(dataset: DatasetInput) -> "entities.DatasetInput":
    """Describe clips to MLflow without its data classes, which read the data."""
    from mlflow import entities

    source = json.dumps({"uri": dataset.path})
    described = entities.Dataset(dataset.name, dataset.digest, "local", source)
    context = entities.InputTag("mlflow.data.context", dataset.context)
    return entities.DatasetInput(described, [context])


def _history(training: Training) -> list[dict[str, str]]:
    return [
        {
            "epoch": str(number),
            **{key.replace("/", "_"): str(x) for key, x in epoch.metrics.items()},
        }
        for number, epoch in sorted(training.epochs.items())
    ]


def _whole_epochs(epochs: dict[int, LoggedEpoch]) -> Iterator[Sequence[tuple[int, LoggedEpoch]]]:
    """Give epochs in parts, each small enough for a call."""
    most = max((len(epoch.metrics) for epoch in epochs.values()), default=1)
    yield from chunks(sorted(epochs.items()), max(1, MOST_METRICS_A_CALL // max(1, most)))
