"""Stage `train`: train a network on the packed clips, and log every epoch to MLflow."""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
import typer
from pydantic import Field
from pydantic import model_validator as validator

from kinetrack.data.decoding import Decoding
from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import SIDES, Side
from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder, remove_partials, write_json
from kinetrack.learning.augment import AugmentParams
from kinetrack.learning.batches import ClipBatches
from kinetrack.learning.checkpoint import ModelCard, save_model, to_channels_last
from kinetrack.learning.device import (
    choose_device,
    count_loaders,
    keeps_clips_on_device,
    make_repeatable,
)
from kinetrack.learning.fitting import Epoch, Keep, Progress, fit
from kinetrack.learning.inputs import ClipInput
from kinetrack.learning.memory import MicroBatch, reuse_heap
from kinetrack.learning.models import ModelName, build_model
from kinetrack.learning.models.cost import count_gflop, count_parameters
from kinetrack.learning.models.pretrained import freeze_backbone
from kinetrack.learning.optimising import OptimiserName, Schedule, make_optimiser, make_scheduler
from kinetrack.learning.packed_clips import PackedClips
from kinetrack.learning.precision import spare_short_convolutions
from kinetrack.learning.processes import (
    Team,
    is_in_team,
    joined_team,
    processes_here,
    wanted_processes,
)
from kinetrack.learning.resume import (
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from kinetrack.learning.training import NotFiniteError, Precision, Recipe
from kinetrack.params import Section, load_params, load_part, load_section
from kinetrack.stages.door import run
from kinetrack.stages.train_resume import open_resume
from kinetrack.stages.train_run import log_outcome, open_run
from kinetrack.stages.train_start import start_weights
from kinetrack.tables import write_csv

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Text = Annotated[str, Field(min_length=1)]


class ModelParams(Section):
    """Section `model` of params.yaml."""

    name: ModelName
    """Which network."""
    weights: Text | None
    """Pretrained weights to start from: the name that torchvision has for them, or a file; null
    starts from chance."""
    weights_sha256: Text | None
    """Of that file."""
    backbone: Literal["trained", "frozen"]
    """Whether all layers are trained, or only the head that tells the classes."""


class TrainParams(Section):
    """Section `train` of params.yaml."""

    epochs: Count
    """How often every training clip is seen, at most."""
    batch_size: Count
    """Clips of one optimiser step, over all processes."""
    micro_batch: Count
    """Clips that go through the network at once; bounds the memory, not the gradient."""
    precision: Precision
    """Of the calculation: "fp32", or "bf16" where that is accurate enough (weights stay fp32)."""
    optimiser: OptimiserName
    """Adam, AdamW (weight decay apart from the gradient), or SGD with Nesterov's momentum."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)]
    """The largest step size; `schedule` says when."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Of "sgd"."""
    weight_decay: Annotated[float, Field(ge=0, le=1000)]
    """Pull of the weights towards 0; not of biases and norms."""
    schedule: Schedule
    """How the rate goes on: "constant", "cosine" (falls towards 0), "step" (a tenth after every
    `step_epochs`), or "one_cycle" (rises for `warmup_epochs`, then falls to nothing)."""
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)]
    """Epochs in which the rate rises."""
    step_epochs: Count | None
    """Of "step"."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Share of each label that is spread over all classes."""
    class_weights: Literal["none", "balanced"]
    """Whether clips of rare classes count for more: as if all classes had as many."""
    clip_gradient: Annotated[float, Field(gt=0, le=1e9)] | None
    """Longest gradient (Euclidean norm); null does not limit it."""
    keep: Keep
    """Which weights are the model: those of the "last" epoch, or the "best" on the `val` side."""
    patience: Count | None
    """Training ends after so many epochs without a better one on the `val` side; null goes on."""
    init_from: Text | None
    """Another model to start from: a model folder, `run:ID` or `models:/NAME@ALIAS` of MLflow."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Of the first weights, the order of the clips, and all that is drawn of them."""
    threads: Annotated[int, Field(ge=1, le=256)]
    """Threads on a CPU, over all processes; fixed: another number gives other last bits."""
    watch: Annotated[list[Literal["val", "test"]], Field(max_length=2)]
    """Sides whose loss and accuracy are taken after every epoch."""

    @validator(mode="after")
    def _choices_go_together(self) -> Self:
        if (self.keep == "best" or self.patience) and "val" not in self.watch:
            raise ValueError("keep best and patience need val in watch")
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs should be fewer than epochs")
        if self.schedule == "one_cycle" and not self.warmup_epochs:
            raise ValueError("schedule one_cycle needs warmup_epochs, in which the rate rises")
        if self.schedule == "step" and not self.step_epochs:
            raise ValueError("schedule step needs step_epochs")
        return self


