"""The `kinetrack` command itself: its groups of commands, and what is asked of no command."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

START = "Start"
STAGES = "Stages: bring one and all before it up to date (`dvc repro` runs all)"
DATA = "Data: what it shows, whether it is whole, what room it takes"
RESULTS = "Results"
MODELS = "Models: choose one, and take it elsewhere"


_PANELS = (START, STAGES, DATA, RESULTS, MODELS)


class _OrderOfUse(TyperGroup):
    """Lists panels in the order of use, and `frames` in its place.

    Else the order would be that in which modules are imported, and typer puts commands with
    subcommands behind all others.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        names = sorted(super().list_commands(ctx), key=self._panel)
        names.remove("frames")
        place = names.index("sample") + 1
        return [*names[:place], "frames", *names[place:]]

    def _panel(self, name: str) -> int:
        return _PANELS.index(getattr(self.commands[name], "rich_help_panel", START))


app = typer.Typer(
    name="kinetrack",
    cls=_OrderOfUse,
    help="Folders of action videos into a trained, tracked, reproducible action recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print version and commit.")] = False,
) -> None:
    """Hold the options that belong to no command."""
    if version:
        from kinetrack.cli.version import describe_version

        typer.echo(describe_version())
        raise typer.Exit
