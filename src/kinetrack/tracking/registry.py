"""Models that MLflow has under a name: their versions, and the aliases that name one of them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kinetrack.errors import InputError, printable
from kinetrack.tracking.model import find_served_model
from kinetrack.tracking.outage import address, ask_store
from kinetrack.tracking.paging import all_pages
from kinetrack.tracking.records import NoSuchRunError, RunRecord, find_record
from kinetrack.tracking.store import find_if_any, local_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

T = TypeVar("T")

# Bytes: together they are the name of a folder, with room for that of its lock.
_LONGEST_NAME = 150
_LONGEST_ALIAS = 80
_LONGEST_DESCRIPTION = 5000
_MOST_NAMED = 20
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
# MLflow keeps them for itself: `v3` would be taken for version 3.
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
# By it the page of a logged model shows where it is registered.
_REGISTERED_TAG = "mlflow.modelVersions"
_WEIGHTS = "weights.safetensors"


class ModelVersion(NamedTuple):
    """A version of a registered model; what it does not say is empty."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    model_id: str
    """Of the logged model that it is."""
    created_ms: int
    tags: dict[str, str]

    @property
    def address(self) -> str:
        """As MLflow and `train.init_from` take it."""
        return f"models:/{self.name}/{self.version}"

    def __str__(self) -> str:
        return printable(f"{self.name} version {self.version}")


def require_name(name: str) -> None:
    """Refuse what cannot be the name of a registered model.

    Raises:
        InputError: empty, too long, or with characters that an address or a folder cannot have.
    """
    # A quote would end a filter of MLflow's.
    is_path = set("/:@'\"") & set(name) or name.startswith(".")
    if is_path or not name.strip() or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        expected = f"1 to {_LONGEST_NAME} bytes without / : @ ' \", and no dot at the start"
        problem = "cannot be the name of a registered model"
        remedy = "choose one with --name"
        raise InputError(name or "no name", problem, expected=expected, remedy=remedy)


def require_alias(alias: str) -> None:
    """Refuse what MLflow takes for no alias.

    Raises:
        InputError: empty, too long, with other characters, or a reserved one.
    """
    is_reserved = _RESERVED_ALIAS.fullmatch(alias)
    if is_reserved or not _ALIAS.fullmatch(alias) or len(alias) > _LONGEST_ALIAS:
        expected = f"1 to {_LONGEST_ALIAS} of A-Z a-z 0-9 _ -, but not latest, v1, v2 ..."
        raise InputError(alias, "cannot be an alias", expected=expected)


def list_model_versions() -> list[ModelVersion]:
    """List the versions of all registered models by name and number; none where nothing is.

    Raises:
        InputError: the store cannot be used, or does not answer.
    """
    database = local_database()
    if database and not database.exists():  # asking would make it
        return []
    return ask_store(_list, about="the registered models")


def find_run_or_hint(name: str) -> RunRecord:
    """Find a run as `find_record` does; where a registered model has the name, say how to name it.

    Raises:
        InputError: there is no such run, or more than one; the store does not answer.
    """
    try:
        return find_record(name)
    except NoSuchRunError as error:
        versions = [version for version in list_model_versions() if version.name == name]
        if not versions:
            raise
        newest = max(versions, key=lambda version: (bool(version.aliases), version.version))
        told = f"models:/{name}@{newest.aliases[0]}" if newest.aliases else newest.address
        remedy = f"a registered model has this name: {told}"
        raise InputError(error.path, error.problem, remedy=remedy) from None


def find_model_version(name: str, alias_or_number: str | int) -> ModelVersion:
    """Find a version by its alias or its number.

    Raises:
        InputError: there is none, or the store cannot be used or does not answer.
    """
    require_name(name)
    versions = list_model_versions()
    of_name = [version for version in versions if version.name == name]
    for version in of_name:
        if alias_or_number in (version.version, *version.aliases):
            return version
    if not versions:
        raise none_registered(name)
    if not of_name:
        names = sorted({version.name for version in versions})
        raise _no_such("no such registered model", name, names)
    known = [str(x) for version in of_name for x in (version.version, *version.aliases)]
    raise _no_such(f"has no version {alias_or_number}", name, known)


def _no_such(problem: str, name: str, known: Sequence[str]) -> InputError:
    more = ["..."] if len(known) > _MOST_NAMED else []
    expected = f"one of {', '.join([*known[:_MOST_NAMED], *more])}"
    return InputError(name, problem, expected=expected, remedy="`kinetrack models` lists them")


def none_registered(name: str) -> InputError:
    """Return what to raise about a registered model where the store has none at all."""
    remedy = (
        "a champion is shared by an MLflow server only (docs/sharing.md); `dvc pull train` brings"
        " the model of this commit, and `kinetrack promote` registers one"
    )
    return InputError(name, f"no model is registered in MLflow at {address()}", remedy=remedy)


