"""One MLflow run for each training: its params, epochs, figures and model."""

import functools
import getpass
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec

from kinetrack.errors import InputError
from kinetrack.files import read_csv
from kinetrack.tracking import outage
from kinetrack.tracking.continuing import (
    TRAINING_TAG,
    find_run,
    find_run_of,
    logged_epochs,
    reopen_run,
)
from kinetrack.tracking.interrupts import held_back
from kinetrack.tracking.model import log_served_model
from kinetrack.tracking.store import experiment_id, open_store, quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient, entities

P = ParamSpec("P")

# MLflow refuses a request with more.
_MOST_PARAMS_A_CALL = 100


class DatasetInput(NamedTuple):
    """The tensors that a training reads."""

    name: str
    digest: str  # DVC's md5, `<32 hex digits>.dir` for a folder
    path: str  # relative to the project


@contextmanager
def training_run(
    *,
    experiment: str,
    name: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    dataset: DatasetInput | None = None,
    continues: str | None = None,
) -> Iterator["TrainingRun"]:
    """Open a run for a training and close it as FINISHED, FAILED or KILLED.

    A server that does not answer costs one warning line, never the training.

    Args:
        experiment: made when missing.
        params: may be nested; logged under dotted keys.
        continues: id of the run of the interrupted training that this one goes on with. It is
            opened again, with its params and the new tags; where the experiment has it no
            longer, a new run is made.

    Raises:
        InputError: a store on this machine cannot be used, or the experiment is deleted.
    """
    run = TrainingRun()
    run.start(experiment=experiment, name=name, tags=tags, continues=continues)
    run.log_inputs(params, dataset)
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
def untracked_run() -> Iterator["TrainingRun"]:
    """Yield a run that records nothing: of several processes of a training, one is tracked."""
    run = TrainingRun()
    run.is_tracked = False
    yield run


def flatten(params: Mapping[str, object], *, prefix: str = "") -> dict[str, str]:
    """Return nested params under dotted keys, the values as text."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _tracked(
    method: Callable[Concatenate["TrainingRun", P], None],
) -> Callable[Concatenate["TrainingRun", P], None]:
    """Turn the first failure into one warning line and every later call into nothing."""

    @functools.wraps(method)
    def call(run: "TrainingRun", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not run.is_tracked:
            return
        try:
            with held_back(), quiet():
                method(run, *args, **kwargs)
        except InputError:
            raise
        except Exception as error:  # whatever a store raises, the training is worth more
            run.is_tracked = False
            outage.report(error)

    return call


class TrainingRun:
    """A run in MLflow; after the first call that fails, tracking is over and training goes on."""

    def __init__(self) -> None:
        self.run_id = ""
        self.is_tracked = True
        self._client: MlflowClient
        self._epochs: set[int] = set()

    @_tracked
    def start(
        self, *, experiment: str, name: str, tags: Mapping[str, str], continues: str | None = None
    ) -> None:
        """Open the run that is continued, else make one, and its experiment when missing."""
        self.run_id = continues or ""  # where no server answers now, it may the next time
        self._client = open_store()
        place = experiment_id(self._client, experiment)
        tags = {"mlflow.user": _user(), **tags}
        earlier = find_run(self._client, continues) if continues else None
        if earlier is None and TRAINING_TAG in tags:
            earlier = find_run_of(self._client, place, tags[TRAINING_TAG])
        if earlier and earlier.info.experiment_id == place:
            self.run_id = earlier.info.run_id
            reopen_run(self._client, earlier, tags)
            self._epochs = logged_epochs(self._client, self.run_id)
        else:
            self.run_id = self._client.create_run(place, tags=tags, run_name=name).info.run_id

    @_tracked
    def log_inputs(self, params: Mapping[str, object], dataset: DatasetInput | None) -> None:
        """Log what the training starts from, as far as the run does not have it."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params  # MLflow would refuse a new value
        logged = [Param(key, value) for key, value in flatten(params).items() if key not in known]
        for first in range(0, len(logged), _MOST_PARAMS_A_CALL):
            chunk = logged[first : first + _MOST_PARAMS_A_CALL]
            self._client.log_batch(self.run_id, params=chunk)
        if dataset:  # a second time, MLflow sees that the run has it
            self._client.log_inputs(self.run_id, datasets=[_mlflow_input(dataset)])

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch (from 1) in one call; `train/loss` is among them."""
        self.log_history([(epoch, metrics)])

    @_tracked
    def log_history(self, epochs: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log those epochs, each with its metrics, that the run does not have.

        A kill may fall between the checkpoint of an epoch and its logging, or a new run take the
        place of one that is lost.
        """
        from mlflow.entities import Metric

        for epoch, metrics in epochs:
            if epoch not in self._epochs:
                now_ms = int(time.time() * 1000)
                logged = [Metric(key, float(x), now_ms, epoch) for key, x in metrics.items()]
                self._client.log_batch(self.run_id, metrics=logged)
                self._epochs.add(epoch)

    @_tracked
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, `model_sha256` among them, by which an evaluation finds the run."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(*tag) for tag in tags.items()])

    @_tracked
    def log_figures(self, history_csv: Path) -> None:
        """Log curves of loss and accuracy drawn from a table with one row an epoch."""
        from kinetrack.tracking.figures import draw_curves

        figure = draw_curves(read_csv(history_csv))
        self._client.log_figure(self.run_id, figure, "plots/curves.png")

    @_tracked
    def log_params_file(self, path: Path) -> None:
        """Log the params file as it was."""
        self._client.log_artifact(self.run_id, str(path))

    @_tracked
    def log_model(self, folder: Path, *, num_frames: int, size_px: int, num_classes: int) -> None:
        """Log a model folder so that `mlflow.pyfunc.load_model` gives it back anywhere."""
        log_served_model(
            self._client,
            self.run_id,
            folder,
            clip_shape=(3, num_frames, size_px, size_px),
            num_classes=num_classes,
        )

    @_tracked
    def end(self, status: str) -> None:
        """Close the run with a status of MLflow's."""
        self._client.set_terminated(self.run_id, status)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _mlflow_input(dataset: DatasetInput) -> "entities.DatasetInput":
    """Describe the tensors to MLflow without its data classes, which read the data."""
    from mlflow import entities

    source = json.dumps({"uri": dataset.path})
    described = entities.Dataset(dataset.name, dataset.digest, "local", source)
    context = entities.InputTag("mlflow.data.context", "training")
    return entities.DatasetInput(described, [context])
