"""Bringing logged models, registered models and their versions into this store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kinetrack.tracking.foreign import files_of
from kinetrack.tracking.importing_runs import (
    AT_TAG,
    FROM_TAG,
    LACKS_TAG,
    Import,
    is_imported,
    is_unfinished,
    now,
    origin,
)
from kinetrack.tracking.paging import MOST_METRICS_A_CALL, all_pages, chunks
from kinetrack.tracking.store import find_if_any

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_BY_ID = "models:/"  # the address of a logged model


def import_models(work: Import) -> None:
    """Copy the logged models of the experiments that were copied, and tie them to their runs."""
    if not work.places:
        return
    here: dict[str, LoggedModel] = {}
    for model in all_pages(work.target.search_logged_models, list(work.places.values())):
        here |= {model.model_id: model, origin(model.tags, model.model_id): model}
    for model in _models(work):
        known = here.get(origin(model.tags, model.model_id))
        run = work.runs.get(model.source_run_id or "")
        if known is None and run and not is_imported(run):
            continue  # its run was made here, or deleted: it has what it has
        work.models[model.model_id] = _import_or_find(work, model, known).model_id
    _link_models(work)


def _import_or_find(
    work: Import, model: "LoggedModel", known: "LoggedModel | None"
) -> "LoggedModel":
    if known is None or is_unfinished(known.tags):
        work.count("models", is_new=True)
        return _import_model(work, model, known)
    if LACKS_TAG in known.tags:
        _send_files(work, model, known)
    work.count("models", is_new=False)
    return known


def _models(work: Import) -> Iterator["LoggedModel"]:
    from mlflow.exceptions import MlflowException

    try:
        yield from all_pages(work.source.client.search_logged_models, list(work.places))
    except MlflowException as error:
        if error.error_code not in ("ENDPOINT_NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"):
            raise
        # A server of MLflow 2 has none.


def _import_model(work: Import, model: "LoggedModel", known: "LoggedModel | None") -> "LoggedModel":
    from mlflow.entities import LoggedModelStatus

    target, run = work.target, work.runs.get(model.source_run_id or "")
    new = known or target.create_logged_model(
        work.places[model.experiment_id],
        model.name,
        run.info.run_id if run else None,
        {**model.tags, FROM_TAG: origin(model.tags, model.model_id)},
        model.params,
        model.model_type,
    )
    for run_id, metrics in _metrics_by_run(work, model, new.model_id).items():
        for chunk in chunks(metrics, MOST_METRICS_A_CALL):
            target.log_batch(run_id, metrics=chunk)
    _send_files(work, model, new)
    if model.status != LoggedModelStatus.PENDING:
        target.finalize_logged_model(new.model_id, model.status)
    target.set_logged_model_tags(new.model_id, {AT_TAG: now()})
    return new


def _send_files(work: Import, model: "LoggedModel", new: "LoggedModel") -> None:
    with files_of(work.source, model.artifact_location, model.model_id) as folder:
        if folder is None:
            work.target.set_logged_model_tags(new.model_id, {LACKS_TAG: "files"})
            work.without_files.append(f"model {model.name} ({model.model_id})")
            return
        if any(folder.iterdir()):
            work.target.log_model_artifacts(new.model_id, str(folder))
    if LACKS_TAG in new.tags:
        work.target.delete_logged_model_tag(new.model_id, LACKS_TAG)


def _metrics_by_run(work: Import, model: "LoggedModel", new_id: str) -> dict[str, list["Metric"]]:
    """The metrics of a model, as they are logged: to the run that measured them."""
    from mlflow.entities import Metric

    found: dict[str, list[Metric]] = {}
    for one in model.metrics or []:
        if run := work.runs.get(one.run_id or ""):
            run_id = run.info.run_id
            metric = Metric(
                one.key,
                one.value,
                one.timestamp,
                one.step,
                model_id=new_id,
                dataset_name=one.dataset_name,
                dataset_digest=one.dataset_digest,
                run_id=run_id,
            )
            found.setdefault(run_id, []).append(metric)
    return found


def _link_models(work: Import) -> None:
    """Say of runs that were brought in which models they made and used."""
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    for run_id, new in work.runs.items():
        run = work.source.client.get_run(run_id)  # a search tells of no models that were used
        made = run.outputs.model_outputs if run.outputs else []
        used = run.inputs.model_inputs if run.inputs else []
        if not is_imported(new) or not (made or used):
            continue
        here = work.target.get_run(new.info.run_id)
        known = {one.model_id for one in (here.outputs.model_outputs if here.outputs else [])}
        known |= {one.model_id for one in (here.inputs.model_inputs if here.inputs else [])}
        ids = {one: x for one, x in work.models.items() if x not in known}
        outputs = [
            LoggedModelOutput(ids[one.model_id], one.step) for one in made if one.model_id in ids
        ]
        inputs = [LoggedModelInput(ids[one.model_id]) for one in used if one.model_id in ids]
        if outputs:
            work.target.log_outputs(new.info.run_id, outputs)
        if inputs:
            work.target.log_inputs(new.info.run_id, models=inputs)


def import_registered(work: Import) -> None:
    """Copy registered models, their versions and aliases; an alias that is here stays.

    Prompts, which MLflow keeps among them, are not found by these searches.
    """
    client = work.source.client
    versions: dict[str, list[ModelVersion]] = {}
    for version in all_pages(client.search_model_versions):
        versions.setdefault(version.name, []).append(version)
    # Those without a version are found by a search that a server of MLflow 2 does not understand.
    names = {model.name for model in all_pages(client.search_registered_models)}
    for name in sorted(names | versions.keys()):
        _import_model_of_name(work, client.get_registered_model(name), versions.get(name, []))


def _import_model_of_name(
    work: Import, model: "RegisteredModel", versions: "list[ModelVersion]"
) -> None:
    if find_if_any(work.target.get_registered_model, model.name) is None:
        work.target.create_registered_model(model.name, model.tags, model.description)
        work.count("registered models", is_new=True)
    quote = '"' if "'" in model.name else "'"
    search = work.target.search_model_versions
    here = list(all_pages(search, f"name={quote}{model.name}{quote}"))
    known = {name: str(one.version) for one in here for name in _names_of(one)}
    numbers: dict[str, str | None] = {}
    for version in sorted(versions, key=lambda one: int(one.version)):
        number = next((known[name] for name in _names_of(version) if name in known), None)
        if number:
            work.count("registered versions", is_new=False)
        numbers[str(version.version)] = number or _import_version(work, version)
    aliases = work.target.get_registered_model(model.name).aliases
    for alias, version in model.aliases.items():
        number = numbers.get(str(version))
        if number and alias not in aliases:
            work.target.set_registered_model_alias(model.name, alias, number)


def _names_of(version: "ModelVersion") -> list[str]:
    """What tells that two versions are one; the number alone does not."""
    made = f"{version.name}/{version.version} of {version.creation_timestamp}"
    return [made, version.tags[FROM_TAG]] if FROM_TAG in version.tags else [made]


def _import_version(work: Import, version: "ModelVersion") -> str | None:
    """Return the number that a version gets here, None when its model is not here."""
    source = _source_here(work, version)
    if source is None:
        work.left_out.append(f"{version.name} version {version.version}, whose model is not here")
        return None
    run = work.runs.get(version.run_id or "")
    with _named_in_environment(work.target.tracking_uri):
        new = work.target.create_model_version(
            version.name,
            source,
            run.info.run_id if run else None,
            {**version.tags, FROM_TAG: _names_of(version)[-1]},
            description=version.description,
            model_id=source.removeprefix(_BY_ID) if source.startswith(_BY_ID) else None,
        )
    work.count("registered versions", is_new=True)
    return str(new.version)


@contextmanager
def _named_in_environment(uri: str) -> Iterator[None]:
    """Name the store as MLflow's default, where its registry looks for models by their ids."""
    name = "MLFLOW_TRACKING_URI"
    before = os.environ.get(name)
    os.environ[name] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _source_here(work: Import, version: "ModelVersion") -> str | None:
    """Return the address that the files of a version have here."""
    parts = PurePosixPath(version.source or "").parts
    for model_id in (version.model_id, *parts):  # `models:/<id>`, or where its files are
        if model_id in work.models:
            return _BY_ID + work.models[model_id]
    run = work.runs.get(version.run_id or "")
    if run is None or version.run_id not in parts:
        return None
    below = parts[parts.index(version.run_id) + 1 :]
    below = below[1:] if below[:1] == ("artifacts",) else below
    if not below or ".." in below:
        return None
    return "/".join([run.info.artifact_uri, *below])
