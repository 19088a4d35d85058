"""Commands on results: runs in MLflow, reports, comparisons, repetitions."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from kinetrack.cli.app import RESULTS, app
from kinetrack.cli.completion import run_names
from kinetrack.cli.options import AsJson, PresentRun, Run
from kinetrack.cli.places import enter, enter_if_project
from kinetrack.errors import InputError


@app.command(rich_help_panel=RESULTS)
def track(
    send_all: Annotated[
        bool, typer.Option("--all", help="Also trainings that were meant for another store.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring MLflow to what the files say: runs that it missed, test results, means of repetitions.

    Replays what an outage kept from it, and makes runs of committed results and of experiments
    that were pulled, where their model is in DVC's cache. A second time, nothing is left to do.
    """
    from kinetrack.cli.track import track

    told = track(enter(), of_other_stores=send_all)
    typer.echo(json.dumps(told._asdict(), indent=2) if as_json else told.describe())


@app.command(rich_help_panel=RESULTS)
def runs(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: full ids, params, metrics, tags.")
    ] = False,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this MLflow experiment only.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Not only the newest 20.")] = False,
) -> None:
    """List the trainings in MLflow, the newest first, and whether DVC still has their bytes.

    A commit with * had uncommitted changes. Data and model: yes, no, part of it, or ? where the run
    does not say which bytes they were.
    """
    from kinetrack.cli.runs import print_runs
    from kinetrack.cli.track import track_if_possible

    root = enter()
    track_if_possible(root)
    print_runs(root, as_json=as_json, experiment=experiment, show_all=show_all)


@app.command(rich_help_panel=RESULTS)
def summary(as_json: AsJson = False) -> None:
    """Say what was trained, how well, and what to do next."""
    from kinetrack.cli.summary import print_summary

    print_summary(enter(), as_json=as_json)


@app.command(rich_help_panel=RESULTS)
def report(
    run: PresentRun = None,
    *,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a page and a model card of a model, and add both to its run in MLflow.

    The page needs no network: figures with their intervals, curves, confusion, the surest errors
    with what the network looked at, the data, and what repeats it. For a run, it is made from what
    MLflow has of it; pictures need its packed clips here.
    """
    from kinetrack.cli.report.command import print_report
    from kinetrack.cli.track import track_if_possible

    root = enter()
    track_if_possible(root)
    print_report(root, run=run, open_page=open_page, as_json=as_json)


@app.command(rich_help_panel=RESULTS)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: runs as for reproduce, models:/NAME@ALIAS, or files of predictions"
            " (.csv). The others are compared with the first.",
            autocompletion=run_names,
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every class and clip.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Where the page goes; default: .kinetrack/pages/compare.html of the project.",
            resolve_path=True,
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
) -> None:
    """Compare results on the same test clips: how large the difference is, and how sure.

    Intervals are for clips of other groups. Clips that only one of the two gets right are listed,
    and shown on a page that needs no network.
    """
    from kinetrack.cli.compare.command import print_comparison
    from kinetrack.cli.compare.results import FILE_SUFFIX
    from kinetrack.cli.data import PAGES_FOLDER, open_browser
    from kinetrack.cli.track import track_if_possible

    # Files are named from here, and the rest is done in the project's folder.
    names = [str(Path(run).absolute()) if run.endswith(FILE_SUFFIX) else run for run in runs]
    needs_runs = not all(run.endswith(FILE_SUFFIX) for run in runs)
    if root := enter_if_project(needs_runs=needs_runs):
        if needs_runs:
            track_if_possible(root)
        page = page or PAGES_FOLDER / "compare.html"
    elif open_page and page is None:
        raise typer.BadParameter("--open needs --page outside of a project")
    print_comparison(names, as_json=as_json, page=page, root=root)
    if open_page and page:
        open_browser(page)


@app.command(rich_help_panel=RESULTS)
def reproduce(
    run: Run,
    into: Annotated[
        Path | None,
        typer.Option(help="Folder to make; default: beside the project.", resolve_path=True),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the clone of an equal run.")] = False,
) -> None:
    """Repeat a run's training in a clone, from its commit, changes, params and data; compare.

    The project stays as it is. This runs the code of the run. Exit code 0: equal, or within
    tolerance on another machine kind; 1: different; 2: it cannot be repeated.
    """
    from kinetrack.cli.reproduce import reproduce

    raise typer.Exit(0 if reproduce(run, root=enter(), into=into, keep=keep) else 1)


@app.command(rich_help_panel=RESULTS)
def ui(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Default: 5000, or a free one.")
    ] = None,
) -> None:
    """Serve the MLflow UI on this project's runs, and print its address; Ctrl-C ends it."""
    from kinetrack.cli.track import track_if_possible
    from kinetrack.tracking.ui import serve_ui

    root = enter()
    track_if_possible(root)
    _require_run()
    raise typer.Exit(serve_ui(port=port, experiment=_present_experiment(root)))


def _require_run() -> None:
    """Refuse an empty database: tracking has made it, and its pages would show nothing."""
    from kinetrack.tracking.listing import list_runs
    from kinetrack.tracking.store import local_database

    database = local_database()
    if database and not list_runs(most=1).entries:
        raise InputError(database, "there is no run yet", remedy="make repro")


def _present_experiment(root: Path) -> str:
    """Where a training would log now; empty where params.yaml cannot say: runs can be seen."""
    from kinetrack.params import PARAMS_FILE, load_params

    if named := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return named
    try:
        return str(load_params(root / PARAMS_FILE)["dataset"])
    except InputError:
        return ""
