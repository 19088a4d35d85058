import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from kinetrack.errors import InputError
from kinetrack.tracking.store import (
    ARTIFACT_ROOT,
    database_path,
    experiment_id,
    find_if_any,
    open_store,
    prepare_database,
    tracking_uri,
)


def test_own_database_is_in_mlruns(project: Path) -> None:
    assert tracking_uri() == f"sqlite:///{project}/mlruns/mlflow.db"


def test_environment_variable_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://team.example")
    assert tracking_uri() == "https://team.example"


def test_experiment_is_made_once_with_a_movable_location(project: Path) -> None:
    client = open_store()
    first = experiment_id(client, "sample")
    assert experiment_id(open_store(), "sample") == first
    assert client.get_experiment(first).artifact_location == ARTIFACT_ROOT


def test_named_store_chooses_its_own_location(
    project: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = shutil.copy(empty_database, tmp_path / "named.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{named}")
    client = open_store()
    location = client.get_experiment(experiment_id(client, "sample")).artifact_location
    assert not location.startswith("kinetrack:")


def test_deleted_experiment_is_told(project: Path) -> None:
    client = open_store()
    client.delete_experiment(experiment_id(client, "sample"))
    with pytest.raises(InputError, match="sample: this MLflow experiment is deleted"):
        experiment_id(client, "sample")


def test_what_the_store_does_not_have_is_none(project: Path) -> None:
    client = open_store()
    assert find_if_any(client.get_experiment, "0") is not None
    assert find_if_any(client.get_experiment, "77") is None
    assert find_if_any(client.get_run, "no id") is None


def test_trouble_of_the_store_is_not_taken_for_an_answer() -> None:
    def fail() -> None:
        raise MlflowException("out of order")

    with pytest.raises(MlflowException, match="out of order"):
        find_if_any(fail)


@pytest.mark.slow
def test_four_processes_may_start_on_a_missing_database(bare_project: Path) -> None:
    code = (
        "from kinetrack.tracking.store import *; client = open_store();"
        "client.create_run(experiment_id(client, 'sample'))"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [(one.communicate()[1], one.returncode) for one in starts] == [("", 0)] * 4
    client = open_store()
    assert len(client.search_runs([experiment_id(client, "sample")])) == 4


def test_empty_file_counts_as_missing(
    bare_project: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = database_path(bare_project)
    path.parent.mkdir()
    path.touch()
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        shutil.copy(empty_database, path)

    monkeypatch.setattr("kinetrack.tracking.store._make_database", make)
    prepare_database(path)
    assert made == [path]


@pytest.mark.parametrize("name", ["what?", "%41"])
def test_path_that_mlflow_would_misread_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot have \? or % in its path"):
        prepare_database(tmp_path / name / "mlflow.db")


def test_other_file_is_no_database(project: Path) -> None:
    database_path(project).write_text("something else " * 100)
    with pytest.raises(InputError, match=r"mlflow\.db: not an MLflow database.*move it away"):
        open_store()


def test_database_of_another_mlflow_is_told(project: Path) -> None:
    with closing(sqlite3.connect(database_path(project))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fff0'")
        connection.commit()
    with pytest.raises(InputError, match=r"another MLflow version made this.*found schema fff0"):
        open_store()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_told(bare_project: Path) -> None:
    bare_project.chmod(0o500)
    with pytest.raises(InputError, match="cannot be made"):
        open_store()


def test_missing_plugin_is_told_before_a_training(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetrack.tracking.store.entry_points", lambda **_: [])
    with pytest.raises(InputError, match="plugin is not installed -> make install"):
        open_store()
