"""Bringing another tracking store into this one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kinetrack.errors import InputError
from kinetrack.tracking import outage
from kinetrack.tracking.foreign import Foreign, find_database, open_foreign
from kinetrack.tracking.importing_models import import_models, import_registered
from kinetrack.tracking.importing_runs import (
    Import,
    import_experiment,
    index_runs,
    link_parents,
)
from kinetrack.tracking.paging import all_pages
from kinetrack.tracking.settings import named_tracking_uri, quiet
from kinetrack.tracking.store import local_database, open_store

if TYPE_CHECKING:
    from mlflow.entities import Experiment


def import_store(source: str, *, tell: Callable[[str], None]) -> Import:
    """Copy experiments, runs, models and registered models that this store does not have.

    Args:
        source: a file store, a database of MLflow, a folder with one, or a server's address.
        tell: is given a line after each experiment.

    Raises:
        InputError: the source is no store, or is this store.
        Exception: whatever MLflow raises; the next import goes on from there.
    """
    _require_another(source)
    with quiet(), open_foreign(source) as foreign:
        experiments = _read_experiments(foreign, source)
        target = open_store()
        work = Import(foreign, target, index_runs(target))
        for experiment in experiments:
            tell(f"{experiment.name}: runs: {import_experiment(work, experiment)}")
        link_parents(work)
        import_models(work)
        import_registered(work)
        if foreign.num_unreadable:
            work.left_out.append(f"{foreign.num_unreadable} runs that MLflow cannot read")
        return work


def _require_another(source: str) -> None:
    named, own = named_tracking_uri(), local_database()
    database = None if "://" in source else find_database(Path(source))
    is_own_file = bool(own and database and database.resolve() == own.resolve())
    if is_own_file or (named and named.rstrip("/") == source.rstrip("/")):
        raise InputError(source, "is this project's own store", expected="another one")


def _read_experiments(foreign: Foreign, source: str) -> list["Experiment"]:
    """Ask the source for the first time.

    Raises:
        InputError: it does not answer.
    """
    try:
        return list(all_pages(foreign.client.search_experiments))
    except Exception as error:  # a name that is not known, a page that is not MLflow's
        found, address = outage.reason(error), outage.without_passwords(source)
        raise InputError(address, "no MLflow store answers there", found=found) from error
