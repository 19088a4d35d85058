"""What a training needs before its first epoch: clips, network, batches, optimiser, recipe."""

from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import Side
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.batches import ClipBatches
from kinetrack.learning.checkpoint import ModelCard, to_channels_last
from kinetrack.learning.device import count_loaders, keeps_clips_on_device
from kinetrack.learning.fitting import Progress
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.mirroring import mirror_classes
from kinetrack.learning.models import build_model
from kinetrack.learning.models.cost import count_gflop, count_parameters
from kinetrack.learning.models.pretrained import freeze_backbone
from kinetrack.learning.optimising import make_optimiser, make_scheduler
from kinetrack.learning.packed_clips import PackedClips
from kinetrack.learning.precision import spare_short_convolutions
from kinetrack.learning.processes import Team
from kinetrack.learning.training import Recipe
from kinetrack.stages.train_params import Settings, TrainParams


class Clips(NamedTuple):
    """The packed clips of each side, and the sorted class names."""

    sides: dict[Side, PackedSide]
    labels: list[str]


def read_clips(tensors: Path, *, watch: list[Literal["val", "test"]]) -> Clips:
    """Read which packed clips there are.

    Raises:
        InputError: their index cannot be used, a side that is asked for is empty, or there is one
            class only.
    """
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


def make_model(
    settings: Settings, clips: Clips, *, device: torch.device
) -> tuple[nn.Module, ModelCard]:
    """Build the network on the device, with weights of chance, and describe it.

    Raises:
        InputError: the clips are too small for it.
    """
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
    to_channels_last(model).to(device)
    if settings.train.precision == "bf16" and device.type == "cpu":
        spare_short_convolutions(model)
    return model, card


def _describe(model: nn.Module, settings: Settings, clips: Clips) -> ModelCard:
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


def make_batches(
    settings: Settings, clips: Clips, *, device: torch.device, team: Team
) -> tuple[ClipBatches, dict[str, ClipBatches]]:
    """Return the clips to train on, and those of the sides to watch.

    Raises:
        InputError: they were packed by another geometry.
    """
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


def begin(model: nn.Module, params: TrainParams, *, steps_per_epoch: int) -> Progress:
    """Return a training before its first epoch: an optimiser, and how its rate will go on."""
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


def make_recipe(settings: Settings, clips: Clips) -> Recipe:
    """Return how each batch is trained on."""
    params, flip = settings.train, settings.augment.flip
    return Recipe(
        input=settings.input,
        augment=settings.augment,
        precision=params.precision,
        label_smoothing=params.label_smoothing,
        class_weights=_balance(clips, flip=flip) if params.class_weights == "balanced" else None,
        clip_gradient=params.clip_gradient,
    )


def _balance(clips: Clips, *, flip: float) -> torch.Tensor:
    """Weights (K,) by which all classes count the same; their mean over the clips is 1."""
    rows, counts = clips.sides["train"].rows, _count_trained(clips, flip=flip)
    classes = sum(count > 0 for count in counts)
    return torch.tensor([len(rows) / (classes * max(count, 1)) for count in counts])


def _count_trained(clips: Clips, *, flip: float) -> list[float]:
    """How many clips of each class are trained in an epoch: some are of another in a mirror."""
    named = Counter(row.label for row in clips.sides["train"].rows)
    counts = [named[label] for label in clips.labels]
    return [
        count if mirrored == own else (1 - flip) * count + flip * counts[mirrored]
        for own, (count, mirrored) in enumerate(
            zip(counts, mirror_classes(clips.labels), strict=True)
        )
    ]
