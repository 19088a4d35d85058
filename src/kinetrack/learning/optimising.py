"""Optimisers and learning-rate schedules, as torch has them, by the names that params use."""

from typing import Literal

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from kinetrack.errors import InputError

OptimiserName = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine", "one_cycle", "step"]

_STEP_FACTOR = 0.1
_FEWEST_STEPS_UP = 2
# Warm-up starts at this share of the rate; 0 would waste the first step.
_WARM_UP_FROM = 0.01


def make_optimiser(
    name: OptimiserName,
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> Optimizer:
    """Make an optimiser of the trainable weights of a model.

    Biases and the scales of norms are not decayed: pulling them to 0 does not make a network
    smoother. `momentum` is that of SGD (Nesterov's); Adam and AdamW have their own.
    """
    groups = _group_weights(model, weight_decay=weight_decay)
    match name:
        case "adam":
            return Adam(groups, lr=learning_rate)
        case "adamw":
            return AdamW(groups, lr=learning_rate)
        case "sgd":
            return SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)


def _group_weights(model: nn.Module, *, weight_decay: float) -> list[dict[str, object]]:
    trainable = [weights for weights in model.parameters() if weights.requires_grad]
    if not weight_decay:
        return [{"params": trainable, "weight_decay": 0.0}]
    decayed: list[Tensor] = [weights for weights in trainable if weights.ndim > 1]
    others: list[Tensor] = [weights for weights in trainable if weights.ndim <= 1]
    groups = [(decayed, weight_decay), (others, 0.0)]
    return [{"params": members, "weight_decay": decay} for members, decay in groups if members]


def make_scheduler(
    optimiser: Optimizer,
    schedule: Schedule,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: int = 0,
    step_epochs: int | None = None,
) -> LRScheduler:
    """Let the learning rate follow a schedule, one step of it for each step of the optimiser.

    The optimiser's rate is reached at the end of the warm-up, which rises linearly. Then:

    - "constant": it stays.
    - "cosine": it falls towards 0 along half a cosine (Loshchilov and Hutter 2017, no restarts).
    - "step": a tenth after every `step_epochs`.
    - "one_cycle": it rises and falls along cosines (Smith and Topin 2018); the warm-up is its rise.

    Raises:
        InputError: one_cycle with a single step of warm-up.
    """
    warmup, total = warmup_epochs * steps_per_epoch, epochs * steps_per_epoch
    if schedule == "one_cycle":
        if warmup < _FEWEST_STEPS_UP:
            raise InputError(
                "params.yaml",
                "schedule one_cycle has too few steps to rise in",
                found=warmup,
                expected=f"at least {_FEWEST_STEPS_UP}",
                remedy="raise train.warmup_epochs, or lower train.batch_size",
            )
        rates = [group["lr"] for group in optimiser.param_groups]
        share = warmup / total
        return OneCycleLR(optimiser, rates, total, pct_start=share, cycle_momentum=False)
    if warmup == 0:
        return _after_warmup(optimiser, schedule, total, step_epochs, steps_per_epoch)
    rise = LinearLR(optimiser, start_factor=_WARM_UP_FROM, total_iters=warmup)
    rest = _after_warmup(optimiser, schedule, total - warmup, step_epochs, steps_per_epoch)
    return SequentialLR(optimiser, [rise, rest], [warmup])


def _after_warmup(
    optimiser: Optimizer,
    schedule: Schedule,
    steps: int,
    step_epochs: int | None,
    steps_per_epoch: int,
) -> LRScheduler:
    if schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=steps)
    if schedule == "step" and step_epochs:
        return StepLR(optimiser, step_epochs * steps_per_epoch, gamma=_STEP_FACTOR)
    return ConstantLR(optimiser, factor=1.0, total_iters=0)
