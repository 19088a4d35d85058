"""Going on with the run of an interrupted training, so that one training is one run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kinetrack.tracking.store import find_if_any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Names a training, whatever became of the id of its run.
TRAINING_TAG = "training"
# How often a run was gone on with.
RESUMED_TAG = "resumed"
# Every epoch has this one, and the metrics of an epoch are written all at once.
_METRIC_OF_EVERY_EPOCH = "train/loss"


def find_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """Return a run, None when the store has none of this id or it was deleted."""
    run = find_if_any(client.get_run, run_id)
    return run if run and run.info.lifecycle_stage == "active" else None


def find_run_of(client: "MlflowClient", experiment_id: str, training: str) -> "Run | None":
    """Return the run that has this training's tag.

    A kill may fall between the making of a run and the writing of its id.
    """
    found = client.search_runs([experiment_id], f"tags.{TRAINING_TAG} = '{training}'")
    return found[0] if found else None


def reopen_run(client: "MlflowClient", run: "Run", tags: Mapping[str, str]) -> None:
    """Let a run count as running again, with these tags, and count how often this was done.

    It keeps the end time of its interruption until it ends again: no store takes that back.
    """
    from mlflow.entities import RunTag

    earlier = run.data.tags.get(RESUMED_TAG, "")
    times = 1 + (int(earlier) if earlier.isdecimal() else 0)
    tags = {**tags, RESUMED_TAG: str(times)}
    client.update_run(run.info.run_id, status="RUNNING")
    client.log_batch(run.info.run_id, tags=[RunTag(*tag) for tag in tags.items()])


def logged_epochs(client: "MlflowClient", run_id: str) -> set[int]:
    """Return the epochs that a run has the metrics of."""
    history = client.get_metric_history(run_id, _METRIC_OF_EVERY_EPOCH)
    return {metric.step for metric in history}
