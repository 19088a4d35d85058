"""The training loop: epochs over packed clips, one optimiser step a batch."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler
from torch.utils.data import DataLoader

from kinetrack.errors import InputError
from kinetrack.learning.batches import Batch

Schedule = Literal["constant", "cosine"]


class Score(NamedTuple):
    """Mean loss (nats) and share of right answers over `num_clips` clips."""

    loss: float
    accuracy: float
    num_clips: int


class Epoch(NamedTuple):
    """One epoch: the score of every side that was looked at, and how long its training took."""

    number: int
    scores: dict[str, Score]
    train_seconds: float

    def metrics(self) -> dict[str, float]:
        """Figures named as `train/loss`, `val/accuracy`, the speed of training included."""
        named = {}
        for side, score in self.scores.items():
            named[f"{side}/loss"] = score.loss
            named[f"{side}/accuracy"] = score.accuracy
        named["train/seconds"] = self.train_seconds
        named["train/clips_per_s"] = self.scores["train"].num_clips / self.train_seconds
        return named


def fit(
    model: nn.Module,
    train: DataLoader[Batch],
    *,
    watch: dict[str, DataLoader[Batch]],
    optimiser: Optimizer,
    schedule: Schedule,
    epochs: int,
    micro_batch: int,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train for some epochs; after each one, score the sides of `watch` and call `on_epoch`.

    Raises:
        InputError: a loss or a gradient is not finite.
    """
    scheduler = make_scheduler(optimiser, schedule, epochs=epochs)
    history = []
    for number in range(1, epochs + 1):
        start = time.perf_counter()
        scores = {"train": train_one_epoch(model, train, optimiser, micro_batch, device)}
        seconds = time.perf_counter() - start
        for side, loader in watch.items():
            scores[side] = score(model, loader, micro_batch=micro_batch, device=device)
            _check_finite(scores[side].loss, f"{side} loss")
        scheduler.step()
        history.append(Epoch(number, scores, seconds))
        on_epoch(history[-1])
    return history


def make_scheduler(optimiser: Optimizer, schedule: Schedule, *, epochs: int) -> LRScheduler:
    """Follow a learning rate over the epochs, one step an epoch.

    "cosine" falls from the optimiser's rate along half a cosine towards 0 (Loshchilov and Hutter
    2017, without restarts).
    """
    match schedule:
        case "constant":
            return ConstantLR(optimiser, factor=1.0)
        case "cosine":
            return CosineAnnealingLR(optimiser, T_max=epochs)


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader[Batch],
    optimiser: Optimizer,
    micro_batch: int,
    device: torch.device,
) -> Score:
    """Take one optimiser step a batch; the score is that of the clips as they were trained on.

    A batch goes through the network in parts of `micro_batch` clips, their gradients summed: the
    gradient of the whole batch with the memory of a part (for networks without batch norm; with
    it, statistics are those of a part).

    Raises:
        InputError: loss or gradient is not finite; the step that would follow is not taken.
    """
    model.train()
    total = _Sums()
    for batch in loader:
        optimiser.zero_grad(set_to_none=True)
        for clips, targets in _parts(batch, micro_batch, device):
            logits = model(clips)
            # The loss of the lecture: log-softmax and negative log-likelihood, averaged.
            loss = F.cross_entropy(logits, targets, reduction="sum")
            torch.autograd.backward(loss / len(batch.targets))
            total = total.add(loss.detach(), logits.detach(), targets)
        _check_finite(total.loss, "training loss")
        _check_finite(_gradient_norm(model), "gradient")
        optimiser.step()
    return total.score()


@torch.inference_mode()
def score(
    model: nn.Module, loader: DataLoader[Batch], *, micro_batch: int, device: torch.device
) -> Score:
    """Score a model on every clip of a loader, without changing it."""
    model.eval()
    total = _Sums()
    for batch in loader:
        for clips, targets in _parts(batch, micro_batch, device):
            logits = model(clips)
            loss = F.cross_entropy(logits, targets, reduction="sum")
            total = total.add(loss, logits, targets)
    return total.score()


@torch.inference_mode()
def predict_probabilities(
    model: nn.Module, loader: DataLoader[Batch], *, micro_batch: int, device: torch.device
) -> Tensor:
    """Class probabilities (N, K) float64 on the CPU, in the order of the loader."""
    model.eval()
    parts = (model(clips) for batch in loader for clips, _ in _parts(batch, micro_batch, device))
    return torch.cat([F.softmax(logits.cpu().double(), dim=1) for logits in parts])


def to_input(clips: Tensor, device: torch.device) -> Tensor:
    """Bytes uint8 (N, C, T, H, W) to values in [0, 1] on the device, in channels-last memory."""
    on_device = clips.to(device, non_blocking=True)
    return on_device.to(torch.float32, memory_format=torch.channels_last_3d).div_(255)


def _parts(batch: Batch, micro_batch: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for clips, targets in zip(
        torch.split(batch.clips, micro_batch), torch.split(batch.targets, micro_batch), strict=True
    ):
        yield to_input(clips, device), targets.to(device)


class _Sums(NamedTuple):
    """Sums over clips, divided once at the end."""

    loss: float = 0.0
    right: int = 0
    num_clips: int = 0

    def add(self, loss_sum: Tensor, logits: Tensor, targets: Tensor) -> "_Sums":
        right = int((logits.argmax(dim=1) == targets).sum())
        return _Sums(self.loss + float(loss_sum), self.right + right, self.num_clips + len(targets))

    def score(self) -> Score:
        return Score(self.loss / self.num_clips, self.right / self.num_clips, self.num_clips)


def _gradient_norm(model: nn.Module) -> float:
    gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def _check_finite(value: float, name: str) -> None:
    if not math.isfinite(value):
        raise InputError(
            "params.yaml",
            f"the {name} is no longer finite",
            found=value,
            remedy="lower train.learning_rate",
        )
