"""Stage `train`: train a network on the packed clips, and log every epoch to MLflow."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import typer
from pydantic import Field, PositiveFloat, PositiveInt

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import SIDES, Side
from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder, write_csv, write_json
from kinetrack.learning.batches import PackedClips, make_loader
from kinetrack.learning.checkpoint import ModelCard, save_model, to_channels_last
from kinetrack.learning.device import choose_device, make_repeatable
from kinetrack.learning.memory import reuse_heap
from kinetrack.learning.models import ModelName, build_model
from kinetrack.learning.models.cost import count_gflop, count_parameters
from kinetrack.learning.training import Epoch, Schedule, fit
from kinetrack.params import Section, load_params, load_section
from kinetrack.stages.door import run
from kinetrack.stages.train_run import log_outcome, open_run


class ModelParams(Section):
    """Section `model` of params.yaml."""

    name: ModelName
    """Which network."""


class TrainParams(Section):
    """Section `train` of params.yaml."""

    epochs: PositiveInt
    """How often every training clip is seen."""
    batch_size: PositiveInt
    """Clips of one optimiser step."""
    micro_batch: PositiveInt
    """Clips that go through the network at once; bounds the memory, not the gradient."""
    learning_rate: PositiveFloat
    """Step size of Adam, in the first epoch."""
    schedule: Schedule
    """How it goes on: "constant", or "cosine", which falls towards 0 over the epochs."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Of the first weights, of the order of the clips and of the windows drawn from them."""
    threads: Annotated[int, Field(ge=1, le=256)]
    """Threads on a CPU; fixed, because another number gives other last bits."""
    watch: Annotated[list[Literal["val", "test"]], Field(max_length=2)]
    """Sides whose loss and accuracy are taken after every epoch; they decide nothing."""


class Settings(NamedTuple):
    """The sections that a training depends on."""

    pack: ClipGeometry
    model: ModelParams
    train: TrainParams


class Outcome(NamedTuple):
    """What a training made."""

    card: ModelCard
    history: list[Epoch]


def train_model(
    settings: Settings,
    *,
    tensors: Path,
    model_folder: Path,
    reports: Path,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> Outcome:
    """Train on the packed clips below `tensors`; write the model folder and the reports at the end.

    Raises:
        InputError: no usable tensors, an empty side that is asked for, clips too small for the
            network, or a loss that is not finite. Nothing is written then.
    """
    params = settings.train
    sides = read_sides(tensors)
    _check_sides(sides, params.watch, tensors)
    labels = _read_labels(sides, tensors)
    reuse_heap()
    make_repeatable(seed=params.seed, threads=params.threads)
    model = build_model(
        settings.model.name,
        num_classes=len(labels),
        num_frames=settings.pack.num_frames,
        size_px=settings.pack.size_px,
    )
    card = _describe(model, settings, labels, split_fingerprint=_fingerprint(sides))
    to_channels_last(model).to(device)
    history = _fit(model, settings, sides=sides, labels=labels, device=device, on_epoch=on_epoch)
    with atomic_folder(model_folder) as folder:
        trained_on = [row.frames_sha256 for row in sides["train"].rows]
        card = save_model(folder, model, card, trained_on=trained_on)
    _write_reports(reports, history, card)
    return Outcome(card, history)


def _check_sides(
    sides: dict[Side, PackedSide], watch: list[Literal["val", "test"]], tensors: Path
) -> None:
    needed: tuple[Side, ...] = ("train", *watch)
    for side in needed:
        if not sides[side].rows:
            raise InputError(
                tensors,
                f"holds no {side} clip",
                remedy=f"give split a {side} part, or take {side} out of train.watch",
            )


def _read_labels(sides: dict[Side, PackedSide], tensors: Path) -> list[str]:
    labels = sorted({row.label for side in sides.values() for row in side.rows})
    if len(labels) < 2:
        raise InputError(tensors, "holds one class only", expected="two or more to tell apart")
    return labels


def _fingerprint(sides: dict[Side, PackedSide]) -> str:
    """That of `split.json`, but for clips that were too short and dropped in packing."""
    return fingerprint_split((row, side) for side, packed in sides.items() for row in packed.rows)


def _describe(
    model: torch.nn.Module, settings: Settings, labels: list[str], *, split_fingerprint: str
) -> ModelCard:
    pack = settings.pack
    gflop = count_gflop(model, num_frames=pack.num_frames, size_px=pack.size_px)
    return ModelCard(
        model=settings.model.name,
        labels=labels,
        clip=pack,
        parameters=count_parameters(model),
        gflop_per_clip=round(gflop, 3),
        micro_batch=settings.train.micro_batch,
        threads=settings.train.threads,
        split_fingerprint=split_fingerprint,
        trained_sha256="",
        weights_sha256="",
    )


def _fit(
    model: torch.nn.Module,
    settings: Settings,
    *,
    sides: dict[Side, PackedSide],
    labels: list[str],
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    pack, params = settings.pack, settings.train
    order = torch.Generator().manual_seed(params.seed)
    # One of its own: whether windows are drawn or not, the clips come in the same order. And
    # another seed, or both would draw the same numbers.
    windows = torch.Generator().manual_seed(params.seed + 1)
    clips = PackedClips(sides["train"], labels=labels, geometry=pack, draw_with=windows)
    watched = {
        side: PackedClips(sides[side], labels=labels, geometry=pack) for side in params.watch
    }
    return fit(
        model,
        make_loader(clips, batch_size=params.batch_size, shuffle_with=order),
        watch={
            side: make_loader(clips, batch_size=params.batch_size)
            for side, clips in watched.items()
        },
        optimiser=torch.optim.Adam(model.parameters(), lr=params.learning_rate),
        schedule=params.schedule,
        epochs=params.epochs,
        micro_batch=params.micro_batch,
        device=device,
        on_epoch=on_epoch,
    )


def _write_reports(reports: Path, history: list[Epoch], card: ModelCard) -> None:
    rows = [_history_row(epoch) for epoch in history]
    write_csv(reports / "history.csv", list(rows[0]), rows)
    last = {name: value for name, value in rows[-1].items() if not math.isnan(value)}
    cost = {"parameters": card.parameters, "gflop_per_clip": card.gflop_per_clip}
    write_json(reports / "metrics.json", last | cost)


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


def main(tensors: Path, model: Path, reports: Path) -> None:
    """Train on TENSORS and write the MODEL folder and the REPORTS."""
    settings = Settings(
        pack=load_section(ClipGeometry, "pack"),
        model=load_section(ModelParams, "model"),
        train=load_section(TrainParams, "train"),
    )
    device = choose_device()
    with open_run(load_params(), tensors=tensors, device=device) as tracked:

        def on_epoch(epoch: Epoch) -> None:
            typer.echo(describe_epoch(epoch))
            tracked.log_epoch(epoch.number, epoch.metrics())

        outcome = train_model(
            settings,
            tensors=tensors,
            model_folder=model,
            reports=reports,
            device=device,
            on_epoch=on_epoch,
        )
        log_outcome(tracked, outcome.card, model_folder=model, reports=reports)


if __name__ == "__main__":
    run("train")
