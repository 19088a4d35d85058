"""Which data each run in MLflow was trained on, deleted runs too."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from kinetrack.errors import InputError
from kinetrack.tracking import outage
from kinetrack.tracking.groups import GROUP, KIND_TAG
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import local_database, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LOCK = "dvc.lock"
# A run with the same data has the same lock, as far as it is of data.
_DATA_TAGS = ("data.videos_md5", "data.split_md5", "data.tensors_md5")


class RunData(NamedTuple):
    """A training in MLflow, and what it says of its data."""

    run_id: str
    name: str
    is_deleted: bool
    dataset: str
    tags: dict[str, str]
    model_ids: tuple[str, ...]
    """Of the models that it logged."""
    lock: bytes
    """Its `dvc.lock`, or that of a run with the same data; empty where there is none."""


def list_run_data(*, with_locks: bool = False) -> list[RunData]:
    """List the trainings of all experiments, deleted ones too; groups of runs are none.

    Args:
        with_locks: read the `dvc.lock` of each.

    Raises:
        InputError: the store cannot be used, or does not answer.
    """
    database = local_database()
    if database and not database.exists():  # asking would make it
        return []
    try:
        with quiet():
            client = open_store()
            return list(_read_runs(client, with_locks=with_locks))
    except InputError:
        raise
    except Exception as error:  # whatever a store raises
        place = f"MLflow at {outage.address()}"
        raise InputError(place, "does not answer", found=outage.reason(error)) from error


def _read_runs(client: "MlflowClient", *, with_locks: bool) -> Iterator[RunData]:
    locks: dict[tuple[str, ...], bytes] = {}
    for run in all_runs(client, deleted_too=True):
        if run.data.tags.get(KIND_TAG) == GROUP:
            continue
        data = tuple(run.data.tags.get(tag, "") for tag in _DATA_TAGS)
        if with_locks and not (all(data) and locks.get(data)):
            locks[data] = _read_lock(client, run)
        yield RunData(
            run_id=run.info.run_id,
            name=run.info.run_name or "",
            is_deleted=run.info.lifecycle_stage != "active",
            dataset=run.data.params.get("dataset", ""),
            tags=dict(run.data.tags),
            model_ids=_model_ids(run),
            lock=locks.get(data, b""),
        )


def _model_ids(run: "Run") -> tuple[str, ...]:
    outputs = run.outputs.model_outputs if run.outputs else []
    return tuple(output.model_id for output in outputs)


def _read_lock(client: "MlflowClient", run: "Run") -> bytes:
    listed = client.list_artifacts(run.info.run_id)
    if _LOCK not in [one.path for one in listed if not one.is_dir]:
        return b""
    with TemporaryDirectory() as scratch:
        return Path(client.download_artifacts(run.info.run_id, _LOCK, scratch)).read_bytes()