def register_model(
    run_id: str, name: str, *, tags: Mapping[str, str], description: str
) -> ModelVersion:
    """Make the model of a run a version of the registered model `name`, which is made when missing.

    A model that is a version of it already stays that one, and gets the tags that it lacks. A
    second call completes what an interrupted one has begun.

    Args:
        description: Markdown; cut where no database would hold it.

    Raises:
        InputError: the run has no whole model, or the store does not take it.
    """

    def register(client: "MlflowClient") -> ModelVersion:
        logged = _find_logged(client, run_id)
        _make_registered_model(client, name)
        known = _find_known(client, name, logged.model_id)
        if known:
            _complete(client, known, tags)
        else:
            client.create_model_version(
                name,
                # Not `models:/<id>`: a local registry would look that up in another store.
                logged.artifact_location,
                run_id,
                dict(tags),
                description=description[:_LONGEST_DESCRIPTION],
                model_id=logged.model_id,
            )
            known = _find_known(client, name, logged.model_id)
            assert known
        _tell_logged_model(client, logged.model_id, known)
        return known

    return ask_store(register, about=f"model {name}")


def set_alias(version: ModelVersion, alias: str) -> None:
    """Give a version an alias, which another version loses.

    Raises:
        InputError: the store does not take it.
    """

    def give(client: "MlflowClient") -> None:
        client.set_registered_model_alias(version.name, alias, str(version.version))

    ask_store(give, about=f"alias {alias} of {version}")


def look_for_files(versions: Sequence[ModelVersion]) -> list[bool | None]:
    """Whether MLflow still has the weights of each version; they are looked for, not read.

    Returns:
        None for a version that is no logged model, or whose place cannot be looked into.

    Raises:
        InputError: the store cannot be used.
    """
    about = "the files of the registered models"
    return ask_store(lambda client: [_look(client, one.model_id) for one in versions], about=about)


def _list(client: "MlflowClient") -> list[ModelVersion]:
    # A search for versions does not tell their aliases.
    aliases: dict[tuple[str, int], list[str]] = {}
    for model in all_pages(client.search_registered_models):
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, int(number)), []).append(alias)
    found = (_read(one, aliases) for one in all_pages(client.search_model_versions))
    return sorted(found, key=lambda one: (one.name, one.version))


def _read(version: "MlflowVersion", aliases: Mapping[tuple[str, int], list[str]]) -> ModelVersion:
    number = int(version.version)
    # The database keeps no id of the model, only where its files are.
    model_id = _MODEL_ID.search(version.source or "")
    return ModelVersion(
        name=version.name,
        version=number,
        aliases=tuple(sorted(aliases.get((version.name, number), ()))),
        run_id=version.run_id or "",
        model_id=model_id[0] if model_id else "",
        created_ms=int(version.creation_timestamp or 0),
        tags={key: str(value) for key, value in version.tags.items()},
    )


def _find_logged(client: "MlflowClient", run_id: str) -> "LoggedModel":
    logged = find_served_model(client, client.get_run(run_id))
    if logged is None or logged.status != "READY":
        raise InputError(f"run {run_id}", "has no whole model in MLflow", remedy="kinetrack track")
    return logged


def _make_registered_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    if find_if_any(client.get_registered_model, name) is None:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise


def _find_known(client: "MlflowClient", name: str, model_id: str) -> ModelVersion | None:
    """Return the first version of a name that is a certain logged model."""
    return next((x for x in _list(client) if (x.name, x.model_id) == (name, model_id)), None)


def _complete(client: "MlflowClient", known: ModelVersion, tags: Mapping[str, str]) -> None:
    """Bring the tags up to date; the description may be a person's by now."""
    for key, value in tags.items():
        if known.tags.get(key) != value:
            client.set_model_version_tag(known.name, str(known.version), key, value)


def _tell_logged_model(client: "MlflowClient", model_id: str, version: ModelVersion) -> None:
    """Note on a logged model where it is registered, as MLflow's server does by itself."""
    try:
        noted = json.loads(client.get_logged_model(model_id).tags.get(_REGISTERED_TAG, "[]"))
    except ValueError:
        noted = []
    numbers = [(one["name"], str(one["version"])) for one in noted]
    if (version.name, str(version.version)) not in numbers:
        noted.append({"name": version.name, "version": version.version})
        client.set_logged_model_tags(model_id, {_REGISTERED_TAG: json.dumps(noted)})


def _look(client: "MlflowClient", model_id: str) -> bool | None:
    if not model_id:
        return None
    place, names = "artifacts", set[str]()
    try:
        for _ in range(2):  # the model folder, and what is in it
            listed = find_if_any(client.list_logged_model_artifacts, model_id, place) or []
            names = {PurePosixPath(one.path).name for one in listed}
            place = f"{place}/{next(iter(names), '')}"
    except Exception:  # of one store of files; others may answer
        return None
    return _WEIGHTS in names
