import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.tracking.database import (
    StoreBusyError,
    database_path,
    prepare_database,
    require_writable,
)
from kinetrack.tracking.store import (
    open_store,
)


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

    monkeypatch.setattr("kinetrack.tracking.database._make_database", make)
    prepare_database(path)
    assert made == [path]


@pytest.mark.parametrize("name", ["what?", "%41"])
def test_path_that_mlflow_would_misread_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot have \? or % in its path"):
        prepare_database(tmp_path / name / "mlflow.db")


@contextlib.contextmanager
def locked(path: Path, how: str) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"BEGIN {how}")
        yield
        connection.execute("ROLLBACK")


def test_store_that_another_process_holds_is_busy(project: Path) -> None:
    with (
        locked(database_path(project), "EXCLUSIVE"),
        pytest.raises(StoreBusyError, match="is being written by another process -> try again"),
    ):
        open_store(timeout_s=0.05)
    open_store(timeout_s=0.05)


def test_store_that_another_process_writes_is_not_writable(project: Path) -> None:
    with locked(database_path(project), "IMMEDIATE"):
        open_store(timeout_s=0.05)  # reading is possible
        with pytest.raises(StoreBusyError, match="is being written by another process"):
            require_writable(database_path(project), timeout_s=0.05)
    require_writable(database_path(project), timeout_s=0.05)


def test_asking_whether_it_is_writable_leaves_it_free(project: Path) -> None:
    require_writable(database_path(project), timeout_s=0)
    with locked(database_path(project), "EXCLUSIVE"):
        pass


def test_missing_store_is_not_made_by_asking(bare_project: Path) -> None:
    (bare_project / "mlruns").mkdir()
    with pytest.raises(InputError, match="cannot be opened now"):
        require_writable(database_path(bare_project), timeout_s=0)
    assert not database_path(bare_project).exists()
