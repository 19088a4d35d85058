import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic import command

from kinetrack.errors import InputError
from kinetrack.tracking.database import StoreBusyError, check_database
from kinetrack.tracking.schema import installed_revision
from kinetrack.tracking.store import open_store
from kinetrack.tracking.upgrading import upgrade_database

from old_stores import OLD_REVISION, make_old_database

BACKUP = f"mlflow.db.{OLD_REVISION}.backup"


@pytest.fixture(scope="module")
def kept_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "mlflow.db"
    make_old_database(path)
    return path


@pytest.fixture
def database(bare_project: Path, kept_database: Path) -> Path:
    """The project's database, as an MLflow of years ago left it."""
    (bare_project / "mlruns").mkdir()
    return Path(shutil.copy(kept_database, bare_project / "mlruns"))


def contents(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as opened:
        return list(opened.iterdump())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.slow
def test_old_database_is_upgraded_with_its_runs(database: Path) -> None:
    before = contents(database)
    done = upgrade_database(database)
    assert done == (OLD_REVISION, installed_revision(), 1, database.with_name(BACKUP))
    client = open_store()
    (run,) = client.search_runs(["7"])
    assert (run.info.run_name, run.info.status, run.info.end_time) == (
        "swing",
        "FINISHED",
        1600000060000,
    )
    assert (run.data.params, run.data.tags["place"]) == ({"lr": "0.1"}, "course")
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 2.5), (2, 1.5)]
    client.create_logged_model("7", "net")
    assert names_in(database.parent) == ["mlflow.db", BACKUP]
    assert contents(database.with_name(BACKUP)) == before


@pytest.mark.slow
def test_database_in_two_files_is_upgraded(database: Path) -> None:
    """As `mlflow migrate-filestore` makes them; the second one holds what was written last."""
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("UPDATE runs SET name = 'late'")
        other.commit()
        shutil.copytree(database.parent, database.parent.parent / "copied")
    shutil.rmtree(database.parent)
    (database.parent.parent / "copied").rename(database.parent)
    assert len(names_in(database.parent)) == 3
    upgrade_database(database)
    assert names_in(database.parent) == ["mlflow.db", BACKUP]
    (run,) = open_store().search_runs(["7"])
    assert run.info.run_name == "late"


@pytest.mark.slow
def test_link_to_a_database_stays_a_link(database: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    database.rename(disk / "mlflow.db")
    database.symlink_to(disk / "mlflow.db")
    upgrade_database(database)
    assert database.is_symlink()
    assert check_database(disk / "mlflow.db") == installed_revision()


def test_database_that_is_up_to_date_is_left(project: Path) -> None:
    path = project / "mlruns/mlflow.db"
    before = path.read_bytes()
    assert upgrade_database(path) is None
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["mlflow.db"]


def test_database_of_a_newer_mlflow_is_told(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("UPDATE alembic_version SET version_num = 'fff0'")
        other.commit()
    with pytest.raises(InputError, match=r"a newer MLflow made this.*install the MLflow that made"):
        upgrade_database(database)


def test_missing_database_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no database to upgrade"):
        upgrade_database(tmp_path / "mlflow.db")


def test_database_that_is_written_now_is_told(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="is being written by another process"):
            upgrade_database(database, timeout_s=0.05)
    assert names_in(database.parent) == ["mlflow.db"]


@pytest.mark.parametrize("trouble", ["migration", "lost runs", "kill"])
def test_failed_upgrade_leaves_the_old_database(
    database: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def upgrade(config: object, _: str) -> None:
        connection = config.attributes["connection"]  # type: ignore[attr-defined]
        connection.exec_driver_sql("DELETE FROM runs")
        if trouble == "migration":
            raise ValueError("no such column")
        if trouble == "kill":
            raise KeyboardInterrupt
        connection.exec_driver_sql(
            f"UPDATE alembic_version SET version_num = '{installed_revision()}'"
        )

    before = database.read_bytes()
    monkeypatch.setattr(command, "upgrade", upgrade)
    told = "" if trouble == "kill" else "cannot be upgraded; it is as it was"
    with pytest.raises((InputError, KeyboardInterrupt), match=f"{told}$|{told}, found"):
        upgrade_database(database)
    assert database.read_bytes() == before
    assert names_in(database.parent) == ["mlflow.db", BACKUP]
    assert contents(database.with_name(BACKUP)) == contents(database)


def test_no_backup_is_overwritten(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database.with_name(BACKUP).write_text("precious")
    monkeypatch.setattr(command, "upgrade", lambda *_: None)
    with pytest.raises(InputError, match="cannot be upgraded"):  # the schema stays the old one
        upgrade_database(database)
    assert database.with_name(BACKUP).read_text() == "precious"
    assert names_in(database.parent) == ["mlflow.db", BACKUP, f"{BACKUP}-2"]


@pytest.mark.slow
def test_who_has_the_old_database_open_cannot_write_it_any_more(database: Path) -> None:
    """Else what it writes would be lost without a word."""
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("SELECT * FROM runs").fetchall()
        upgrade_database(database)
        with pytest.raises(sqlite3.OperationalError, match="readonly database"):
            other.execute("DELETE FROM runs")
