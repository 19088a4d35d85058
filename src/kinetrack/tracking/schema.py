"""Whether a database has the tables of the installed MLflow.

To be asked before MLflow opens it: as soon as an old one lacks a table, MLflow upgrades it in
place, without a backup.
"""

import functools
from importlib.util import find_spec
from pathlib import Path

from kinetrack.errors import InputError


def require_current_schema(path: Path, revision: str) -> None:
    """Refuse a database that an older or a newer MLflow made.

    Raises:
        InputError: this revision is not that of the installed MLflow.
    """
    if revision == installed_revision():
        return
    require_past_schema(path, revision)
    raise InputError(
        path,
        "an older MLflow made this database",
        found=f"schema {revision}",
        expected=f"schema {installed_revision()}",
        remedy="`kinetrack store upgrade` backs it up and upgrades it",
    )


def require_past_schema(path: Path, revision: str) -> None:
    """Refuse a database that the installed MLflow cannot upgrade.

    Raises:
        InputError: a newer MLflow made it.
    """
    from mlflow import __version__

    if revision not in _known_revisions():
        raise InputError(
            path,
            "a newer MLflow made this database",
            found=f"schema {revision}",
            expected=f"that of MLflow {__version__} or before",
            remedy="install the MLflow that made it",
        )


def installed_revision() -> str:
    """Return the revision of the tables that the installed MLflow works with."""
    return _known_revisions()[0]


def migrations_folder() -> Path:
    """Return the folder with the migrations of the installed MLflow, as alembic reads them."""
    spec = find_spec("mlflow")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "store" / "db_migrations"


@functools.cache
def _known_revisions() -> tuple[str, ...]:
    """All revisions, the newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(migrations_folder())
    return tuple(script.revision for script in scripts.walk_revisions())
