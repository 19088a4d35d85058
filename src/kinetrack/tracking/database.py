"""MLflow's database in a file of SQLite: made whole, and refused where it is none."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import ARTIFACT_ROOT
from kinetrack.tracking.schema import require_current_schema
from kinetrack.tracking.settings import quiet

# As MLflow waits for a database that another process writes.
PATIENCE_S = 20


class StoreBusyError(InputError):
    """A database that another process does not let go of: it can be used later."""


def database_path(root: Path) -> Path:
    """Return the project's own database; it need not exist."""
    return root / "mlruns" / "mlflow.db"


def prepare_database(path: Path, *, timeout_s: float = PATIENCE_S) -> None:
    """Make the project's database when it is missing, refuse a file that is none.

    Raises:
        StoreBusyError: another process holds the database.
        InputError: the file is not a database of this MLflow, or the folder cannot be written.
    """
    if set("?%") & set(str(path)):  # SQLAlchemy and MLflow would read another path
        raise InputError(path, "MLflow's database cannot have ? or % in its path")
    try:
        if _is_missing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Four processes that start on a missing database would ruin it for ever.
            with FileLock(lock_of(path)):
                if _is_missing(path):
                    _make_database(path)
        require_usable(path, timeout_s=timeout_s)
    except OSError as error:
        raise InputError(path, "cannot be made", found=error.strerror) from error


def lock_of(path: Path) -> Path:
    """Return the file whose lock a process holds that makes or replaces a database."""
    return path.with_name(f"{path.name}.lock")


def partial_of(path: Path) -> Path:
    """Return the name of a database that is not yet whole; its lock is held meanwhile."""
    return path.with_name(f".{path.name}.partial")


def remove_database(path: Path) -> None:
    """Remove a database if it exists, with what a killed process has left beside it."""
    for name in (path.name, f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)


def _is_missing(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _make_database(path: Path) -> None:
    """Make the database under another name first: a killed process leaves no half of it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = partial_of(path)
    remove_database(temporary)
    with quiet():
        store: Any = SqlAlchemyStore  # untyped
        store(f"sqlite:///{temporary}", ARTIFACT_ROOT)._dispose_engine()
    temporary.replace(path)


def check_database(path: Path, *, timeout_s: float = PATIENCE_S) -> str | None:
    """Refuse a file that is no database; MLflow itself would try again for minutes.

    Returns:
        The revision of its tables, None when it is missing.

    Raises:
        StoreBusyError: another process holds it.
        InputError: the file is no database of MLflow, or cannot be opened now.
    """
    if _is_missing(path):
        return None
    try:
        with closing(sqlite3.connect(path, timeout=timeout_s)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise describe_trouble(path, error) from error
    if row is None:
        raise _no_database(path, "no schema revision")
    return str(row[0])


def require_usable(path: Path, *, timeout_s: float = PATIENCE_S) -> None:
    """Refuse a file that is no database of the installed MLflow; a missing one is fine.

    Raises:
        StoreBusyError: another process holds it.
        InputError: it is no database, or that of another MLflow.
    """
    if revision := check_database(path, timeout_s=timeout_s):
        require_current_schema(path, revision)


def require_writable(path: Path, *, timeout_s: float) -> None:
    """Refuse a database that another process writes all the time.

    Every call of MLflow on it would wait for 20 s.

    Raises:
        StoreBusyError: another process holds it.
        InputError: it is missing, no database, or cannot be written.
    """
    address = f"{path.absolute().as_uri()}?mode=rw"  # never makes one
    try:
        with closing(
            sqlite3.connect(address, uri=True, timeout=timeout_s, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        raise describe_trouble(path, error) from error


def describe_trouble(path: Path, error: sqlite3.DatabaseError) -> InputError:
    """Say what a person can do about a database that SQLite cannot use."""
    if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        remedy = "try again when nothing else writes it"
        return StoreBusyError(path, "is being written by another process", remedy=remedy)
    if error.sqlite_errorname == "SQLITE_NOTADB" or "no such table" in str(error):
        return _no_database(path, error)
    remedy = "try again when nothing else uses it; it may be sound"
    return InputError(path, "cannot be opened now", found=error, remedy=remedy)


def _no_database(path: Path, found: object) -> InputError:
    remedy = "move it away; the next training makes a new one"
    return InputError(path, "not an MLflow database", found=found, remedy=remedy)


def newest_run_ids(path: Path, *, most: int) -> list[str]:
    """Return the ids of the newest runs that are not deleted; quick, and none of a missing file.

    Raises:
        sqlite3.Error: it is no database of MLflow, or another process holds it.
    """
    if _is_missing(path):
        return []
    chosen = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as connection:
        rows = connection.execute(f"{chosen} ORDER BY start_time DESC LIMIT ?", (most,))
        return [str(run_id) for (run_id,) in rows]
