"""One epoch of training and one evaluation: batches in, steps of the optimiser and scores out."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kinetrack.errors import InputError
from kinetrack.learning.augment import AugmentParams, augment, mix
from kinetrack.learning.batches import Batch
from kinetrack.learning.inputs import ClipInput, normalise, to_input, to_values
from kinetrack.learning.memory import MicroBatch, is_out_of_memory
from kinetrack.learning.processes import Team

Precision = Literal["fp32", "bf16"]


class NotFiniteError(InputError):
    """A loss or a gradient is infinite or no number; the step that would follow was not taken."""


class Score(NamedTuple):
    """Mean loss (nats) and share of right answers over `num_clips` clips."""

    loss: float
    accuracy: float
    num_clips: int


class Recipe(NamedTuple):
    """How a batch becomes a step of the optimiser.

    `class_weights` (K,) has a mean of 1 over the training clips; `clip_gradient` is the longest
    gradient (its Euclidean norm).
    """

    input: ClipInput
    augment: AugmentParams | None = None
    precision: Precision = "fp32"
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    clip_gradient: float | None = None


class Pass(NamedTuple):
    """One pass over the training clips; of its seconds, `load_s` went into waiting for clips.

    `learning_rate` is that of its last step.
    """

    score: Score
    learning_rate: float
    seconds: float
    load_s: float


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimiser: Optimizer,
    scheduler: LRScheduler,
    *,
    recipe: Recipe,
    micro: MicroBatch,
    device: torch.device,
    team: Team,
) -> Pass:
    """Take one optimiser step a batch; the score is that of the clips as they were trained on.

    A batch goes through the network in parts of `micro.size` clips, their gradients summed: the
    gradient of the whole batch with the memory of a part (for networks without batch norm; with
    it, statistics are those of a part). A device without memory for a part gets smaller ones.

    Raises:
        NotFiniteError: a loss or a gradient is not finite.
        InputError: a clip cannot be read, or the memory does not suffice for a single one.
    """
    model.train()
    weights = [values for values in model.parameters() if values.requires_grad]
    total, start_s, waits, rate = _Sums(), time.perf_counter(), _Waits(), 0.0
    for batch in waits.of(batches):
        sums = _add_gradients_or_shrink(model, batch, recipe, micro, device)
        team.add_up_gradients(weights)
        sums = _Sums(*team.add_up(sums))
        check_finite(sums.loss, "training loss")
        _limit_gradient(weights, recipe.clip_gradient)
        optimiser.step()
        rate = float(scheduler.get_last_lr()[0])
        scheduler.step()
        total = total.add(sums)
    return Pass(total.score(), rate, time.perf_counter() - start_s, waits.seconds)


def _add_gradients_or_shrink(
    model: nn.Module,
    batch: Batch,
    recipe: Recipe,
    micro: MicroBatch,
    device: torch.device,
) -> "_Sums":
    """Compute the gradient of a batch; again in smaller parts where memory runs out."""
    while True:
        model.zero_grad(set_to_none=True)
        try:
            return _add_gradients(model, batch, recipe, micro.size, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: what the error holds must be free before the next attempt.
        micro.halve()


def _add_gradients(
    model: nn.Module, batch: Batch, recipe: Recipe, size: int, device: torch.device
) -> "_Sums":
    tally = _Tally(device)
    for part in batch.split(size):
        targets = part.targets.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = model(_prepare(part, recipe, device))
        loss = _objective(logits.float(), targets, part, recipe)
        torch.autograd.backward(loss / batch.whole_size)
        tally.add(loss.detach(), logits.detach(), targets)
    return tally.sums()


def _prepare(part: Batch, recipe: Recipe, device: torch.device) -> Tensor:
    """What the network is fed: values (N, C, T, H, W), augmented, mixed and normalised."""
    values = _augmented(part, recipe, device)
    if part.partners is not None and part.weights is not None:
        values = mix(values, _augmented(part.partners, recipe, device), part.weights.to(device))
    return normalise(values, recipe.input)


def _augmented(part: Batch, recipe: Recipe, device: torch.device) -> Tensor:
    values = to_values(part.clips, device)
    return values if recipe.augment is None else augment(values, part.draws, recipe.augment)


def _objective(logits: Tensor, targets: Tensor, part: Batch, recipe: Recipe) -> Tensor:
    """The loss that is minimised, summed over the clips.

    Without the extras it is that of the lecture: log-softmax and negative log-likelihood.
    """
    losses = _losses(logits, targets, recipe)
    if part.partners is not None and part.weights is not None:
        weights = part.weights.to(logits)
        others = _losses(logits, part.partners.targets.to(targets.device), recipe)
        losses = weights * losses + (1 - weights) * others
    return losses.sum()


def _losses(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    losses = F.cross_entropy(
        logits, targets, reduction="none", label_smoothing=recipe.label_smoothing
    )
    if recipe.class_weights is not None:
        losses = losses * recipe.class_weights.to(logits)[targets]
    return losses


def _limit_gradient(weights: Sequence[Tensor], longest: float | None) -> None:
    gradients = [values.grad for values in weights if values.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    check_finite(float(norm), "gradient")
    if longest is not None:
        torch.nn.utils.clip_grads_with_norm_(weights, longest, norm)


def score(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    recipe: Recipe,
    micro: MicroBatch,
    device: torch.device,
    team: Team,
) -> Score:
    """Score a model on every clip of some batches, without changing it.

    The loss is the plain cross-entropy, whatever extras training uses.
    """
    tally = _Tally(device)
    for logits, targets in _answers(model, batches, recipe, micro, device):
        tally.add(F.cross_entropy(logits, targets, reduction="sum"), logits, targets)
    return _Sums(*team.add_up(tally.sums())).score()


def predict_logits(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    recipe: Recipe,
    micro: MicroBatch,
    device: torch.device,
) -> Tensor:
    """Logits (N, K) float64 on the CPU, in the order of the clips."""
    answers = _answers(model, batches, recipe, micro, device)
    return torch.cat([logits.cpu().double() for logits, _ in answers])


@torch.inference_mode()
def _answers(
    model: nn.Module,
    batches: Iterable[Batch],
    recipe: Recipe,
    micro: MicroBatch,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (N, K) float32 and class indices (N,) of each batch."""
    model.eval()
    for batch in batches:
        parts = _answers_or_shrink(model, batch, recipe, micro, device)
        if parts:
            yield torch.cat(parts), batch.targets.to(device)


