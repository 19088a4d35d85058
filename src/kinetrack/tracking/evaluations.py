"""The result on the test set, added to every run that made the evaluated model."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinetrack.tables import read_csv
from kinetrack.tracking import outage
from kinetrack.tracking.figures import draw_confusion, draw_strips
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.projection import NOTE_TAG
from kinetrack.tracking.settings import http_limits, quiet
from kinetrack.tracking.store import open_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

# Of what was evaluated last: the same result is not sent twice.
_EVALUATED_TAG = "evaluation_md5"
# Of the figures, what a run's description tells; all are metrics.
_TOLD = ("accuracy", "accuracy_low", "accuracy_high", "loss", "f1_macro", "majority_accuracy")
# What our descriptions end with; another one is a person's.
_NOTE_END = "repeats this training."
# A stage waits so long for MLflow; `kinetrack track` is patient.
_ANSWER_S = 2


class Result(NamedTuple):
    """What an evaluation has found, and of which model."""

    tags: Mapping[str, str]
    """Those that a run of this model, trained on this data, has."""
    metrics: Mapping[str, float]
    confusion: Path
    """Table of `actual`, `predicted`, `num_clips`, one row for every pair of labels."""
    files: Sequence[Path] = ()
    """Logged beside the confusion table in `evaluation/`."""
    errors: Sequence[tuple[np.ndarray, str]] = ()
    """Clips that were taken for another class: frames (T, H, W, 3) uint8 and a caption."""

    def digest(self) -> str:
        """Change with the figures, and with which files there are."""
        content = [sorted(self.metrics.items()), sorted(path.name for path in self.files)]
        return hashlib.md5(repr(content).encode(), usedforsecurity=False).hexdigest()


def add_evaluation(result: Result) -> int:
    """Add test metrics, the confusion picture and small files to all runs of a model.

    Returns:
        The number of runs that have the evaluation now; 0 too when MLflow does not answer in
        time, which prints one warning line.
    """
    try:
        with quiet():
            with http_limits(timeout_s=_ANSWER_S, retries=0):
                client = open_store(timeout_s=_ANSWER_S)
            return send_evaluation(client, result)
    except Exception as error:  # whatever MLflow's store raises, the result is in `reports` too
        outage.report(error)
    return 0


def send_evaluation(client: "MlflowClient", result: Result) -> int:
    """Add a result to all runs that lack it; return the number of runs that have it then.

    Raises:
        Exception: whatever MLflow raises.
    """
    figure, count = None, 0
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in result.tags.items())
    for run in all_runs(client, wanted):
        if run.data.tags.get(_EVALUATED_TAG) != result.digest():
            figure = figure or draw_confusion(*_read_confusion(result.confusion))
            _add(client, run, result, figure)
        count += 1
    return count


def _add(client: "MlflowClient", run: "Run", result: Result, figure: "Figure") -> None:
    metrics = list(_new_metrics(client, run, result.metrics))
    if metrics:
        client.log_batch(run.info.run_id, metrics=metrics)
    client.log_figure(run.info.run_id, figure, "evaluation/confusion.png")
    if result.errors:
        client.log_figure(run.info.run_id, draw_strips(result.errors), "evaluation/errors.png")
    for path in (result.confusion, *result.files):
        client.log_artifact(run.info.run_id, str(path), "evaluation")
    note = run.data.tags.get(NOTE_TAG, _NOTE_END)
    if note.endswith(_NOTE_END):
        client.set_tag(run.info.run_id, NOTE_TAG, _describe(result, run))
    client.set_tag(run.info.run_id, _EVALUATED_TAG, result.digest())  # last: all is there


def _describe(result: Result, run: "Run") -> str:
    figures = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in result.metrics.items()
        if name in _TOLD or name.startswith("top_")
    ]
    clips = result.metrics.get("num_clips")
    where = f" on {clips:.0f} clips" if clips else ""
    repeat = f"`kinetrack reproduce {run.info.run_id[:8]}` {_NOTE_END}"
    return f"Test{where}: {', '.join(figures)}.\n\n{repeat}"


def _read_confusion(path: Path) -> tuple[list[list[int]], list[str]]:
    """Return the (K, K) counts, rows true, and the K labels."""
    rows = read_csv(path)
    labels = list(dict.fromkeys(row["actual"] for row in rows))
    counts = {(row["actual"], row["predicted"]): int(row["num_clips"]) for row in rows}
    return [[counts[actual, predicted] for predicted in labels] for actual in labels], labels


def _new_metrics(
    client: "MlflowClient", run: "Run", metrics: Mapping[str, float]
) -> Iterator["Metric"]:
    """Yield those that the run does not have, bound to its model and its test clips."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    models = run.outputs.model_outputs if run.outputs else []
    name, digest = _test_clips(run)
    for short, value in metrics.items():
        key = f"test/{short}"
        # Reports are rounded; a run that watched its test side has the figure of its last epoch.
        if not math.isclose(run.data.metrics.get(key, math.nan), value, abs_tol=1e-5):
            yield Metric(
                key,
                float(value),
                now_ms,
                _last_step(client, run, key),
                model_id=models[0].model_id if models else None,
                dataset_name=name,
                dataset_digest=digest,
                run_id=run.info.run_id,
            )


def _test_clips(run: "Run") -> tuple[str, str] | tuple[None, None]:
    for described in run.inputs.dataset_inputs if run.inputs else []:
        if "test" in [tag.value for tag in described.tags]:
            return described.dataset.name, described.dataset.digest
    return None, None


def _last_step(client: "MlflowClient", run: "Run", key: str) -> int:
    # MLflow shows the value of the largest step: at 0, a watched test side would hide the result.
    history = client.get_metric_history(run.info.run_id, key)
    return max((metric.step for metric in history), default=0)
