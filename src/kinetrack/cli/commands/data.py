"""Commands on data: what it shows, whether it is whole, what it takes, what must go."""

from pathlib import Path
from typing import Annotated

import typer

from kinetrack.cli.app import DATA, app
from kinetrack.cli.completion import clip_names, dataset_names
from kinetrack.cli.options import AsJson
from kinetrack.cli.places import enter


@app.command(rich_help_panel=DATA)
def data(
    diff: Annotated[
        str | None, typer.Option(metavar="REV", help="Changes since a Git revision instead.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page of pictures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the data set's clips, lengths, sizes and problems; make a page of pictures."""
    root = enter()
    if diff is not None:
        from kinetrack.cli.changes import print_changes

        print_changes(root, diff, as_json=as_json)
    else:
        from kinetrack.cli.data import print_data

        print_data(root, open_page=open_page, as_json=as_json)


@app.command(rich_help_panel=DATA)
def verify(
    remote: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Read what this DVC remote has; its name, or: default."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every finding.")
    ] = False,
) -> None:
    """Read all that DVC tracks, here and in its cache, and name what is damaged, missing or extra.

    It changes nothing. Exit code 0: all is as recorded; 1: something was found, and the commands
    that restore it are printed; 2: bad input.
    """
    root = enter()
    if remote is not None:
        from kinetrack.cli.verify_remote import verify_remote

        raise typer.Exit(0 if verify_remote(root, remote, as_json=as_json) else 1)
    from kinetrack.cli.verify import verify

    raise typer.Exit(0 if verify(root, as_json=as_json) else 1)


@app.command(rich_help_panel=DATA)
def disk(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in bytes.")] = False,
) -> None:
    """Show what data takes, by data set, stage and version, and what only one of them has."""
    from kinetrack.cli.disk import print_disk

    print_disk(enter(), as_json=as_json)


@app.command(rich_help_panel=DATA)
def gc(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only tell.")] = False,
    derived: Annotated[
        bool,
        typer.Option("--derived", help="Also frames and tensors of runs: videos make them again."),
    ] = False,
    old_videos: Annotated[
        bool, typer.Option("--old-videos", help="Also videos that only older commits have.")
    ] = False,
    all_commits: Annotated[
        bool, typer.Option("--all-commits", help="Spare all data of older commits.")
    ] = False,
    shared_cache: Annotated[
        Path | None,
        typer.Option(help="Cache outside of the project that may be freed.", resolve_path=True),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every object.")] = False,
) -> None:
    """Free DVC's cache of what no branch, tag, experiment, run or registered model needs.

    The videos of all commits are spared too: nothing makes them again. Not while dvc repro runs.
    """
    from kinetrack.cli.gc import GcOptions, collect_garbage

    options = GcOptions(
        derived=derived, old_videos=old_videos, all_commits=all_commits, shared_cache=shared_cache
    )
    collect_garbage(enter(), options, yes=yes, as_json=as_json)


@app.command(rich_help_panel=DATA)
def forget(
    clips: Annotated[
        list[str],
        typer.Argument(help="<Class>/<clip>, or the clip alone.", autocompletion=clip_names),
    ],
    *,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Its data set; default: that of params.yaml.", autocompletion=dataset_names
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take them out of the present version.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything.")] = False,
) -> None:
    """Name all versions, caches, remotes, models and runs that have a clip, and how to erase it.

    Without --yes nothing is changed; with it, the present version only.
    """
    from kinetrack.cli.forget.report import forget

    forget(clips, dataset=dataset, root=enter(), yes=yes, as_json=as_json)
