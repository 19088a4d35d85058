"""The `kinetrack` command: everything for people, in the order of use."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from kinetrack.errors import EXIT_BAD_INPUT, InputError

START = "Start"
STAGES = "Stages: bring one and all before it up to date (`dvc repro` runs all)"
DATA = "Data: see what the frames show"
RESULTS = "Results"
MODELS = "Models: choose one, and take it elsewhere"

LabelFolder = Literal["top", "parent"]
OnBroken = Literal["fail", "skip"]


class _OrderOfUse(TyperGroup):
    """Lists `frames` in its place: typer puts commands with subcommands behind all others."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = [name for name in super().list_commands(ctx) if name != "frames"]
        place = names.index("sample") + 1
        return [*names[:place], "frames", *names[place:]]


app = typer.Typer(
    name="kinetrack",
    cls=_OrderOfUse,
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
        str | None, typer.Option(help="Default: frames.group_pattern of params.yaml.")
    ] = None,
    no_groups: Annotated[
        bool, typer.Option("--no-groups", help="Each clip its own group.")
    ] = False,
    on_broken: Annotated[
        OnBroken, typer.Option(help="Videos that cannot be opened: end, or leave them out.")
    ] = "fail",
    checksum: Annotated[str | None, typer.Option(help="sha256:... of the download.")] = None,
) -> None:
    """Bring a collection of videos in: checked, versioned by DVC, ready to choose."""
    from kinetrack.cli.importing import ImportOptions, choose_pattern, import_collection

    is_place = "://" not in source and source != "ucf101"
    place = str(Path(source).absolute()) if is_place else source
    root = _enter()
    options = ImportOptions(
        name=name or ("" if is_place else source),
        local=local,
        manifest=manifest,
        lists=lists,
        label_from=label_from,
        group_pattern=choose_pattern(group_pattern, no_groups=no_groups),
        on_broken=on_broken,
        checksum=checksum,
    )
    import_collection(place, options, root=root)


@app.command(rich_help_panel=START)
def use(name: Annotated[str, typer.Argument(help="A folder of data/videos/.")]) -> None:
    """Choose the data set: sets dataset in params.yaml."""
    from kinetrack.cli.presets import use_dataset

    typer.echo(use_dataset(name, root=_enter()))


@app.command(rich_help_panel=START)
def check() -> None:
    """Check params.yaml and the data set, before DVC touches anything."""
    from kinetrack.cli.check import check_project

    typer.echo(check_project(_enter()))


@app.command(rich_help_panel=START)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at the set-up: environment, Git, DVC, remotes, params, devices, disk, MLflow.

    It changes nothing. Exit code 0: nothing is broken; 1: what is broken is told with its remedy.
    """
    from kinetrack.cli.doctor.report import examine
    from kinetrack.tracking.artifacts import find_root

    raise typer.Exit(0 if examine(find_root(), as_json=as_json) else 1)


def _bring_up_to_date(stage: str) -> None:
    from kinetrack.cli.check import check_project
    from kinetrack.versioning.commands import repro

    root = _enter()
    check_project(root)
    # DVC ends in 255 whatever a stage said; its own line stands above.
    raise typer.Exit(EXIT_BAD_INPUT if repro(stage, root=root) else 0)


def _add_stage(name: str, description: str) -> None:
    def bring_up_to_date() -> None:
        _bring_up_to_date(name)

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
def frames(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _bring_up_to_date("frames")


@frames_app.command("show")
def show_frames(
    clip: Annotated[str, typer.Argument(help="<Class>/<clip>, or the clip alone.")],
    no_open: Annotated[bool, typer.Option("--no-open", help="Only make the page.")] = False,
) -> None:
    """Make a page of one clip's frames and facts, and open it."""
    from kinetrack.cli.data import show_clip

    show_clip(_enter(), clip, open_page=not no_open)


