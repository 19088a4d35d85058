"""Arguments and options that several commands have, in the same words."""

from typing import Annotated

import typer

from kinetrack.cli.completion import clip_names, dataset_names, run_names

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Clip = Annotated[
    str, typer.Argument(help="<Class>/<clip>, or the clip alone.", autocompletion=clip_names)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Folder, run or models:/NAME@ALIAS; default: data/model of the project.",
        autocompletion=run_names,
    ),
]
Dataset = Annotated[
    str, typer.Argument(help="A folder of data/videos/.", autocompletion=dataset_names)
]
_RUN = "Its id, 6 digits or more of it, its name, or its experiment's in DVC"
Run = Annotated[str, typer.Argument(help=f"{_RUN}.", autocompletion=run_names)]
PresentRun = Annotated[
    str | None,
    typer.Argument(
        help=f"{_RUN}; default: the one that made the model in data/model.",
        autocompletion=run_names,
    ),
]
