"""Bringing an old database to the tables of the installed MLflow.

A copy is upgraded and takes the name of the old one at the end, so whatever happens on the way,
the old one is as it was.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from kinetrack.errors import InputError
from kinetrack.tracking.database import (
    check_database,
    describe_trouble,
    lock_of,
    partial_of,
    remove_database,
)
from kinetrack.tracking.schema import installed_revision, migrations_folder, require_past_schema
from kinetrack.tracking.settings import quiet

_COUNTED = ("experiments", "runs")


class Upgraded(NamedTuple):
    """What was done to a database."""

    was: str
    now: str
    num_runs: int
    backup: Path


def upgrade_database(path: Path, *, timeout_s: float = 20) -> Upgraded | None:
    """Upgrade a database; a backup of the old one stays beside it, with its revision in the name.

    Returns:
        None when there is nothing to do.

    Raises:
        StoreBusyError: another process uses it.
        InputError: it is missing or no database of MLflow, a newer MLflow made it, or a migration
            fails. It then is as it was.
    """
    path = path.resolve()  # of a link, the file is replaced
    revision = check_database(path, timeout_s=timeout_s)
    if revision is None:
        raise InputError(path, "there is no database to upgrade")
    if revision == installed_revision():
        return None
    require_past_schema(path, revision)
    try:
        with (
            FileLock(lock_of(path)),
            _held(path, timeout_s=timeout_s),
            closing(sqlite3.connect(path)) as old,
        ):
            return _replace(path, old)
    except sqlite3.DatabaseError as error:
        raise describe_trouble(path, error) from error
    except OSError as error:
        raise InputError(path, "cannot be upgraded", found=error.strerror) from error


@contextmanager
def _held(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Keep others from writing a database; it can be read meanwhile."""
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as connection:
        # One file: `mlflow migrate-filestore` makes databases with a second one beside them.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN IMMEDIATE")
        yield


def _replace(path: Path, old: sqlite3.Connection) -> Upgraded | None:
    [revision] = old.execute("SELECT version_num FROM alembic_version").fetchone()
    if revision == installed_revision():
        return None  # another process was faster
    temporary = partial_of(path)
    backup = _free_name(path, revision)
    try:
        copy_database(old, temporary)
        temporary.replace(backup)
        copy_database(old, temporary)
        migrate(temporary)
        counts = _check(temporary, old)
        shutil.copymode(path, temporary)
        # Who still has the old one open cannot write it any more: SQLite sees that it has moved.
        temporary.replace(path)
    except Exception as error:  # whatever a migration raises
        problem = "cannot be upgraded; it is as it was"
        raise InputError(path, problem, found=str(error).splitlines()[0]) from error
    finally:
        remove_database(temporary)
    return Upgraded(revision, installed_revision(), counts["runs"], backup)


def _free_name(path: Path, revision: str) -> Path:
    """Give a name to a backup: no earlier one is overwritten."""
    first = path.with_name(f"{path.name}.{revision}.backup")
    others = (first.with_name(f"{first.name}-{number}") for number in range(2, 1_000_000))
    return first if not first.exists() else next(one for one in others if not one.exists())


def copy_database(database: sqlite3.Connection, target: Path) -> None:
    """Write what a database holds now to a file of its own, which is replaced."""
    remove_database(target)
    with closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def migrate(path: Path) -> None:
    """Bring a database to the tables of the installed MLflow, in place."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    engine = create_engine(f"sqlite:///{path}")
    try:
        with quiet(), engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "heads")
    finally:
        engine.dispose()


def _check(path: Path, old: sqlite3.Connection) -> dict[str, int]:
    """Return how much there is, if all is there and sound.

    Raises:
        ValueError: it is not.
    """
    with closing(sqlite3.connect(path)) as new:
        [state] = new.execute("PRAGMA integrity_check").fetchone()
        counts, expected = _count(new), _count(old)
    revision = check_database(path)
    if (state, revision, counts) != ("ok", installed_revision(), expected):
        raise ValueError(f"the migrations gave {state}, {revision}, {counts}, not {expected}")
    return counts


def _count(database: sqlite3.Connection) -> dict[str, int]:
    return {
        table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _COUNTED
    }