@app.command(rich_help_panel=DATA)
def data(
    diff: Annotated[
        str | None, typer.Option(metavar="REV", help="Changes since a Git revision instead.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page of pictures.")] = False,
) -> None:
    """Show the data set's clips, lengths, sizes and problems; make a page of pictures."""
    root = _enter()
    if diff is not None:
        from kinetrack.cli.changes import print_changes

        print_changes(root, diff)
    else:
        from kinetrack.cli.data import print_data

        print_data(root, open_page=open_page)


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
    root = _enter()
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

    print_disk(_enter(), as_json=as_json)


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
        bool, typer.Option("--all-commits", help="Spare all of older commits.")
    ] = False,
    shared_cache: Annotated[
        Path | None,
        typer.Option(help="Cache outside of the project that may be freed.", resolve_path=True),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every object.")] = False,
) -> None:
    """Free DVC's cache of what no branch, tag, experiment, run or registered model needs.

    Spared are also the videos of all commits, which nothing makes again. Not beside a dvc repro.
    """
    from kinetrack.cli.gc import GcOptions, collect_garbage

    options = GcOptions(
        derived=derived, old_videos=old_videos, all_commits=all_commits, shared_cache=shared_cache
    )
    collect_garbage(_enter(), options, yes=yes, as_json=as_json)


@app.command(rich_help_panel=DATA)
def forget(
    clips: Annotated[list[str], typer.Argument(help="<Class>/<clip>, or the clip alone.")],
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Its data set; default: that of params.yaml.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take them out of the present version.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything.")] = False,
) -> None:
    """Name all versions, caches, remotes, models and runs that have a clip, and what erases it.

    Without --yes nothing is changed; with it, the present version only.
    """
    from kinetrack.cli.forget.report import forget

    forget(clips, dataset=dataset, root=_enter(), yes=yes, as_json=as_json)


@app.command(rich_help_panel=RESULTS)
def track(
    send_all: Annotated[
        bool, typer.Option("--all", help="Also trainings that were meant for another store.")
    ] = False,
) -> None:
    """Bring MLflow to what the files say: runs that it missed, test results, means of repetitions.

    Replays what an outage kept from it, and makes runs of committed results and of experiments
    that were pulled, where their model is in DVC's cache. A second time, nothing is left to do.
    """
    from kinetrack.cli.track import track

    typer.echo(track(_enter(), of_other_stores=send_all).describe())


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

    root = _enter()
    track_if_possible(root)
    print_runs(root, as_json=as_json, experiment=experiment, show_all=show_all)


@app.command(rich_help_panel=RESULTS)
def summary() -> None:
    """Say what was trained, how well, and what to do next."""
    from kinetrack.cli.summary import print_summary

    print_summary(_enter())


@app.command(rich_help_panel=RESULTS)
def report(
    open_page: Annotated[bool, typer.Option("--open", help="Open the page.")] = False,
) -> None:
    """Make a page and a model card of the model in data/model, and add both to its run.

    The page needs no network: figures with their intervals, curves, confusion, the surest errors
    with what the network looked at, the data, and what repeats it.
    """
    from kinetrack.cli.report import print_report
    from kinetrack.cli.track import track_if_possible

    root = _enter()
    track_if_possible(root)
    print_report(root, open_page=open_page)


