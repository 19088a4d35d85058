"""The `kinetrack` command: everything for people, in the order of use."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kinetrack.errors import EXIT_BAD_INPUT, InputError

START = "Start"
STAGES = "Stages: bring one and all before it up to date (`dvc repro` runs all)"
RESULTS = "Results"

app = typer.Typer(
    name="kinetrack",
    help="Folders of action videos into a trained, tracked, reproducible action recogniser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Hold the options that belong to no command."""
    if version:
        from importlib.metadata import version as installed_version

        typer.echo(installed_version("kinetrack"))
        raise typer.Exit


@app.command(rich_help_panel=START)
def preset(
    name: Annotated[str, typer.Argument(help="A file of presets/, without its suffix.")],
    force: Annotated[bool, typer.Option(help="Replace an edited params.yaml too.")] = False,
    keep_dataset: Annotated[bool, typer.Option(help="Keep the data set chosen now.")] = False,
) -> None:
    """Put a preset in place of params.yaml."""
    from kinetrack.cli.presets import apply_preset

    typer.echo(apply_preset(name, root=_enter(), force=force, keep_dataset=keep_dataset))


@app.command(rich_help_panel=START)
def check() -> None:
    """Check params.yaml and the data set, before DVC touches anything."""
    from kinetrack.cli.check import check_project

    typer.echo(check_project(_enter()))


def _add_stage(name: str, description: str) -> None:
    def bring_up_to_date() -> None:
        from kinetrack.cli.check import check_project
        from kinetrack.versioning.commands import repro

        root = _enter()
        check_project(root)
        # DVC ends in 255 whatever a stage said; its own line stands above.
        raise typer.Exit(EXIT_BAD_INPUT if repro(name, root=root) else 0)

    app.command(name, rich_help_panel=STAGES, help=description)(bring_up_to_date)


# The same words as `desc` in dvc.yaml, held by a test: reading it here would slow every command.
_add_stage("sample", "Generate the built-in data set")
_add_stage("frames", "Decode every clip into JPEG frames, one archive a clip")
_add_stage("split", "Give every clip a side, whole groups together")
_add_stage("tensors", "Pack the window of every clip into one tensor")
_add_stage("train", "Train the network, every epoch logged to MLflow")
_add_stage("evaluate", "Judge the model on the test clips")


@app.command(rich_help_panel=RESULTS)
def track() -> None:
    """Add the last test result to every MLflow run of its model."""
    from kinetrack.cli.track import track

    typer.echo(track(_enter()))


@app.command(rich_help_panel=RESULTS)
def summary() -> None:
    """Say what was trained, how well, and what to do next."""
    from kinetrack.cli.summary import print_summary

    print_summary(_enter())


@app.command(rich_help_panel=RESULTS)
def ui(
    port: Annotated[int | None, typer.Option(help="Default: 5000, or a free one.")] = None,
) -> None:
    """Open the MLflow UI on this project's runs; Ctrl-C ends it."""
    from kinetrack.tracking.ui import serve_ui

    _enter()
    raise typer.Exit(serve_ui(port=port))


def _enter() -> Path:
    """Go to the project's folder, from anywhere below it."""
    from kinetrack.tracking.artifacts import find_root

    root = find_root()
    os.chdir(root)
    return root


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
