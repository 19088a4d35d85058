"""The result on the test set, added to every run that made the evaluated model."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinetrack.errors import InputError
from kinetrack.files import read_csv
from kinetrack.tracking import outage
from kinetrack.tracking.figures import draw_confusion
from kinetrack.tracking.store import open_store, quiet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000


def add_evaluation(
    *,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    confusion: Path,
    files: Sequence[Path] = (),
    experiment: str | None = None,
) -> int:
    """Add test metrics, the confusion picture and small files to all runs with these tags.

    A run that has the same figures already does not get them twice.

    Args:
        tags: those that a run of this model, trained on this data, has.
        metrics: logged as `test/<name>`, at the last step that has it.
        confusion: table of `actual`, `predicted`, `num_clips`, one row for every pair of labels.
        files: logged beside the confusion table in `evaluation/`.
        experiment: look in this one only.

    Returns:
        The number of runs that have the evaluation now; 0 too when MLflow does not answer, which
        prints one warning line.
    """
    figure = draw_confusion(*_read_confusion(confusion))
    added = 0
    try:
        with quiet():
            client = open_store()
            for run in _runs_of(client, tags, experiment=experiment):
                _add_metrics(client, run, {f"test/{key}": x for key, x in metrics.items()})
                _add_files(client, run, figure=figure, files=(confusion, *files))
                added += 1
    except InputError:
        raise
    except Exception as error:  # whatever MLflow's store raises, the result is in `reports` too
        outage.report(error)
    return added


def _read_confusion(path: Path) -> tuple[list[list[int]], list[str]]:
    """Return the (K, K) counts, rows true, and the K labels."""
    rows = read_csv(path)
    labels = list(dict.fromkeys(row["actual"] for row in rows))
    counts = {(row["actual"], row["predicted"]): int(row["num_clips"]) for row in rows}
    return [[counts[actual, predicted] for predicted in labels] for actual in labels], labels


def _runs_of(
    client: "MlflowClient", tags: Mapping[str, str], *, experiment: str | None
) -> Iterator["Run"]:
    experiments = client.search_experiments(max_results=_PAGE)
    ids = [one.experiment_id for one in experiments if experiment in (None, one.name)]
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    token = None
    while ids:
        page = client.search_runs(ids, wanted, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _add_metrics(client: "MlflowClient", run: "Run", metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    # Reports are rounded; a run that watched its test side has the figure of its last epoch.
    new = {
        key: float(value)
        for key, value in metrics.items()
        if not math.isclose(run.data.metrics.get(key, math.nan), value, abs_tol=1e-5)
    }
    logged = [
        Metric(key, value, now_ms, _last_step(client, run, key)) for key, value in new.items()
    ]
    if logged:
        client.log_batch(run.info.run_id, metrics=logged)


def _last_step(client: "MlflowClient", run: "Run", key: str) -> int:
    # MLflow shows the value of the largest step: at 0, a watched test side would hide the result.
    history = client.get_metric_history(run.info.run_id, key)
    return max((metric.step for metric in history), default=0)


def _add_files(
    client: "MlflowClient", run: "Run", *, figure: "Figure", files: Sequence[Path]
) -> None:
    client.log_figure(run.info.run_id, figure, "evaluation/confusion.png")
    for path in files:
        client.log_artifact(run.info.run_id, str(path), "evaluation")