@app.command(rich_help_panel=RESULTS)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: runs as for reproduce, models:/NAME@ALIAS, or files of predictions"
            " (.csv). The others are compared with the first."
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

    Intervals are for clips of other groups; clips that changed sides are listed, and shown on a
    page that needs no network.
    """
    from kinetrack.cli.compare.command import print_comparison
    from kinetrack.cli.compare.results import FILE_SUFFIX
    from kinetrack.cli.data import PAGES_FOLDER, open_browser
    from kinetrack.cli.track import track_if_possible

    # Files are named from here, and the rest is done in the project's folder.
    names = [str(Path(run).absolute()) if run.endswith(FILE_SUFFIX) else run for run in runs]
    if root := _enter_if_project():
        track_if_possible(root)
        page = page or PAGES_FOLDER / "compare.html"
    elif open_page and page is None:
        raise typer.BadParameter("--open needs --page outside of a project")
    print_comparison(names, as_json=as_json, page=page, root=root)
    if open_page and page:
        open_browser(page)


@app.command(rich_help_panel=RESULTS)
def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            help="Its id, 6 digits or more of it, its name, or its experiment's in DVC."
        ),
    ],
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

    raise typer.Exit(0 if reproduce(run, root=_enter(), into=into, keep=keep) else 1)


@app.command(rich_help_panel=MODELS)
def promote(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Its id, 6 digits or more of it, its name, or its experiment's in DVC;"
            " default: the one that made the model in data/model."
        ),
    ] = None,
    *,
    alias: Annotated[str, typer.Option(help="Name of the place, as champion.")],
    name: Annotated[
        str | None, typer.Option(help="Of the registered model; default: the data set's.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What to compare by.")] = "test/accuracy",
    force: Annotated[bool, typer.Option("--force", help="Without a comparison.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be.")] = False,
) -> None:
    """Register a run's model in MLflow and give it an alias, if it beats the one that has it.

    Both must have been tested on the same clips; equal is not better.
    """
    from kinetrack.cli.registry import promote
    from kinetrack.cli.track import track_if_possible

    root = _enter()
    if not dry_run:
        track_if_possible(root)
    told = promote(
        run, alias=alias, root=root, name=name, metric=metric, force=force, dry_run=dry_run
    )
    typer.echo(told)


@app.command(rich_help_panel=MODELS)
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all figures.")] = False,
) -> None:
    """List the registered models, their results, and whether MLflow and DVC have their bytes.

    Behind the accuracy: its 95 % interval, for clips of other groups.
    """
    from kinetrack.cli.models import print_models

    print_models(_enter_if_project(), as_json=as_json)


@app.command("pull-model", rich_help_panel=MODELS)
def pull_model(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION, or a run.")],
    into: Annotated[
        Path | None,
        typer.Option(help="Folder to make; default: one below models/.", resolve_path=True),
    ] = None,
) -> None:
    """Fetch a model, checked, with the params and dvc.lock that made it, into a folder.

    From MLflow, else from DVC's cache or remote. With MLFLOW_TRACKING_URI set, from anywhere.
    """
    from kinetrack.cli.pull_model import pull_model

    typer.echo(pull_model(model, root=_enter_if_project(), into=into))


@app.command(rich_help_panel=MODELS)
def predict(
    videos: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns ('a/*.mp4', 'a/**'), or -: a name a line on stdin."
        ),
    ],
    *,
    model: Annotated[
        str | None,
        typer.Option(help="Folder, run or models:/NAME@ALIAS; default: data/model of the project."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="So many classes of each video or step.")] = 3,
    views: Annotated[
        int, typer.Option(min=1, max=100, help="Windows over each video, averaged.")
    ] = 1,
    window: Annotated[
        float | None,
        typer.Option(help="Tell a time line: length of the window that is looked at, in seconds."),
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
    video that cannot be used is named, and the others are done.

    Exit code 0: every video has an answer; 1: some have; 2: none has, or bad input; 141: the
    output is no longer read.
    """
    from kinetrack.cli.predict.command import Walk, predict

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv are two forms: choose one")
    for option, value in {"--stride": stride, "--draw": draw, "--as": draw_as}.items():
        needed, there = ("--draw", draw) if option == "--as" else ("--window", window)
        if value is not None and there is None:
            raise typer.BadParameter(f"{option} needs {needed}")
    if window is not None and views > 1:
        raise typer.BadParameter("--window has one view of each step: leave --views out")
    form: Literal["text", "json", "csv"] = "json" if as_json else "csv" if as_csv else "text"
    walk = None
    if window is not None:
        walk = Walk(window, 1.0 if stride is None else stride, draw, draw_as or "mp4")
    model = model or _present_model()
    raise typer.Exit(predict(videos, model=model, top=top, views=views, form=form, walk=walk))


