"""The whole training: epochs, what is kept of them, and when to stop."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kinetrack.learning.batches import ClipBatches
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.processes import Team
from kinetrack.learning.seeds import derive_seed
from kinetrack.learning.training import (
    Recipe,
    Score,
    check_finite,
    score,
    train_one_epoch,
)

Keep = Literal["last", "best"]


class Epoch(NamedTuple):
    """One epoch: the score of every side that was looked at, and how its training went.

    `learning_rate` is that of its last step; of `train_seconds`, `load_seconds` went into waiting
    for clips.
    """

    number: int
    scores: dict[str, Score]
    learning_rate: float
    train_seconds: float
    load_seconds: float

    def metrics(self) -> dict[str, float]:
        """Figures named as `train/loss`, `val/accuracy`, the speed of training included."""
        named = {}
        for side, found in self.scores.items():
            named[f"{side}/loss"] = found.loss
            named[f"{side}/accuracy"] = found.accuracy
        named["train/learning_rate"] = self.learning_rate
        named["train/seconds"] = self.train_seconds
        named["train/clips_per_s"] = self.scores["train"].num_clips / self.train_seconds
        named["train/load_share"] = self.load_seconds / self.train_seconds
        return named


class Best(NamedTuple):
    """The weights after the epoch with the best validation score."""

    epoch: int
    weights: dict[str, Tensor]


class Progress:
    """A training between two epochs: all that it needs to go on."""

    def __init__(
        self, model: nn.Module, optimiser: Optimizer, scheduler: LRScheduler, micro: MicroBatch
    ) -> None:
        self.model = model
        self.optimiser = optimiser
        self.scheduler = scheduler
        self.micro = micro
        self.history: list[Epoch] = []
        self.best: Best | None = None
        self.started_from = ""
        """Sha256 of the file with the first weights; empty for fresh ones."""


def fit(
    progress: Progress,
    train: ClipBatches,
    *,
    watch: Mapping[str, ClipBatches],
    recipe: Recipe,
    epochs: int,
    seed: int,
    keep: Keep,
    patience: int | None,
    device: torch.device,
    team: Team,
    on_epoch: Callable[[Progress], None],
) -> None:
    """Train up to some number of epochs, from where `progress` stands.

    After each one the sides of `watch` are scored and `on_epoch` is called. With `keep` "best" the
    model ends with the weights of the best epoch: highest validation accuracy, then lowest loss.
    After `patience` epochs in a row that were not better than the best, training ends.

    Raises:
        NotFiniteError: a loss or a gradient is not finite.
        InputError: a clip cannot be read, or the memory does not suffice.
    """
    while len(progress.history) < epochs and not is_out_of_patience(progress.history, patience):
        number = len(progress.history) + 1
        # Dropout draws from torch's own generator: the same in a training that was resumed.
        torch.manual_seed(derive_seed("network", seed, number, team.rank))
        progress.history.append(
            _one_epoch(
                progress, number, train, watch=watch, recipe=recipe, device=device, team=team
            )
        )
        if keep == "best" and best_epoch(progress.history) == number:
            progress.best = Best(number, _copy_weights(progress.model))
        on_epoch(progress)
    if progress.best is not None:
        progress.model.load_state_dict(progress.best.weights)


def _one_epoch(
    progress: Progress,
    number: int,
    train: ClipBatches,
    *,
    watch: Mapping[str, ClipBatches],
    recipe: Recipe,
    device: torch.device,
    team: Team,
) -> Epoch:
    model, micro = progress.model, progress.micro
    trained = train_one_epoch(
        model,
        train.of_epoch(number),
        progress.optimiser,
        progress.scheduler,
        recipe=recipe,
        micro=micro,
        device=device,
        team=team,
    )
    team.average_buffers(model)
    scores = {"train": trained.score}
    for side, batches in watch.items():
        scores[side] = score(
            model, batches.of_epoch(number), recipe=recipe, micro=micro, device=device, team=team
        )
        check_finite(scores[side].loss, f"{side} loss")
    # A process that had to take smaller parts makes the whole training one of its kind.
    micro.halvings = team.largest(micro.halvings)
    return Epoch(number, scores, trained.learning_rate, trained.seconds, trained.load_s)


def best_epoch(history: list[Epoch]) -> int:
    """Number of the epoch with the highest validation accuracy; of equal ones the lowest loss.

    Of equal ones by both, the first.
    """
    scores = [(epoch.scores["val"].accuracy, -epoch.scores["val"].loss) for epoch in history]
    return scores.index(max(scores)) + 1


def is_out_of_patience(history: list[Epoch], patience: int | None) -> bool:
    """Whether the last `patience` epochs were all not better than one before."""
    if patience is None or not history:
        return False
    return len(history) - best_epoch(history) >= patience


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}
