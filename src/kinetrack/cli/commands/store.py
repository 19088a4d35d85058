"""Commands on the store of the runs."""

from pathlib import Path
from typing import Annotated

import typer

from kinetrack.cli.app import RESULTS, app
from kinetrack.cli.places import enter

store_app = typer.Typer(help="Upgrade the runs' database, or bring in the runs of another one.")
app.add_typer(store_app, name="store", rich_help_panel=RESULTS)


@store_app.command("upgrade")
def upgrade_store() -> None:
    """Upgrade a database that an older MLflow made; a backup stays beside it."""
    from kinetrack.cli.store import upgrade_store

    enter()
    typer.echo(upgrade_store())


@store_app.command("import")
def import_store(
    source: Annotated[
        str, typer.Argument(help="Folder (mlruns), database (mlflow.db) or http(s) address.")
    ],
) -> None:
    """Bring in the runs, models and registered models of another MLflow store.

    A second import adds nothing; one after an interruption goes on.

    Exit code 0: all is here; 1: something could not be read, and is named; 2: bad input.
    """
    from kinetrack.cli.store import import_into_store

    place = source if "://" in source else str(Path(source).absolute())
    raise typer.Exit(0 if import_into_store(place, root=enter()) else 1)
