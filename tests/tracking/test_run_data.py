"""Which data runs have, asked of a real store."""

from pathlib import Path
from typing import Any

import pytest

from kinetrack.errors import InputError
from kinetrack.tracking import run_data
from kinetrack.tracking.model import begin_served_model
from kinetrack.tracking.run_data import list_run_data
from kinetrack.tracking.store import experiment_id, open_store

DATA = {
    "data.videos_md5": "a" * 32 + ".dir",
    "data.split_md5": "d" * 32,
    "data.tensors_md5": "b" * 32 + ".dir",
}


def make_run(client: Any, *, lock: str = "", **tags: str) -> Any:
    made = client.create_run(experiment_id(client, "mine"), run_name="one", tags=tags)
    client.log_param(made.info.run_id, "dataset", "mine")
    if lock:
        client.log_text(made.info.run_id, lock, "dvc.lock")
    return made


def test_store_that_does_not_exist_has_no_runs_and_is_not_made(bare_project: Path) -> None:
    assert list_run_data() == []
    assert not (bare_project / "mlruns").exists()


def test_run_says_its_data_and_its_models(project: Path) -> None:
    client = open_store()
    made = make_run(client, **DATA)
    model = begin_served_model(client, made)
    (run,) = list_run_data()
    assert (run.run_id, run.name, run.dataset) == (made.info.run_id, "one", "mine")
    assert (run.is_deleted, run.model_ids, run.lock) == (False, (model.model_id,), b"")
    assert DATA.items() <= run.tags.items()


def test_deleted_runs_are_listed_groups_are_not(project: Path) -> None:
    client = open_store()
    deleted = make_run(client, **DATA)
    client.delete_run(deleted.info.run_id)
    make_run(client, kind="group")
    (run,) = list_run_data()
    assert (run.run_id, run.is_deleted) == (deleted.info.run_id, True)


def test_runs_with_the_same_data_share_one_lock(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_store()
    for _ in range(2):
        make_run(client, lock="same: 1", **DATA)
    make_run(client, lock="other: 1", **{**DATA, "data.tensors_md5": "c" * 32})
    for number in range(2):  # which say nothing of their data but in the lock
        make_run(client, lock=f"older: {number}")
    read, real = [], run_data._read_lock

    def count(*arguments: Any) -> bytes:
        read.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(run_data, "_read_lock", count)
    found = sorted(run.lock for run in list_run_data(with_locks=True))
    assert found == [b"older: 0", b"older: 1", b"other: 1", b"same: 1", b"same: 1"]
    assert len(read) == 4


def test_server_that_is_down_is_told_in_one_line(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="does not answer") as refusal:
        list_run_data()
    assert "secret" not in str(refusal.value)


def test_ruined_database_is_refused(project: Path) -> None:
    (project / "mlruns/mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="not an MLflow database"):
        list_run_data()
