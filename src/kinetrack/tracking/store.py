"""Where runs go: the server that MLFLOW_TRACKING_URI names, else SQLite and files in `mlruns/`."""

import logging
import os
import re
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


def database_path(root: Path) -> Path:
    """Return the project's own database; it need not exist."""
    return root / "mlruns" / "mlflow.db"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else the address of the project's own database."""
    return named_tracking_uri() or f"sqlite:///{database_path(find_root())}"


def named_tracking_uri() -> str | None:
    """Return MLFLOW_TRACKING_URI, None when it is unset or empty."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def open_store() -> "MlflowClient":
    """Return a client of the tracking store; the project's own database is made when missing.

    Raises:
        InputError: a store on this machine cannot be used.
    """
    apply_default_settings()
    if named_tracking_uri() is None:
        _require_plugin()
        prepare_database(database_path(find_root()))
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
        raise InputError(name, "this MLflow experiment is deleted", remedy=remedy)
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


def prepare_database(path: Path) -> None:
    """Make the project's database when it is missing, refuse a file that is none.

    Raises:
        InputError: the file is not a database of MLflow, or the folder cannot be written.
    """
    if set("?%") & set(str(path)):  # SQLAlchemy and MLflow would read another path
        raise InputError(path, "MLflow's database cannot have ? or % in its path")
    try:
        if _is_missing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Four processes that start on a missing database would ruin it for ever.
            with FileLock(path.with_name(f"{path.name}.lock")):
                if _is_missing(path):
                    _make_database(path)
        check_database(path)
    except OSError as error:
        raise InputError(path, "cannot be made", found=error.strerror) from error


def apply_default_settings() -> None:
    """Set those of MLflow's variables that the user left open; call it before `import mlflow`."""
    for name, value in _DEFAULT_SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's log lines out of a stage's output, unless the user set MLFLOW_LOGGING_LEVEL."""
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


def _is_missing(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _make_database(path: Path) -> None:
    """Make the database under another name first: a killed process leaves no half of it."""
    import mlflow  # noqa: F401  sets its log levels, which `quiet` then overrides
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)
    with quiet():
        store: Any = SqlAlchemyStore  # untyped
        store(f"sqlite:///{temporary}", ARTIFACT_ROOT)._dispose_engine()
    temporary.replace(path)


def check_database(path: Path) -> None:
    """Refuse a file that is no database; MLflow itself would try again for minutes.

    A missing one is fine.

    Raises:
        InputError: the file is no database of MLflow, or cannot be opened now.
    """
    if _is_missing(path):
        return
    try:
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname != "SQLITE_NOTADB" and "no such table" not in str(error):
            remedy = "try again when nothing else uses it; it may be sound"
            raise InputError(path, "cannot be opened now", found=error, remedy=remedy) from error
        remedy = "move it away; the next training makes a new one"
        raise InputError(path, "not an MLflow database", found=error, remedy=remedy) from error


def _unusable_store(uri: str, error: Exception) -> InputError:
    revisions = re.search(r"found version (\w+), but expected (\w+)", str(error))
    if revisions is None:
        return InputError(uri, "MLflow cannot use this store", found=str(error).splitlines()[0])
    return InputError(
        uri,
        "another MLflow version made this database",
        found=f"schema {revisions[1]}",
        expected=f"schema {revisions[2]}",
        remedy=f"install that version, or back it up and run `mlflow db upgrade '{uri}'`",
    )
