"""Options that several commands have, in the same words."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str | None,
    typer.Option(help="Folder, run or models:/NAME@ALIAS; default: data/model of the project."),
]