@app.command(rich_help_panel=MODELS)
def export(
    out: Annotated[
        Path, typer.Argument(help="File to write: NAME.onnx (ONNX) or NAME.pt2 (torch.export).")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Folder, run or models:/NAME@ALIAS; default: data/model of the project."),
    ] = None,
) -> None:
    """Write a model for use without this project: bytes of clips in, probabilities out.

    Beside it a JSON says how clips are cut and which class each probability is of. An export that
    differs from the model is refused. ONNX needs the extra: export.
    """
    from kinetrack.using.exporting import export_model
    from kinetrack.using.loading import load

    recogniser = load(model or _present_model())
    difference = export_model(out, recogniser.network, recogniser.card)
    typer.echo(f"{out}: probabilities differ from the model's by {difference:.1g} at most")


@app.command(rich_help_panel=MODELS)
def demo(
    model: Annotated[
        str | None,
        typer.Option(help="Folder, run or models:/NAME@ALIAS; default: data/model of the project."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: a free one.")] = None,
) -> None:
    """Open a page to try a model: drop a video, see its answer and where it looked; Ctrl-C ends it.

    For this machine only. The limits of docs/serving.md hold.
    """
    from kinetrack.cli.demo import serve_demo

    serve_demo(model or _present_model(), port=port)


@app.command(rich_help_panel=RESULTS)
def ui(
    port: Annotated[int | None, typer.Option(help="Default: 5000, or a free one.")] = None,
) -> None:
    """Open the MLflow UI on this project's runs; Ctrl-C ends it."""
    from kinetrack.cli.track import track_if_possible
    from kinetrack.tracking.ui import serve_ui

    root = _enter()
    track_if_possible(root)
    raise typer.Exit(serve_ui(port=port, experiment=_present_experiment(root)))


def _present_experiment(root: Path) -> str:
    """Where a training would log now; empty where params.yaml cannot say: runs can be seen."""
    from kinetrack.params import PARAMS_FILE, load_params

    if named := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return named
    try:
        return str(load_params(root / PARAMS_FILE)["dataset"])
    except InputError:
        return ""


store_app = typer.Typer(help="Upgrade the runs' database, or bring runs of another in.")
app.add_typer(store_app, name="store", rich_help_panel=RESULTS)


@store_app.command("upgrade")
def upgrade_store() -> None:
    """Upgrade a database that an older MLflow made; a backup stays beside it."""
    from kinetrack.cli.store import upgrade_store

    _enter()
    typer.echo(upgrade_store())


@store_app.command("import")
def import_store(
    source: Annotated[
        str, typer.Argument(help="Folder (mlruns), database (mlflow.db) or http(s) address.")
    ],
) -> None:
    """Bring the runs, models and registered models of another MLflow store in.

    A second import adds nothing; one after an interruption goes on.

    Exit code 0: all is here; 1: something could not be read, and is named; 2: bad input.
    """
    from kinetrack.cli.store import import_into_store

    place = source if "://" in source else str(Path(source).absolute())
    raise typer.Exit(0 if import_into_store(place, root=_enter()) else 1)


def _enter() -> Path:
    """Go to the project's folder, from anywhere below it, and see what its machine has chosen."""
    from kinetrack.machine import apply_machine_options
    from kinetrack.tracking.artifacts import find_root

    root = find_root()
    apply_machine_options(root)
    os.chdir(root)
    return root


def _enter_if_project() -> Path | None:
    """As `_enter`; outside of a project, where a tracking server is named, stay: None."""
    from kinetrack.tracking.artifacts import find_root

    try:
        find_root()
    except InputError as error:
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return None
        remedy = "run this inside the project, or set MLFLOW_TRACKING_URI"
        raise InputError(error.path, error.problem, remedy=remedy) from None
    return _enter()


def _present_model() -> str:
    """The model of the project around here; videos are named from here, so nobody goes there."""
    from kinetrack.machine import apply_machine_options
    from kinetrack.tracking.artifacts import find_root

    try:
        root = find_root()
    except InputError:
        return "data/model"
    apply_machine_options(root)
    return str(root / "data/model")


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 2."""
    # As Ctrl-C: what is half-written is removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
