"""What the stage `train` writes at its end: the model, its history, its figures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kinetrack.data.index import SIDES
from kinetrack.files import atomic_folder, remove_partials, write_json
from kinetrack.learning.checkpoint import ModelCard, save_model
from kinetrack.learning.fitting import Epoch, Progress
from kinetrack.tables import write_csv


def complete(card: ModelCard, progress: Progress, *, processes: int) -> ModelCard:
    """Add to a card what is known at the end of the training."""
    epoch = progress.best.epoch if progress.best else len(progress.history)
    return card.model_copy(
        update={
            "processes": processes,
            "epoch": epoch,
            "halvings": progress.micro.halvings,
            "started_from_sha256": progress.started_from,
        }
    )


def write_model(
    folder: Path, model: nn.Module, card: ModelCard, *, trained_on: Sequence[str]
) -> ModelCard:
    """Write the model in place of an earlier one, whole; return the card with the checksums.

    Args:
        trained_on: sha256 of the frames of each training clip.

    Raises:
        WriteError: no room, or no permission; an earlier model is as it was.
    """
    with atomic_folder(folder) as temporary:
        return save_model(temporary, model, card, trained_on=trained_on)


def write_reports(reports: Path, history: Sequence[Epoch], card: ModelCard) -> None:
    """Write the history of a training and the figures of the epoch that was kept.

    Raises:
        WriteError: no room, or no permission.
    """
    remove_partials(reports)
    rows = [_history_row(epoch) for epoch in history]
    write_csv(reports / "history.csv", list(rows[0]), rows)
    kept = rows[card.epoch - 1]
    figures = {name: value for name, value in kept.items() if not math.isnan(value)}
    cost = {"parameters": card.parameters, "gflop_per_clip": card.gflop_per_clip}
    write_json(reports / "metrics.json", figures | cost)


def _history_row(epoch: Epoch) -> dict[str, Any]:
    """The figures that are equal on every run; nan for a side that was not watched.

    A blank would be drawn as 0 by `dvc plots`, a missing column would end the whole plot.
    """
    row: dict[str, Any] = {"epoch": epoch.number}
    for side in SIDES:
        score = epoch.scores.get(side)
        row[f"{side}_loss"] = round(score.loss, 6) if score else math.nan
        row[f"{side}_accuracy"] = round(score.accuracy, 6) if score else math.nan
    return row


def describe_epoch(epoch: Epoch) -> str:
    """One line on an epoch."""
    scores = [
        f"{side} loss {score.loss:.4f} accuracy {score.accuracy:.4f}"
        for side, score in epoch.scores.items()
    ]
    seconds = epoch.train_seconds
    scores.append(f"{seconds:.1f} s, {epoch.scores['train'].num_clips / seconds:.1f} clips/s")
    return f"epoch {epoch.number}: {'; '.join(scores)}"
