import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import ARTIFACT_ROOT
from kinetrack.tracking.database import (
    database_path,
)
from kinetrack.tracking.store import (
    experiment_id,
    find_if_any,
    local_database,
    open_store,
    tracking_uri,
)

from old_stores import make_old_database


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


# For each project of its input: open the store there, whose database is missing, and make a run.
STARTING = """
import os, sys
import mlflow.store.tracking.sqlalchemy_store
from kinetrack.tracking.store import experiment_id, open_store

print("ready", flush=True)
for line in sys.stdin:
    os.chdir(line.strip())
    client = open_store()
    client.create_run(experiment_id(client, "sample"))
    print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("num_processes", "num_times"), [(4, 4), (8, 2)])
def test_c4_processes_may_start_at_once_on_a_missing_database(
    bare_project: Path, tmp_path: Path, num_processes: int, num_times: int
) -> None:
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", STARTING],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(num_processes)
        ]
        assert [one.stdout.readline() for one in processes] == ["ready\n"] * num_processes
        folders = [tmp_path / f"project {number}" for number in range(num_times)]
        for folder in folders:
            folder.mkdir()
            (folder / "dvc.yaml").touch()
            for one in processes:
                one.stdin.write(f"{folder}\n")
                one.stdin.flush()
            assert [one.stdout.readline() for one in processes] == ["done\n"] * num_processes
        assert [one.communicate() for one in processes] == [("", "")] * num_processes
        assert [one.returncode for one in processes] == [0] * num_processes
    for folder in folders:
        assert count_sound_runs(database_path(folder)) == num_processes
        assert not list(folder.glob("mlruns/.*"))


def count_sound_runs(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute("SELECT count(*) FROM runs").fetchone()[0]


def test_other_file_is_no_database(project: Path) -> None:
    database_path(project).write_text("something else " * 100)
    with pytest.raises(InputError, match=r"mlflow\.db: not an MLflow database.*move it away"):
        open_store()


@pytest.mark.parametrize("names", [{}, {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"}])
def test_database_of_a_newer_mlflow_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str]
) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(sqlite3.connect(database_path(project))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fff0'")
        connection.commit()
    with pytest.raises(InputError, match=r"mlflow\.db: a newer MLflow made this.*schema fff0"):
        open_store()


def test_old_database_is_not_touched(project: Path) -> None:
    """MLflow itself would upgrade it without a backup, since it lacks tables."""
    make_old_database(database_path(project))
    before = database_path(project).read_bytes()
    with pytest.raises(InputError, match=r"an older MLflow made this.*`kinetrack store upgrade`"):
        open_store()
    assert database_path(project).read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("https://team.example", None),
        ("postgresql://host/runs", None),
        ("sqlite:////abs/a b.db", "/abs/a b.db"),
        ("sqlite:////abs/a.db?timeout=3", "/abs/a.db"),
        ("sqlite+pysqlite:////abs/a.db", "/abs/a.db"),
        ("sqlite:///:memory:", None),
    ],
)
def test_file_of_the_store(uri: str, path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert local_database() == (Path(path) if path else None)


def test_file_of_the_own_store(project: Path) -> None:
    assert local_database() == project / "mlruns" / "mlflow.db"


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
