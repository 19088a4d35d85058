"""`kinetrack summary`: what was trained, how well, and what to do next."""

import csv
import json
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kinetrack.data.index import SIDES
from kinetrack.errors import InputError
from kinetrack.files import read_csv
from kinetrack.learning.checkpoint import read_card
from kinetrack.params import load_params
from kinetrack.using.evaluation import ClassScore

_REMEDY = "make repro"


def print_summary(root: Path) -> None:
    """Print the result of the last pipeline run.

    Raises:
        InputError: there is none yet.
    """
    card = read_card(root / "data/model")
    history = _read_table(
        root / "reports/train/history.csv", {f"{side}_accuracy" for side in SIDES}
    )
    scores = _read_table(root / "reports/evaluate/per_class.csv", set(ClassScore._fields))
    metrics = _read_metrics(root / "reports/evaluate/metrics.json")
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"\nTrained [bold]{card.model}[/] on data set [bold]{escape(load_params()['dataset'])}[/]: "
        f"{len(card.labels)} classes, {len(history)} epochs, {card.parameters:,} parameters, "
        f"{card.gflop_per_clip} GFLOP a clip"
    )
    console.print(_describe_training(history[-1]))
    console.print(
        f"Test accuracy [bold]{metrics['accuracy']:.4f}[/] on {metrics['num_clips']} clips "
        f"of groups that the network has not seen\n"
    )
    console.print(_class_table(scores))
    console.print(
        "\nNext: [bold]make ui[/] to see the runs in MLflow; change params.yaml and "
        "[bold]make repro[/] again; README.md for your own videos"
    )


def _describe_training(last: dict[str, str]) -> str:
    accuracies = {side: float(last[f"{side}_accuracy"]) for side in SIDES}
    watched = {side: accuracy for side, accuracy in accuracies.items() if not isnan(accuracy)}
    figures = [f"{side} {accuracy:.4f}" for side, accuracy in watched.items()]
    return f"Accuracy in the last epoch: {', '.join(figures)}"


def _class_table(rows: list[dict[str, str]]) -> Table:
    table = Table("class", box=None)
    for name in ("precision", "recall", "F1", "test clips"):
        table.add_column(name, justify="right")
    for row in rows:
        shares = (f"{float(row[name]):.3f}" for name in ("precision", "recall", "f1"))
        table.add_row(escape(row["label"]), *shares, row["num_clips"])
    return table


def _read_table(path: Path, columns: set[str]) -> list[dict[str, str]]:
    try:
        rows = read_csv(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(path, "cannot be read", found=error, remedy=_REMEDY) from None
    if not rows or not columns <= set(rows[0]):
        raise InputError(path, "is no such table", expected=", ".join(columns), remedy=_REMEDY)
    return rows


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "cannot be read", found=error, remedy=_REMEDY) from None
    return metrics
