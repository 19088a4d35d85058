from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kinetrack.data.tensors import read_sides
from kinetrack.learning.batches import ClipBatches
from kinetrack.learning.device import make_repeatable
from kinetrack.learning.fitting import Epoch, Progress, best_epoch, fit, is_out_of_patience
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.learning.optimising import make_optimiser, make_scheduler
from kinetrack.learning.packed_clips import PackedClips
from kinetrack.learning.processes import alone
from kinetrack.learning.training import Recipe, Score, predict_logits

from factories import GEOMETRY, NO_AUGMENTATION, PLAIN_INPUT, write_packed

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("torch_settings")


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    return write_packed(tmp_path)


def batches_of(
    tensors: Path, side: str, *, seed: int | None = None, loaders: int = 0
) -> ClipBatches:
    clips = PackedClips(
        read_sides(tensors)[side],
        labels=["Jump", "Walk"],
        geometry=GEOMETRY,
        augment=None if seed is None else NO_AUGMENTATION,
    )
    return ClipBatches(clips, batch_size=4, team=alone(CPU), shuffle_seed=seed, loaders=loaders)


class DropoutNet(nn.Sequential):
    """A network that draws from torch's own generator."""

    def __init__(self) -> None:
        super().__init__(Small3dCnn(num_classes=4), nn.Dropout(), nn.Linear(4, 2))


def fit_net(
    tensors: Path,
    *,
    loaders: int = 0,
    seed: int = 0,
    watch: tuple[str, ...] = (),
    epochs: int = 3,
    on_epoch: Any = lambda progress: None,
    **choices: Any,
) -> Progress:
    make_repeatable(seed=seed, threads=1)
    model = DropoutNet()
    optimiser = make_optimiser("adam", model, learning_rate=0.01)
    scheduler = make_scheduler(optimiser, "constant", epochs=epochs, steps_per_epoch=2)
    progress = Progress(model, optimiser, scheduler, MicroBatch(2))
    fit(
        progress,
        batches_of(tensors, "train", seed=seed, loaders=loaders),
        watch={side: batches_of(tensors, side) for side in watch},
        recipe=Recipe(PLAIN_INPUT, NO_AUGMENTATION),
        epochs=epochs,
        seed=seed,
        keep=choices.get("keep", "last"),
        patience=choices.get("patience"),
        device=CPU,
        team=alone(CPU),
        on_epoch=on_epoch,
    )
    return progress


def same_weights(first: Progress, second: Progress) -> bool:
    states = [progress.model.state_dict() for progress in (first, second)]
    return all(torch.equal(values, states[1][name]) for name, values in states[0].items())


def test_same_seed_gives_the_same_weights_bit_for_bit(tensors: Path) -> None:
    first, again, other = (fit_net(tensors, seed=seed) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert [epoch.scores for epoch in first.history] == [epoch.scores for epoch in again.history]
    assert not same_weights(first, other)


def test_loader_processes_change_nothing(tensors: Path) -> None:
    """Nor what dropout draws, although a loader of torch would draw a seed from its generator."""
    assert same_weights(fit_net(tensors), fit_net(tensors, loaders=1))


def test_learning_rate_of_an_epoch_is_that_of_its_last_step(tensors: Path) -> None:
    assert [epoch.learning_rate for epoch in fit_net(tensors).history] == [0.01] * 3


def test_watching_sides_does_not_change_the_model(tensors: Path) -> None:
    alone_, watched = fit_net(tensors), fit_net(tensors, watch=("val", "test"))
    assert same_weights(alone_, watched)
    assert [list(epoch.scores) for epoch in watched.history] == [["train", "val", "test"]] * 3


def test_side_is_scored_after_the_epoch_with_fixed_statistics(tensors: Path) -> None:
    progress = fit_net(tensors, watch=("val",))
    probabilities = predict_logits(
        progress.model,
        batches_of(tensors, "val").of_epoch(0),
        recipe=Recipe(PLAIN_INPUT),
        micro=MicroBatch(6),
        device=CPU,
    ).softmax(dim=1)
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    losses = -probabilities[torch.arange(6), targets].log()
    found = progress.history[-1].scores["val"]
    assert found.loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found.accuracy == float((probabilities.argmax(dim=1) == targets).double().mean())
    assert found.num_clips == 6


def test_every_epoch_is_told_once(tensors: Path) -> None:
    told: list[int] = []
    progress = fit_net(tensors, on_epoch=lambda progress: told.append(len(progress.history)))
    assert told == [1, 2, 3]
    assert [epoch.number for epoch in progress.history] == told


def test_metrics_of_an_epoch_are_named_by_side() -> None:
    scores = {"train": Score(0.5, 0.75, 8), "val": Score(0.6, 0.5, 4)}
    assert Epoch(3, scores, 0.001, 2.0, 0.5).metrics() == {
        "train/loss": 0.5,
        "train/accuracy": 0.75,
        "val/loss": 0.6,
        "val/accuracy": 0.5,
        "train/learning_rate": 0.001,
        "train/seconds": 2.0,
        "train/clips_per_s": 4.0,
        "train/load_share": 0.25,
    }


def history(*scores: tuple[float, float]) -> list[Epoch]:
    """Epochs with these validation accuracies and losses."""
    return [
        Epoch(number, {"val": Score(loss, accuracy, 9)}, 0.1, 1.0, 0.0)
        for number, (accuracy, loss) in enumerate(scores, start=1)
    ]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0)], 1),
        ([(0.5, 1.0), (0.6, 2.0), (0.4, 0.1)], 2),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 1.1)], 2),
        ([(0.5, 1.0), (0.5, 1.0)], 1),
    ],
)
def test_best_epoch_is_the_most_accurate_then_the_surest(
    scores: list[tuple[float, float]], best: int
) -> None:
    assert best_epoch(history(*scores)) == best


@pytest.mark.parametrize(
    ("accuracies", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4, 0.3], 3, False),
        ([0.5, 0.4, 0.3, 0.2], 3, True),
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.4, 0.3, 0.2], None, False),
    ],
)
def test_patience_counts_epochs_since_the_best(
    accuracies: list[float], patience: int | None, *, over: bool
) -> None:
    epochs = history(*((accuracy, 1.0) for accuracy in accuracies))
    assert is_out_of_patience(epochs, patience) is over
