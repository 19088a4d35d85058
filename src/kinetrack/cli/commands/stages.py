"""Commands that bring a stage and all before it up to date, and show what it made."""

from typing import Annotated

import typer

from kinetrack.cli.app import STAGES, app
from kinetrack.cli.options import Clip, DryRun
from kinetrack.cli.places import enter
from kinetrack.errors import EXIT_BAD_INPUT


def _bring_up_to_date(stage: str, *, dry_run: bool) -> None:
    from kinetrack.cli.check import check_project
    from kinetrack.versioning.commands import repro

    root = enter()
    check_project(root)
    # DVC ends in 255 whatever a stage said; its own line stands above.
    raise typer.Exit(EXIT_BAD_INPUT if repro(stage, root=root, dry_run=dry_run) else 0)


def _add_stage(name: str, description: str) -> None:
    def bring_up_to_date(dry_run: DryRun = False) -> None:
        _bring_up_to_date(name, dry_run=dry_run)

    app.command(name, rich_help_panel=STAGES, help=description)(bring_up_to_date)


# The same words as `desc` in dvc.yaml, held by a test: reading it here would slow every command.
_add_stage("sample", "Generate the built-in data set")
frames_app = typer.Typer(
    help="Decode every clip into JPEG frames, one archive a clip", invoke_without_command=True
)
app.add_typer(frames_app, name="frames", rich_help_panel=STAGES)
_add_stage("split", "Give every clip a side, whole groups together")
_add_stage("tensors", "Pack the window of every clip into one tensor")
_add_stage("train", "Train the network, every epoch logged to MLflow")
_add_stage("evaluate", "Judge the model on the test clips")


@frames_app.callback()
def frames(context: typer.Context, dry_run: DryRun = False) -> None:
    """Decode, unless a command below is asked for."""
    if context.invoked_subcommand is None:
        _bring_up_to_date("frames", dry_run=dry_run)


@frames_app.command("show")
def show_frames(
    clip: Clip,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only make the page.")] = False,
) -> None:
    """Make a page of one clip's frames and facts, and open it."""
    from kinetrack.cli.data import show_clip

    show_clip(enter(), clip, open_page=not no_open)
