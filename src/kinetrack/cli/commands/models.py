"""Commands on models: choose one, take it elsewhere, ask it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from kinetrack.cli.app import MODELS, app
from kinetrack.cli.completion import run_names
from kinetrack.cli.options import AsJson, DryRun, Model, PresentRun
from kinetrack.cli.places import enter, enter_if_project, present_model

Videos = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, patterns ('a/*.mp4', 'a/**'), or -: a name a line on stdin."
    ),
]

Views = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        help="Windows over each video, averaged; default: 5 for a model with pack.sampling: random,"
        " else 1.",
    ),
]


@app.command(rich_help_panel=MODELS)
def promote(
    run: PresentRun = None,
    *,
    alias: Annotated[str, typer.Option(help="The alias to give, such as champion.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the registered model; default: the data set's.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What to compare by.")] = "test/accuracy",
    force: Annotated[
        bool, typer.Option("--force", help="Give the alias without a comparison.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Register a run's model in MLflow and give it an alias, if it beats the one that has it.

    Both must have been tested on the same clips; equal is not better.
    """
    from kinetrack.cli.registry import promote
    from kinetrack.cli.track import track_if_possible

    root = enter()
    if not dry_run:
        track_if_possible(root)
    told = promote(
        run, alias=alias, root=root, name=name, metric=metric, force=force, dry_run=dry_run
    )
    typer.echo(json.dumps(told.to_json(), indent=2) if as_json else told.describe())


@app.command(rich_help_panel=MODELS)
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all figures.")] = False,
) -> None:
    """List the registered models, their results, and whether MLflow and DVC have their bytes.

    Beside the accuracy is its 95 % interval, for clips of other groups.
    """
    from kinetrack.cli.models import print_models

    print_models(enter_if_project(), as_json=as_json)


@app.command("pull-model", rich_help_panel=MODELS)
def pull_model(
    model: Annotated[
        str, typer.Argument(help="NAME@ALIAS, NAME/VERSION, or a run.", autocompletion=run_names)
    ],
    into: Annotated[
        Path | None,
        typer.Option(help="Folder to make; default: one below models/.", resolve_path=True),
    ] = None,
) -> None:
    """Fetch a model, checked, with the params and dvc.lock that made it, into a folder.

    From MLflow, else from DVC's cache or remote. With MLFLOW_TRACKING_URI set, from anywhere.
    """
    from kinetrack.cli.pull_model import pull_model

    typer.echo(pull_model(model, root=enter_if_project(), into=into))


@app.command(rich_help_panel=MODELS)
def predict(
    videos: Videos,
    *,
    model: Model = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes of each video or step.")] = 3,
    views: Views = None,
    window: Annotated[
        float | None,
        typer.Option(help="Print a time line; length of the window that is looked at, in seconds."),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(help="Length of a step of the time line, in seconds; default: 1."),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Folder for copies of the videos, with the labels of the time line drawn in."
        ),
    ] = None,
    draw_as: Annotated[
        Literal["mp4", "gif"] | None,
        typer.Option("--as", help="Form of the copies: mp4 (default), or a small gif."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines, an object a video.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, a line a class of each video or step.")
    ] = False,
) -> None:
    """Tell what videos show, as a whole or, with --window, step by step.

    A step has the label of the window around its middle, which is judged as a clip of its own;
    steps in a row of one label are printed as one. Folders stand for all videos below them. A
    video that cannot be used is named, and the others are done. Videos are decoded on this machine:
    KINETRACK_DASK has no effect here.

    Exit code 0: every video has an answer; 1: some have; 2: none has, or bad input; 141: the
    output is no longer read.
    """
    from kinetrack.cli.predict.command import Walk, predict

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv are two forms: choose one")
    _require_with(window, {"--stride": stride, "--draw": draw}, "--window")
    _require_with(draw, {"--as": draw_as}, "--draw")
    if window is not None and (views or 1) > 1:
        raise typer.BadParameter("--window has one view of each step: leave --views out")
    form: Literal["text", "json", "csv"] = "json" if as_json else "csv" if as_csv else "text"
    stride = 1.0 if stride is None else stride
    walk = None if window is None else Walk(window, stride, draw, draw_as or "mp4")
    model = model or present_model()
    raise typer.Exit(predict(videos, model=model, top=top, views=views, form=form, walk=walk))


def _require_with(needed: object, options: Mapping[str, object], name: str) -> None:
    """Refuse options that have an effect together with another one only."""
    for option, value in options.items():
        if value is not None and needed is None:
            raise typer.BadParameter(f"{option} needs {name}")


@app.command(rich_help_panel=MODELS)
def export(
    out: Annotated[
        Path, typer.Argument(help="File to write: NAME.onnx (ONNX) or NAME.pt2 (torch.export).")
    ],
    model: Model = None,
) -> None:
    """Write a model for use without this project: bytes of clips in, probabilities out.

    Beside it a JSON says how clips are cut and which class each probability is of. An export that
    differs from the model is refused. ONNX needs the extra: export.
    """
    from kinetrack.using.exporting import export_model
    from kinetrack.using.loading import load

    recogniser = load(model or present_model())
    difference = export_model(out, recogniser.network, recogniser.card)
    typer.echo(f"{out}: probabilities differ from the model's by {difference:.1g} at most")


@app.command(rich_help_panel=MODELS)
def demo(
    model: Model = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Default: a free one.")
    ] = None,
) -> None:
    """Serve a page to try a model: drop a video, see its answer and where it looked.

    Its address is printed; it is for this machine only. Ctrl-C ends it. The limits of
    docs/serving.md hold.
    """
    from kinetrack.cli.demo import serve_demo

    serve_demo(model or present_model(), port=port)
