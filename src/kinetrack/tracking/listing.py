"""The newest trainings that MLflow knows, those that repeat each other under their parent."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kinetrack.errors import InputError
from kinetrack.tracking import outage
from kinetrack.tracking.groups import GROUP, KIND_TAG
from kinetrack.tracking.paging import all_pages
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import find_if_any, local_database, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_PARENT_TAG = "mlflow.parentRunId"
_NEWEST_FIRST = ["attributes.start_time DESC"]


class ListedRun(NamedTuple):
    """A run as MLflow has it; of each metric the last value."""

    run_id: str
    name: str
    experiment: str
    status: str
    begun_ms: int
    ended_ms: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Entry(NamedTuple):
    """A training, or a parent with those of its trainings that are listed."""

    run: ListedRun
    children: tuple[ListedRun, ...] = ()


class Listing(NamedTuple):
    """Trainings, the newest first; a parent stands where the newest of its trainings would."""

    entries: list[Entry]
    has_more: bool  # there are older trainings

    def runs(self) -> list[ListedRun]:
        """All runs from top to bottom, parents included."""
        return [run for entry in self.entries for run in (entry.run, *entry.children)]


def list_runs(*, experiment: str | None = None, most: int | None = None) -> Listing:
    """List the trainings of all experiments of MLflow, or of one; what was deleted is left out.

    Args:
        most: so many trainings, the newest; parents do not count. None: all.

    Raises:
        InputError: no such experiment, the store cannot be used, or it does not answer.
    """
    database = local_database()
    if database and not database.exists():  # asking would make it
        return Listing([], has_more=False)
    try:
        with quiet():
            return _list(open_store(), experiment, most)
    except InputError:
        raise
    except Exception as error:  # whatever a store raises
        place = f"MLflow at {outage.address()}"
        raise InputError(place, "does not answer", found=outage.reason(error)) from error


def _list(client: "MlflowClient", experiment: str | None, most: int | None) -> Listing:
    names = _find_experiments(client, experiment)
    page = _PAGE if most is None else min(most + 1, _PAGE)  # the store reads all of a page
    newest = _newest_runs(client, list(names), page=page)
    trainings = (run for run in newest if not _is_group(run))
    shown = list(islice(trainings, most))
    groups = _find_groups(client, shown)
    children: dict[str, list[ListedRun]] = {run_id: [] for run_id in groups}
    entries: dict[str, Run] = {}
    for run in shown:
        parent = groups.get(run.data.tags.get(_PARENT_TAG, ""))
        if parent:
            children[parent.info.run_id].append(_read(run, names))
        entry = parent or run
        entries.setdefault(entry.info.run_id, entry)
    return Listing(
        [
            Entry(_read(run, names), tuple(children.get(run_id, ())))
            for run_id, run in entries.items()
        ],
        has_more=next(trainings, None) is not None,
    )


def _find_experiments(client: "MlflowClient", wanted: str | None) -> dict[str, str]:
    """Names by id of the experiments that are not deleted, or of the one that is wanted."""
    found = all_pages(client.search_experiments)
    names = {str(one.experiment_id): str(one.name) for one in found}
    if wanted is not None and wanted not in names.values():
        expected = f"one of {', '.join(sorted(names.values()))}"
        raise InputError(wanted, "no such experiment in MLflow", expected=expected)
    return {key: name for key, name in names.items() if wanted in (None, name)}


def _newest_runs(
    client: "MlflowClient", experiment_ids: list[str], *, page: int
) -> "Iterator[Run]":
    if experiment_ids:
        search = client.search_runs
        yield from all_pages(search, experiment_ids, order_by=_NEWEST_FIRST, page=page)


def _is_group(run: "Run") -> bool:
    return run.data.tags.get(KIND_TAG) == GROUP


def _find_groups(client: "MlflowClient", runs: "list[Run]") -> "dict[str, Run]":
    """The parents of these runs, by their ids, as far as they are groups and not deleted."""
    ids = dict.fromkeys(run.data.tags.get(_PARENT_TAG) for run in runs)
    found = (find_if_any(client.get_run, run_id) for run_id in ids if run_id)
    return {
        run.info.run_id: run
        for run in found
        if run and _is_group(run) and run.info.lifecycle_stage == "active"
    }


def _read(run: "Run", experiments: dict[str, str]) -> ListedRun:
    return ListedRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        experiment=experiments.get(run.info.experiment_id, ""),
        status=run.info.status,
        begun_ms=run.info.start_time or 0,
        ended_ms=run.info.end_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
