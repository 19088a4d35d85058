"""Runs as they are recorded: found by id, by the beginning of one, by name, by experiment."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kinetrack.errors import InputError
from kinetrack.tracking import outage
from kinetrack.tracking.outage import ask_store
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.store import find_if_any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

T = TypeVar("T")

_SHORTEST_ID = 6
_ID = re.compile(rf"[0-9a-f]{{{_SHORTEST_ID},32}}")
_MOST_NAMED = 5


class NoSuchRunError(InputError):
    """A name or an id that no run has."""


class RunRecord(NamedTuple):
    """What MLflow has of a run; of each metric the last value."""

    run_id: str
    name: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    experiment_id: str = ""


def refuse_run(
    record: RunRecord,
    problem: str,
    found: object = None,
    expected: object = None,
    *,
    remedy: str = "",
) -> InputError:
    """Return what to raise about a run, by its name and id."""
    name = f"run {record.name} ({record.run_id})"
    return InputError(name, problem, found=found, expected=expected, remedy=remedy)


def find_record(name_or_id: str) -> RunRecord:
    """Find the one run that has this id, an id that begins so (6 digits or more), or this name.

    The name is that of the run, or that of its experiment in DVC.

    Runs that were deleted in MLflow do not count.

    Raises:
        NoSuchRunError: there is none.
        InputError: there is more than one, or the store does not answer.
    """
    found = ask_store(lambda client: _find(client, name_or_id), about=name_or_id)
    if not found:
        remedy = f"`kinetrack runs` lists them; give {_SHORTEST_ID} or more digits of an id"
        problem = f"no such run in MLflow at {outage.address()}"
        raise NoSuchRunError(name_or_id, problem, remedy=remedy)
    if len(found) > 1:
        ids = [run.info.run_id for run in found[:_MOST_NAMED]]
        more = ["..."] if len(found) > _MOST_NAMED else []
        raise InputError(
            name_or_id,
            "is more than one run",
            found=f"{len(found)}: {', '.join(ids + more)}",
            remedy="give the id, or more digits of it",
        )
    return _to_record(found[0])


def find_latest_of_model(weights_sha256: str, *, tensors_md5: str = "") -> RunRecord | None:
    """Return the newest finished run that made these weights, None when no run has.

    Args:
        tensors_md5: DVC's MD5 of the packed clips that it must have been of; empty: of any.

    Raises:
        InputError: the store does not answer.
    """
    wanted = f"tags.model_sha256 = '{weights_sha256}' AND attributes.status = 'FINISHED'"
    if tensors_md5:
        wanted += f" AND tags.`data.tensors_md5` = '{tensors_md5}'"
    found = ask_store(lambda client: list(all_runs(client, wanted)), about="the runs of a model")
    newest = max(found, key=lambda run: run.info.start_time, default=None)
    return _to_record(newest) if newest else None


def find_children(parent: RunRecord) -> list[RunRecord]:
    """Find the finished runs below a parent run, the first one first.

    Raises:
        InputError: the store does not answer.
    """
    wanted = f"tags.`mlflow.parentRunId` = '{parent.run_id}' AND attributes.status = 'FINISHED'"
    found = ask_store(lambda client: list(all_runs(client, wanted)), about=f"run {parent.run_id}")
    return [_to_record(run) for run in sorted(found, key=lambda run: run.info.start_time)]


def read_artifact(record: RunRecord, path: str) -> bytes | None:
    """Read a file of a run, None when it has none of this name.

    Raises:
        InputError: the store does not answer.
    """

    def read(client: "MlflowClient") -> bytes | None:
        folder = str(PurePosixPath(path).parent)
        listed = client.list_artifacts(record.run_id, None if folder == "." else folder)
        if path not in [one.path for one in listed if not one.is_dir]:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(client.download_artifacts(record.run_id, path, scratch)).read_bytes()

    return ask_store(read, about=f"{path} of run {record.run_id}")


def read_histories(record: RunRecord, names: Sequence[str]) -> dict[str, dict[int, float]]:
    """Read the values of metrics by step; of several at one step the first that was logged.

    Raises:
        InputError: the store does not answer.
    """

    def read(client: "MlflowClient") -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        for name in names:
            for one in sorted(client.get_metric_history(record.run_id, name), key=_moment):
                found[name].setdefault(one.step, one.value)
        return found

    return ask_store(read, about=f"metrics of run {record.run_id}")


def _moment(metric: "Metric") -> int:
    return int(metric.timestamp)


def set_tags(run_id: str, tags: dict[str, str]) -> None:
    """Set tags of a run.

    Raises:
        InputError: the store does not answer, or takes none.
    """
    from mlflow.entities import RunTag

    listed = [RunTag(name, value) for name, value in tags.items()]
    ask_store(lambda client: client.log_batch(run_id, tags=listed), about=f"run {run_id}")


def add_files(run_id: str, paths: Sequence[Path], *, folder: str) -> None:
    """Add files to the artifacts of a run, in a folder of these.

    Raises:
        InputError: the store does not answer, or takes none.
    """

    def add(client: "MlflowClient") -> None:
        for path in paths:
            client.log_artifact(run_id, str(path), folder)

    ask_store(add, about=f"run {run_id}")


def run_address(record: RunRecord) -> str:
    """Return where MLflow's pages show a run; empty for a store that no server has."""
    server = outage.address().rstrip("/")
    if not server.startswith(("http://", "https://")):
        return ""
    return f"{server}/#/experiments/{record.experiment_id}/runs/{record.run_id}"


def _find(client: "MlflowClient", name_or_id: str) -> "list[Run]":
    by_id = find_if_any(client.get_run, name_or_id)
    if by_id and by_id.info.lifecycle_stage == "active":
        return [by_id]
    quoted = _quote(name_or_id)
    filters = [f"attributes.run_name = {quoted}", f"tags.`dvc.exp_name` = {quoted}"]
    if _ID.fullmatch(name_or_id):
        filters.append(f"attributes.run_id LIKE '{name_or_id}%'")
    found = (run for wanted in filters for run in all_runs(client, wanted))
    return list({run.info.run_id: run for run in found}.values())


def _quote(text: str) -> str:
    """Quote for MLflow's filters, which know no escapes: a text with both quotes finds nothing."""
    quote = '"' if "'" in text else "'"
    return f"{quote}{text.replace(quote, '')}{quote}"


def _to_record(run: "Run") -> RunRecord:
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        experiment_id=run.info.experiment_id,
    )
