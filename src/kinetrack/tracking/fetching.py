"""A model folder out of MLflow, as the start of another training."""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from kinetrack.errors import InputError
from kinetrack.files import atomic_folder
from kinetrack.tracking import outage
from kinetrack.tracking.model import find_served_model
from kinetrack.tracking.registry import none_registered
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import find_if_any, open_store, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# All that a model folder consists of.
_FILES = ("weights.safetensors", "trained_on.txt", "model.json")
# Where a logged model keeps the folder that it was made from.
_PLACE = "artifacts"
_RUN = re.compile(r"(?:run:|runs:/)(?P<run_id>[\w-]+)(?:/model)?")
# MLflow's names have neither / nor : and a quote would end the filter of a search.
_REGISTERED = re.compile(
    r"models:/(?P<name>[^/:'\"]+?)(?:@(?P<alias>[\w-]+)|/(?P<version>[0-9]{1,9}))"
)
_MOST_NAMED = 20


class _Logged(NamedTuple):
    """A model in MLflow."""

    run_id: str
    location: str  # address of its artifacts


def fetch_model(source: str, folder: Path) -> str:
    """Bring a model folder from MLflow to `folder`, which is replaced; return the id of its run.

    Only the files of a model folder are taken, by their names: nothing is unpickled, and the code
    that MLflow keeps beside them is not run. Whether weights and card belong together is seen
    when the model is loaded.

    Args:
        source: `run:<run id>` (or MLflow's `runs:/<run id>`), `models:/<name>@<alias>` or
            `models:/<name>/<version>`.

    Raises:
        InputError: no such run, model, alias or version; one without a whole model; a store that
            cannot be used or does not answer. `folder` is then as it was.
    """
    try:
        with quiet():
            logged = _find(source)
            _copy_files(logged, folder, source=source)
    except InputError:
        raise
    except Exception as error:  # whatever a store raises
        problem = f"cannot be fetched from MLflow at {outage.address()}"
        raise InputError(source, problem, found=outage.reason(error)) from error
    return logged.run_id


def _find(source: str) -> _Logged:
    if run := _RUN.fullmatch(source):
        return _find_by_run(open_store(), run["run_id"], source=source)
    if registered := _REGISTERED.fullmatch(source):
        client = open_store()
        version = _find_version(client, registered, source=source)
        return _find_by_version(client, version, source=source)
    forms = "run:<run id>, models:/<name>@<alias> or models:/<name>/<version>"
    raise InputError(source, "is not the address of a model in MLflow", expected=forms)


def _find_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """Return a run, None when the store has none of this id or it was deleted."""
    run = find_if_any(client.get_run, run_id)
    return run if run and run.info.lifecycle_stage == "active" else None


def _find_by_run(client: "MlflowClient", run_id: str, *, source: str) -> _Logged:
    run = _find_run(client, run_id)
    if run is None:
        remedy = "`kinetrack ui` shows the runs"
        raise InputError(source, f"no such run in MLflow at {outage.address()}", remedy=remedy)
    logged = find_served_model(client, run)
    if logged is None or logged.status != "READY":
        raise InputError(source, "this run has no model", found=f"status {run.info.status}")
    return _Logged(run_id, logged.artifact_location)


def _find_version(
    client: "MlflowClient", registered: re.Match[str], *, source: str
) -> "ModelVersion":
    model = _find_registered_model(client, registered["name"], source=source)
    number = registered["version"] or model.aliases.get(registered["alias"])
    if number is None:
        raise InputError(source, "no such alias", expected=_one_of(model.aliases))
    version = find_if_any(client.get_model_version, model.name, str(number))
    if version is None:
        versions = client.search_model_versions(f"name = '{model.name}'")
        known = (str(one.version) for one in versions)
        raise InputError(source, "no such version", expected=_one_of(known))
    return version


def _find_registered_model(client: "MlflowClient", name: str, *, source: str) -> "RegisteredModel":
    model = find_if_any(client.get_registered_model, name)
    if model is None:
        known = [one.name for one in client.search_registered_models()]
        if not known:
            raise none_registered(source)
        raise InputError(source, "no such registered model", expected=_one_of(known))
    return model


def _one_of(names: Iterable[str]) -> str | None:
    known = sorted(names, key=lambda name: (len(name), name))  # 2 comes before 10
    more = ["..."] if len(known) > _MOST_NAMED else []
    return f"one of {', '.join(known[:_MOST_NAMED] + more)}" if known else None


def _find_by_version(client: "MlflowClient", version: "ModelVersion", *, source: str) -> _Logged:
    location = client.get_model_version_download_uri(version.name, version.version)
    if run := _RUN.fullmatch(location):  # so it is when it was registered from its run
        return _find_by_run(client, run["run_id"], source=source)
    return _Logged(version.run_id or "", location)


def _copy_files(logged: _Logged, folder: Path, *, source: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    # Its methods have no types.
    repository: Any = get_artifact_repository(logged.location, tracking_uri=tracking_uri())
    place = _find_folder(repository, source=source)
    with (
        atomic_folder(folder) as made,
        # In it, so that files need only change their names.
        tempfile.TemporaryDirectory(dir=made) as scratch,
    ):
        for name in _FILES:
            fetched = Path(repository.download_artifacts(f"{place}/{name}", scratch))
            fetched.replace(made / name)


def _find_folder(repository: "ArtifactRepository", *, source: str) -> str:
    """Return where the model folder stands among the artifacts of a logged model."""
    # The last part of a name alone: a store that says `../..` does not lead us anywhere.
    names = [PurePosixPath(one.path).name for one in repository.list_artifacts(_PLACE)]
    if len(names) != 1 or names[0] == "..":
        raise InputError(source, "holds no model of Kinetrack", found=", ".join(names) or None)
    place = f"{_PLACE}/{names[0]}"
    listed = repository.list_artifacts(place)
    files = {PurePosixPath(one.path).name for one in listed if not one.is_dir}
    if missing := [name for name in _FILES if name not in files]:
        raise InputError(source, "lacks files of a model", found=f"no {', '.join(missing)}")
    return place
