"""`kinetrack summary`: what was trained, how well, and what to do next."""

from math import isnan
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from kinetrack.cli.reported import EVALUATION, HISTORY, MODEL, read_metrics, read_table
from kinetrack.cli.screen import table_console
from kinetrack.data.index import SIDES
from kinetrack.learning.checkpoint import read_card
from kinetrack.params import load_params
from kinetrack.using.evaluation import ClassScore


def print_summary(root: Path) -> None:
    """Print the result of the last pipeline run.

    Raises:
        InputError: there is none yet.
    """
    card = read_card(root / MODEL)
    history = read_table(root / HISTORY, {f"{side}_accuracy" for side in SIDES})
    scores = read_table(root / EVALUATION / "per_class.csv", set(ClassScore._fields))
    metrics = read_metrics(root)
    console = table_console(soft_wrap=True)
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
