"""Where runs go: the server that MLFLOW_TRACKING_URI names, else SQLite and files in `mlruns/`."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import ARTIFACT_ROOT, SCHEME, find_root
from kinetrack.tracking.schema import require_current_schema

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")

_CHATTY_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")
# The second one is for a name or an id that nothing could have.
_NO_SUCH_THING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# Ours unless the user set them: MLflow's own would block a training for minutes at every call.
_DEFAULT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# As MLflow waits for a database that another process writes.
_PATIENCE_S = 20


class StoreBusyError(InputError):
    """A database that another process does not let go of: it can be used later."""


class DeletedExperimentError(InputError):
    """An experiment that a person has deleted in MLflow."""


def database_path(root: Path) -> Path:
    """Return the project's own database; it need not exist."""
    return root / "mlruns" / "mlflow.db"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else the address of the project's own database."""
    return named_tracking_uri() or f"sqlite:///{database_path(find_root())}"


def named_tracking_uri() -> str | None:
    """Return MLFLOW_TRACKING_URI, None when it is unset or empty."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def local_database() -> Path | None:
    """Return the file of the tracking store, None when it is a server; it need not exist."""
    named = named_tracking_uri()
    if named is None:
        return database_path(find_root())
    if not named.startswith("sqlite"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(named).database
    except ArgumentError:
        expected = "sqlite:////absolute/path, or http(s)://server"
        raise InputError(
            "MLFLOW_TRACKING_URI", "is no address", found=named, expected=expected
        ) from None
    return Path(name).absolute() if name and name != ":memory:" else None


def open_store(*, timeout_s: float = _PATIENCE_S) -> "MlflowClient":
    """Return a client of the tracking store; the project's own database is made when missing.

    Args:
        timeout_s: how long a database is waited for that another process holds.

    Raises:
        StoreBusyError: another process holds the database.
        InputError: a store on this machine cannot be used.
    """
    apply_default_settings()
    if named_tracking_uri() is None:
        _require_plugin()
        prepare_database(database_path(find_root()), timeout_s=timeout_s)
    elif path := local_database():
        require_usable(path, timeout_s=timeout_s)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    try:
        with quiet():
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)  # connects
    except MlflowException as error:
        if urlsplit(uri).scheme in ("", "file", "sqlite"):
            raise _unusable_store(uri, error) from error
        raise
    return client


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, which is made when missing.

    Raises:
        InputError: the experiment was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = None if named_tracking_uri() else ARTIFACT_ROOT
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        remedy = "restore it in the MLflow UI or choose another name"
        raise DeletedExperimentError(name, "this MLflow experiment is deleted", remedy=remedy)
    return str(experiment.experiment_id)


def find_if_any(get: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what a question to the store gives, None when it has no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return get(*args, **kwargs)
    except MlflowException as error:
        if error.error_code in _NO_SUCH_THING:
            return None
        raise


def prepare_database(path: Path, *, timeout_s: float = _PATIENCE_S) -> None:
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


def apply_default_settings() -> None:
    """Set those of MLflow's variables that the user left open; call it before `import mlflow`."""
    for name, value in _DEFAULT_SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def http_limits(*, timeout_s: int, retries: int) -> Iterator[None]:
    """Within the block, wait so long for a server, and ask so often again.

    What the user set stays. MLflow reads these variables at every request.
    """
    apply_default_settings()
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
    }
    ours = {name for name in limits if os.environ[name] == _DEFAULT_SETTINGS[name]}
    try:
        os.environ.update({name: limits[name] for name in ours})
        yield
    finally:
        os.environ.update({name: _DEFAULT_SETTINGS[name] for name in ours})


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's log lines out of a stage's output, unless the user set MLFLOW_LOGGING_LEVEL."""
    apply_default_settings()
    import mlflow  # noqa: F401  sets levels, which are overridden here

    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    if os.environ.get("MLFLOW_LOGGING_LEVEL"):
        loggers = []
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _require_plugin() -> None:
    if not entry_points(group="mlflow.artifact_repository", name=SCHEME):
        raise InputError("kinetrack", "its MLflow plugin is not installed", remedy="make install")


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


def check_database(path: Path, *, timeout_s: float = _PATIENCE_S) -> str | None:
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


def require_usable(path: Path, *, timeout_s: float = _PATIENCE_S) -> None:
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


def _unusable_store(uri: str, error: Exception) -> InputError:
    return InputError(uri, "MLflow cannot use this store", found=str(error).splitlines()[0][:200])
