"""Where runs go: the server that MLFLOW_TRACKING_URI names, else SQLite and files in `mlruns/`."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import urlsplit

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import ARTIFACT_ROOT, SCHEME, find_root
from kinetrack.tracking.database import PATIENCE_S, database_path, prepare_database, require_usable
from kinetrack.tracking.settings import apply_default_settings, named_tracking_uri, quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")

# The second one is for a name or an id that nothing could have.
_NO_SUCH_THING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class DeletedExperimentError(InputError):
    """An experiment that a person has deleted in MLflow."""


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else the address of the project's own database."""
    return named_tracking_uri() or f"sqlite:///{database_path(find_root())}"


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


def open_store(*, timeout_s: float = PATIENCE_S) -> "MlflowClient":
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


def _require_plugin() -> None:
    if not entry_points(group="mlflow.artifact_repository", name=SCHEME):
        raise InputError("kinetrack", "its MLflow plugin is not installed", remedy="make install")


def _unusable_store(uri: str, error: Exception) -> InputError:
    return InputError(uri, "MLflow cannot use this store", found=str(error).splitlines()[0][:200])
