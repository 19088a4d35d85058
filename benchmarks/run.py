"""Run benchmarks: `make bench`, or `python -m benchmarks.run [PART ...]`.

Each part compares two ways of doing the same thing within one run, since the speed of a machine
changes from hour to hour. Figures go to reports/bench.json; those of parts that do not run stay.
`train_steps` runs when it is asked for by name only.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer
from rich.console import Console

from benchmarks import (
    added_clip,
    memory,
    nothing_to_do,
    preprocess,
    rows,
    training,
    training_steps,
    workers,
)
from benchmarks.clips import VARIABLE, find_videos
from benchmarks.figures import Findings, describe_run, flatten, merge_figures, show
from benchmarks.scratch import ROOT
from kinetrack.errors import EXIT_BAD_INPUT, InputError

Part = Literal[
    "preprocess", "workers", "memory", "added_clip", "train", "noop", "rows", "train_steps"
]
PARTS: tuple[Part, ...] = get_args(Part)
BY_NAME_ONLY: tuple[Part, ...] = ("train_steps",)
OUTPUT = ROOT / "reports/bench.json"
# Those that run on the clips; the others make what they need.
_ON_CLIPS: dict[Part, Callable[[list[Path], Path], Findings]] = {
    "preprocess": preprocess.run,
    "workers": workers.run,
    "memory": memory.run,
    "added_clip": added_clip.run,
    "train": training.run,
}
_ON_THEIR_OWN: dict[Part, Callable[[Path], Findings]] = {
    "noop": nothing_to_do.run,
    "rows": rows.run,
    "train_steps": training_steps.run,
}


def run_parts(parts: list[Part], *, output: Path, console: Console) -> None:
    """Run parts one by one; each is printed, and put into the file, as soon as it is done."""
    with tempfile.TemporaryDirectory(prefix="kinetrack-bench-") as folder:
        videos = find_videos(Path(folder)) if set(parts) & set(_ON_CLIPS) else []
        for part in parts:
            console.print(f"\n[bold]{part}[/bold], on {_name_data(part, videos)}")
            findings = _run_part(part, videos, Path(folder))
            show(console, part, findings)
            about = {
                f"{part}.run.{key}": value
                for key, value in describe_run(data=_name_data(part, videos)).items()
            }
            merge_figures(output, {**flatten(findings), **about})
    console.print(f"\nall figures: {output}")


def _run_part(part: Part, videos: list[Path], folder: Path) -> Findings:
    if part in _ON_CLIPS:
        return _ON_CLIPS[part](videos, folder / part)
    return _ON_THEIR_OWN[part](folder / part)


def _name_data(part: Part, videos: list[Path]) -> str:
    if part in _ON_THEIR_OWN:
        return "generated data"
    kind = "real clips" if os.environ.get(VARIABLE) else "clips of the built-in data set"
    return f"{len(videos)} {kind}"


def main(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Some of: {', '.join(PARTS)}. By default all but {', '.join(BY_NAME_ONLY)}."
        ),
    ] = None,
) -> None:
    """Compare the lecture's way and Kinetrack's; write reports/bench.json."""
    try:
        console = Console(width=None if sys.stdout.isatty() else 120)
        run_parts(_check_parts(parts), output=OUTPUT, console=console)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None


def _check_parts(wanted: list[str] | None) -> list[Part]:
    unknown = sorted(set(wanted or ()) - set(PARTS))
    if unknown:
        raise InputError("PARTS", "names no part", found=unknown[0], expected=", ".join(PARTS))
    by_default = [part for part in PARTS if part not in BY_NAME_ONLY]
    return [part for part in PARTS if part in wanted] if wanted else by_default


if __name__ == "__main__":
    typer.run(main)
