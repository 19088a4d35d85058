"""`kinetrack summary`: what was trained, how well, and what to do next."""

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from kinetrack.cli.reported import (
    EVALUATION,
    HISTORY,
    MODEL,
    locked_dataset,
    locked_params,
    read_metrics,
    read_table,
)
from kinetrack.cli.screen import table_console
from kinetrack.data.index import SIDES
from kinetrack.learning.checkpoint import ModelCard, read_card
from kinetrack.params import load_params
from kinetrack.using.evaluation import ClassScore
from kinetrack.using.report import trains_on_mixed_clips

_SHARES = ("precision", "recall", "f1")
_NEXT_OF_SAMPLE = (
    "[bold]make ui[/] to see the runs in MLflow; change params.yaml and [bold]make repro[/] again; "
    "docs/own-videos.md for your own videos"
)
_NEXT = (
    "[bold]kinetrack report --open[/] shows its errors; [bold]kinetrack predict VIDEO[/] asks it; "
    "[bold]git add -A && git commit[/] keeps what made it"
)


def print_summary(root: Path, *, as_json: bool = False) -> None:
    """Print the result of the last pipeline run.

    Raises:
        InputError: there is none yet.
    """
    card = read_card(root / MODEL)
    history = read_table(root / HISTORY, {f"{side}_accuracy" for side in SIDES})
    scores = read_table(root / EVALUATION / "per_class.csv", set(ClassScore._fields))
    metrics = read_metrics(root)
    wanted = load_params()["dataset"]
    dataset = locked_dataset(root) or wanted
    if as_json:
        print(json.dumps(_to_json(dataset, card, history, scores, metrics), indent=2))
        return
    console = table_console(soft_wrap=True)
    console.print(
        f"\nTrained [bold]{card.model}[/] on data set [bold]{escape(dataset)}[/]: "
        f"{len(card.labels)} classes, {len(history)} epochs, {card.parameters:,} parameters, "
        f"{card.gflop_per_clip} GFLOP a clip"
    )
    if wanted != dataset:
        console.print(f"params.yaml names data set {escape(wanted)} now: not trained on yet")
    console.print(_describe_training(history[-1], locked_params(root)))
    console.print(f"{_describe_test(metrics)}\n")
    console.print(_class_table(scores))
    console.print(f"\nNext: {_NEXT_OF_SAMPLE if dataset == 'sample' else _NEXT}")


def _to_json(
    dataset: str,
    card: ModelCard,
    history: Sequence[Mapping[str, str]],
    scores: Sequence[Mapping[str, str]],
    metrics: Mapping[str, float],
) -> dict[str, object]:
    last = {name: float(value) for name, value in history[-1].items()}
    return {
        "model": card.model,
        "dataset": dataset,
        "labels": card.labels,
        "parameters": card.parameters,
        "gflop_per_clip": card.gflop_per_clip,
        "epochs": len(history),
        "last_epoch": {name: None if isnan(value) else value for name, value in last.items()},
        "test": metrics,
        "classes": [
            {
                **row,
                **{name: float(row[name]) for name in _SHARES},
                "num_clips": int(row["num_clips"]),
            }
            for row in scores
        ],
    }


def _describe_training(last: Mapping[str, str], params: Mapping[str, Any]) -> str:
    accuracies = {side: float(last[f"{side}_accuracy"]) for side in SIDES}
    watched = {side: accuracy for side, accuracy in accuracies.items() if not isnan(accuracy)}
    figures = [f"{side} {accuracy:.4f}" for side, accuracy in watched.items()]
    told = f"Accuracy in the last epoch: {', '.join(figures)}"
    if trains_on_mixed_clips(params):
        told += " (train: of mixed clips, augment.mixup; low however well it goes)"
    return told


def _describe_test(metrics: Mapping[str, float]) -> str:
    told = f"Test accuracy [bold]{metrics['accuracy']:.4f}[/] on {metrics['num_clips']} clips"
    if "accuracy_low" in metrics:
        low, high = metrics["accuracy_low"], metrics["accuracy_high"]
        told += f" of {metrics['num_groups']} groups; 95 % interval {low:.3f} to {high:.3f}"
    if "shuffled_accuracy" in metrics:
        told += f"; with their frames shuffled {metrics['shuffled_accuracy']:.3f}"
    return told


def _class_table(rows: list[dict[str, str]]) -> Table:
    table = Table("class", box=None)
    for name in ("precision", "recall", "F1", "test clips"):
        table.add_column(name, justify="right")
    for row in rows:
        shares = (f"{float(row[name]):.3f}" for name in _SHARES)
        table.add_row(escape(row["label"]), *shares, row["num_clips"])
    return table