class Settings(NamedTuple):
    """The sections that a training depends on."""

    decoding: Decoding
    """Of section `frames`: for those who use the model."""
    pack: ClipGeometry
    input: ClipInput
    augment: AugmentParams
    model: ModelParams
    train: TrainParams


class Paths(NamedTuple):
    """What a training reads, and where it writes; checkpoints go to `resume`."""

    tensors: Path
    model: Path
    reports: Path
    resume: Path


class Outcome(NamedTuple):
    """What a training made."""

    card: ModelCard
    history: list[Epoch]


class Clips(NamedTuple):
    """The packed clips of each side, and the sorted class names."""

    sides: dict[Side, PackedSide]
    labels: list[str]


def train_model(
    settings: Settings,
    paths: Paths,
    *,
    device: torch.device,
    team: Team,
    on_start: Callable[[Sequence[Epoch]], None],
    on_epoch: Callable[[Epoch], None],
) -> Outcome:
    """Train on packed clips; the first process writes the model folder and the reports at the end.

    Every epoch leaves a checkpoint; with one there, training goes on after it. `on_start` gets the
    epochs that were trained before.

    Raises:
        InputError: no usable tensors, an empty side that is asked for, clips too small for the
            network, first weights that do not fit, or a loss that is not finite. No model is
            written then.
    """
    clips = _read_clips(paths.tensors, watch=settings.train.watch)
    reuse_heap()
    threads = max(1, settings.train.threads // processes_here())
    make_repeatable(seed=settings.train.seed, threads=threads)
    _check_team(settings.train, team)
    model, card = _make_model(settings, clips)
    to_channels_last(model).to(device)
    if settings.train.precision == "bf16" and device.type == "cpu":
        spare_short_convolutions(model)
    train, watch = _make_batches(settings, clips, device=device, team=team)
    progress = _begin(model, settings.train, steps_per_epoch=len(train))
    if not load_checkpoint(paths.resume, progress, on_unusable=_warn if team.is_first else _ignore):
        progress.started_from = _start(model, settings, clips)
    # It also waits until all have read the checkpoint, before the first one writes another.
    team.require_same([len(progress.history), weights_digest(model)])
    on_start(progress.history)

    def after_epoch(progress: Progress) -> None:
        if team.is_first:
            save_checkpoint(paths.resume, progress)
        on_epoch(progress.history[-1])

    try:
        fit(
            progress,
            train,
            watch=watch,
            recipe=_make_recipe(settings, clips),
            epochs=settings.train.epochs,
            seed=settings.train.seed,
            keep=settings.train.keep,
            patience=settings.train.patience,
            device=device,
            team=team,
            on_epoch=after_epoch,
        )
    except NotFiniteError as error:
        raise _tell_what_is_kept(error, paths.resume) from None
    card = _complete(card, progress, team)
    return Outcome(
        _write_outcome(model, card, clips, progress.history, paths) if team.is_first else card,
        progress.history,
    )


def _read_clips(tensors: Path, *, watch: list[Literal["val", "test"]]) -> Clips:
    sides = read_sides(tensors)
    needed: tuple[Side, ...] = ("train", *watch)
    for side in needed:
        if not sides[side].rows:
            raise InputError(
                tensors,
                f"holds no {side} clip",
                remedy=f"give split a {side} part, or take {side} out of train.watch",
            )
    labels = sorted({row.label for side in sides.values() for row in side.rows})
    if len(labels) < 2:
        raise InputError(tensors, "holds one class only", expected="two or more to tell apart")
    return Clips(sides, labels)


def _check_team(params: TrainParams, team: Team) -> None:
    if params.batch_size < team.size:
        raise InputError(
            "params.yaml",
            "train.batch_size is smaller than the number of processes",
            found=params.batch_size,
            expected=f"at least {team.size}",
        )


def _make_model(settings: Settings, clips: Clips) -> tuple[torch.nn.Module, ModelCard]:
    """Build the network, and describe it."""
    pack, params = settings.pack, settings.model
    model = build_model(
        params.name,
        num_classes=len(clips.labels),
        num_frames=pack.num_frames,
        size_px=pack.size_px,
    )
    card = _describe(model, settings, clips)
    if params.backbone == "frozen":
        freeze_backbone(model, params.name)
    return model, card


def _start(model: torch.nn.Module, settings: Settings, clips: Clips) -> str:
    """Put other first weights in; the sha256 of their file, or empty where there are none."""
    return start_weights(
        model,
        settings.model.name,
        weights=settings.model.weights,
        weights_sha256=settings.model.weights_sha256,
        init_from=settings.train.init_from,
        labels=clips.labels,
    )


def _describe(model: torch.nn.Module, settings: Settings, clips: Clips) -> ModelCard:
    pack, params = settings.pack, settings.train
    gflop = count_gflop(model, num_frames=pack.num_frames, size_px=pack.size_px)
    return ModelCard(
        model=settings.model.name,
        labels=clips.labels,
        decoding=settings.decoding,
        clip=pack,
        input=settings.input,
        parameters=count_parameters(model),
        gflop_per_clip=round(gflop, 3),
        precision=params.precision,
        micro_batch=params.micro_batch,
        threads=params.threads,
        # That of `split.json`, but for clips that were too short and dropped in packing.
        split_fingerprint=fingerprint_split(
            (row, side) for side, packed in clips.sides.items() for row in packed.rows
        ),
        trained_sha256="",
        weights_sha256="",
    )


def _make_batches(
    settings: Settings, clips: Clips, *, device: torch.device, team: Team
) -> tuple[ClipBatches, dict[str, ClipBatches]]:
    """The clips to train on, and those of the sides to watch."""
    params, is_resident = settings.train, keeps_clips_on_device()
    loaders = 0 if is_resident else count_loaders(device)

    def batches(side: Side, *, training: bool) -> ClipBatches:
        packed = PackedClips(
            clips.sides[side],
            labels=clips.labels,
            geometry=settings.pack,
            augment=settings.augment if training else None,
            seed=params.seed,
        )
        if is_resident:
            packed.hold_all(device)
        return ClipBatches(
            packed,
            batch_size=params.batch_size,
            team=team,
            shuffle_seed=params.seed if training else None,
            loaders=loaders,
            pin_memory=device.type == "cuda" and not is_resident,
        )

    watch = {str(side): batches(side, training=False) for side in params.watch}
    return batches("train", training=True), watch


def _begin(model: torch.nn.Module, params: TrainParams, *, steps_per_epoch: int) -> Progress:
    optimiser = make_optimiser(
        params.optimiser,
        model,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        momentum=params.momentum,
    )
    scheduler = make_scheduler(
        optimiser,
        params.schedule,
        epochs=params.epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=params.warmup_epochs,
        step_epochs=params.step_epochs,
    )
    return Progress(model, optimiser, scheduler, MicroBatch(params.micro_batch))


def _make_recipe(settings: Settings, clips: Clips) -> Recipe:
    params = settings.train
    return Recipe(
        input=settings.input,
        augment=settings.augment,
        precision=params.precision,
        label_smoothing=params.label_smoothing,
        class_weights=_balance(clips) if params.class_weights == "balanced" else None,
        clip_gradient=params.clip_gradient,
    )


def _balance(clips: Clips) -> torch.Tensor:
    """Weights (K,) by which all classes count the same; their mean over the clips is 1."""
    rows = clips.sides["train"].rows
    counts = Counter(row.label for row in rows)
    classes = sum(counts[label] > 0 for label in clips.labels)
    return torch.tensor([len(rows) / (classes * max(counts[label], 1)) for label in clips.labels])


def _tell_what_is_kept(error: NotFiniteError, resume: Path) -> NotFiniteError:
    checkpoints = list_checkpoints(resume)
    if checkpoints:
        error.remedy += f"; the weights before that epoch are in {checkpoints[0]}"
    return error


def _complete(card: ModelCard, progress: Progress, team: Team) -> ModelCard:
    """Add to a card what is known at the end."""
    epoch = progress.best.epoch if progress.best else len(progress.history)
    return card.model_copy(
        update={
            "processes": team.size,
            "epoch": epoch,
            "halvings": progress.micro.halvings,
            "started_from_sha256": progress.started_from,
        }
    )


def _write_outcome(
    model: torch.nn.Module, card: ModelCard, clips: Clips, history: list[Epoch], paths: Paths
) -> ModelCard:
    trained_on = [row.frames_sha256 for row in clips.sides["train"].rows]
    with atomic_folder(paths.model) as folder:
        card = save_model(folder, model, card, trained_on=trained_on)
    _write_reports(paths.reports, history, card)
    return card


def _write_reports(reports: Path, history: list[Epoch], card: ModelCard) -> None:
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


def _warn(error: InputError) -> None:
    sys.stderr.write(f"not used: {error}\n")


def _ignore(_error: InputError) -> None:
    """The first process of the team tells."""


def main(tensors: Path, model: Path, reports: Path) -> None:
    """Train on TENSORS and write the MODEL folder and the REPORTS."""
    processes = wanted_processes()
    if processes > 1 and not is_in_team():
        from kinetrack.learning.launching import launch  # half a second that one process saves

        arguments = [str(path) for path in (tensors, model, reports)]
        launch("kinetrack.stages.train", arguments, processes=processes)
        return
    device = choose_device()
    with joined_team(device) as team:
        train_and_track(_load_settings(), tensors, model, reports, device=device, team=team)


def _load_settings() -> Settings:
    return Settings(
        decoding=load_part(Decoding, "frames"),
        pack=load_section(ClipGeometry, "pack"),
        input=load_section(ClipInput, "input"),
        augment=load_section(AugmentParams, "augment"),
        model=load_section(ModelParams, "model"),
        train=load_section(TrainParams, "train"),
    )


def train_and_track(
    settings: Settings,
    tensors: Path,
    model: Path,
    reports: Path,
    *,
    device: torch.device,
    team: Team,
) -> None:
    """Train, with checkpoints that outlive a kill and an MLflow run that is continued."""
    values = load_params()
    arguments = {"tensors": tensors, "model": model, "reports": reports}
    with open_resume(values, arguments, device=device, team=team) as resume:
        with open_run(values, tensors=tensors, device=device, team=team, resume=resume) as tracked:

            def on_start(history: Sequence[Epoch]) -> None:
                if team.is_first:
                    typer.echo(resume.describe_start(len(history)))
                tracked.log_history([(epoch.number, epoch.metrics()) for epoch in history])

            def on_epoch(epoch: Epoch) -> None:
                if team.is_first:
                    typer.echo(describe_epoch(epoch))
                tracked.log_epoch(epoch.number, epoch.metrics())

            outcome = train_model(
                settings,
                Paths(tensors, model, reports, resume.folder),
                device=device,
                team=team,
                on_start=on_start,
                on_epoch=on_epoch,
            )
            if team.is_first:
                log_outcome(tracked, outcome.card, model_folder=model)
        # After the run has ended: killed before this, the next start finds it and ends it.
        if team.is_first:
            resume.finish()


if __name__ == "__main__":
    run("train")
