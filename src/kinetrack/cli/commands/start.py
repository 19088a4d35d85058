"""Commands to start with: params, a data set, and whether all is as it should be."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from kinetrack.cli.app import START, app
from kinetrack.cli.completion import preset_names
from kinetrack.cli.options import AsJson, Dataset, DryRun
from kinetrack.cli.places import enter

LabelFolder = Literal["top", "parent"]
OnBroken = Literal["fail", "skip"]


@app.command(rich_help_panel=START)
def preset(
    name: Annotated[
        str,
        typer.Argument(help="A file of presets/, without its suffix.", autocompletion=preset_names),
    ],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an edited params.yaml too.")
    ] = False,
    keep_dataset: Annotated[
        bool,
        typer.Option("--keep-dataset", help="Keep the data set chosen now, and its group pattern."),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Put a preset in place of params.yaml."""
    from kinetrack.cli.presets import apply_preset

    told = apply_preset(name, root=enter(), force=force, keep_dataset=keep_dataset, dry_run=dry_run)
    typer.echo(told)


@app.command("import", rich_help_panel=START)
def import_(
    source: Annotated[
        str, typer.Argument(help="Folder, archive, http(s) address, manifest, or: ucf101.")
    ],
    *,
    name: Annotated[str, typer.Option(help="Name of the data set; default for ucf101.")] = "",
    local: Annotated[
        Path | None, typer.Option(help="ucf101: your copy, archive or folder.", resolve_path=True)
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV or JSON: path, label; optional clip, group, official, start_s, end_s.",
            resolve_path=True,
        ),
    ] = None,
    lists: Annotated[
        Path | None,
        typer.Option(help="Folder or zip of trainlist01.txt, testlist01.txt.", resolve_path=True),
    ] = None,
    label_from: Annotated[
        LabelFolder, typer.Option(help="Folder that is the label: the first or the innermost.")
    ] = "top",
    group_pattern: Annotated[
        str | None,
        typer.Option(help="Default: frames.group_pattern of params.yaml; ucf101 has its own."),
    ] = None,
    no_groups: Annotated[
        bool, typer.Option("--no-groups", help="Each clip its own group.")
    ] = False,
    on_broken: Annotated[
        OnBroken, typer.Option(help="At a video that cannot be opened: end, or leave it out.")
    ] = "fail",
    checksum: Annotated[str | None, typer.Option(help="sha256:... of the download.")] = None,
) -> None:
    """Bring in a collection of videos: checked, versioned by DVC, ready to choose."""
    from kinetrack.cli.importing import ImportOptions, choose_pattern, import_collection

    is_place = "://" not in source and source != "ucf101"
    place = str(Path(source).absolute()) if is_place else source
    root = enter()
    options = ImportOptions(
        name=name or ("" if is_place else source),
        local=local,
        manifest=manifest,
        lists=lists,
        label_from=label_from,
        group_pattern=choose_pattern(group_pattern, no_groups=no_groups, source=source),
        on_broken=on_broken,
        checksum=checksum,
    )
    import_collection(place, options, root=root)


@app.command(rich_help_panel=START)
def use(name: Dataset) -> None:
    """Choose the data set: sets dataset and frames.group_pattern in params.yaml."""
    from kinetrack.cli.presets import use_dataset

    typer.echo(use_dataset(name, root=enter()))


@app.command(rich_help_panel=START)
def check(as_json: AsJson = False) -> None:
    """Check params.yaml and the data set, before DVC touches anything."""
    from kinetrack.cli.check import check_project

    checked = check_project(enter())
    typer.echo(json.dumps(checked._asdict(), indent=2) if as_json else checked.describe())


@app.command(rich_help_panel=START)
def doctor(
    as_json: AsJson = False,
) -> None:
    """Look at the set-up: environment, Git, DVC, remotes, params, devices, disk, MLflow.

    It changes nothing. Exit code 0: nothing is broken; 1: what is broken is told with its remedy.
    """
    from kinetrack.cli.doctor.report import examine
    from kinetrack.tracking.artifacts import find_root

    raise typer.Exit(0 if examine(find_root(), as_json=as_json) else 1)