def _answers_or_shrink(
    model: nn.Module, batch: Batch, recipe: Recipe, micro: MicroBatch, device: torch.device
) -> list[Tensor]:
    while True:
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                return [
                    model(to_input(part.clips, device, recipe.input)).float()
                    for part in batch.split(micro.size)
                ]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        micro.halve()


class _Sums(NamedTuple):
    """Sums over clips, divided once at the end."""

    loss: float = 0.0
    right: float = 0
    num_clips: float = 0

    def add(self, other: "_Sums") -> "_Sums":
        return _Sums(*(one + another for one, another in zip(self, other, strict=True)))

    def score(self) -> Score:
        return Score(self.loss / self.num_clips, self.right / self.num_clips, int(self.num_clips))


class _Tally:
    """Sums on the device: fetched once, since each look would make a GPU wait."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._num_clips = 0

    def add(self, loss_sum: Tensor, logits: Tensor, targets: Tensor) -> None:
        right = (logits.argmax(dim=1) == targets).sum()
        self._sums = self._sums + torch.stack([loss_sum.double(), right.double()])
        self._num_clips += len(targets)

    def sums(self) -> _Sums:
        loss, right = self._sums.tolist()
        return _Sums(loss, right, self._num_clips)


class _Waits:
    """Counts the seconds until each batch is there."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        source = iter(batches)
        while True:
            start_s = time.perf_counter()
            batch = next(source, None)
            self.seconds += time.perf_counter() - start_s
            if batch is None:
                return
            yield batch


def check_finite(value: float, name: str) -> None:
    """Refuse to go on with a loss or a gradient that is infinite or no number.

    Raises:
        NotFiniteError: so it is.
    """
    if not math.isfinite(value):
        raise NotFiniteError(
            "params.yaml",
            f"the {name} is no longer finite",
            found=value,
            remedy="lower train.learning_rate, or set train.clip_gradient",
        )
