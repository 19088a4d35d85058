import copy
import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from kinetrack.errors import InputError
from kinetrack.learning.batches import Batch, collate
from kinetrack.learning.device import make_repeatable
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.learning.training import (
    Epoch,
    Schedule,
    Score,
    fit,
    make_scheduler,
    predict_probabilities,
    score,
    to_input,
    train_one_epoch,
)

CPU = torch.device("cpu")
NUM_CLASSES = 3
State = dict[str, Tensor]


def draw_batches(*sizes: int, num_frames: int = 4, size_px: int = 8) -> list[Batch]:
    """Batches of noise, the same on every call: all that a loop asks of a loader."""
    generator = torch.Generator().manual_seed(0)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    return [
        collate(
            [
                (draw(256, num_frames, size_px, size_px, 3).byte(), int(draw(NUM_CLASSES, 1)))
                for _ in range(size)
            ]
        )
        for size in sizes
    ]


def plain_net(seed: int = 0) -> nn.Sequential:
    """A network without batch norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 2 * 6 * 6, NUM_CLASSES)
        )


def norm_net(seed: int = 0) -> Small3dCnn:
    """A network with batch norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Small3dCnn(num_classes=NUM_CLASSES)


def state_of(model: nn.Module) -> State:
    return copy.deepcopy(model.state_dict())


def equal(first: State, second: State) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def plain_score(model: nn.Module, batches: Iterable[Batch]) -> Score:
    """The same figures without sums over parts: all clips at once, in double precision."""
    clips = torch.cat([batch.clips for batch in batches]).double() / 255
    targets = torch.cat([batch.targets for batch in batches])
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(clips)
    losses = [
        -float(row.log_softmax(0)[target]) for row, target in zip(logits, targets, strict=True)
    ]
    right = [int(row.argmax()) == int(target) for row, target in zip(logits, targets, strict=True)]
    return Score(sum(losses) / len(losses), sum(right) / len(right), len(right))


def approx(expected: Score) -> object:
    return pytest.approx(tuple(expected), rel=1e-5)


def train(
    model: nn.Module, batches: list[Batch], *, micro_batch: int = 4, learning_rate: float = 0.1
) -> Score:
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate)
    return train_one_epoch(model, batches, optimiser, micro_batch, CPU)


@pytest.mark.parametrize("sizes", [(4, 4, 1), (5,), (4, 3), (1,)])
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_score_counts_every_clip_once(sizes: tuple[int, ...], micro_batch: int) -> None:
    batches, model = draw_batches(*sizes), plain_net()
    found = score(model, batches, micro_batch=micro_batch, device=CPU)
    assert found == approx(plain_score(model, batches))


@pytest.mark.parametrize("sizes", [(4, 4, 1), (5,), (4, 3)])
def test_training_score_counts_every_clip_once(sizes: tuple[int, ...]) -> None:
    batches, model = draw_batches(*sizes), plain_net()
    expected = plain_score(model, batches)
    assert train(model, batches, learning_rate=0.0) == approx(expected)


def test_training_score_is_taken_before_each_step() -> None:
    (batch,), model = draw_batches(6), plain_net()
    expected = plain_score(model, [batch])
    assert train(model, [batch]) == approx(expected)
    assert plain_score(model, [batch]).loss < expected.loss


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5])
def test_parts_of_a_batch_make_the_step_of_the_whole(micro_batch: int) -> None:
    batches = draw_batches(8, 8, 3)
    whole, parts = plain_net(), plain_net()
    train(whole, batches, micro_batch=8)
    train(parts, batches, micro_batch=micro_batch)
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], weights, atol=1e-5, rtol=0)


def test_every_batch_takes_one_step_down_its_mean_loss() -> None:
    batches, model, twin = draw_batches(6, 3), plain_net(), plain_net()
    train(model, batches, micro_batch=4, learning_rate=0.5)
    for batch in batches:
        loss = nn.functional.cross_entropy(twin(batch.clips.float() / 255), batch.targets)
        weights = list(twin.parameters())
        with torch.no_grad():
            for values, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                values.sub_(0.5 * gradient)
    for name, expected in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], expected, atol=1e-6, rtol=1e-5)


class NanOnWhite(nn.Module):
    """A network whose loss is not a number for a batch that holds a white pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain_net()

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.net(clips)
        return logits * math.nan if clips.max() == 1 else logits


def dark_batches(*sizes: int) -> list[Batch]:
    return [Batch(batch.clips.clamp(max=254), batch.targets) for batch in draw_batches(*sizes)]


def test_loss_that_is_no_number_stops_before_the_step() -> None:
    good, bad = dark_batches(4, 4)
    bad.clips[3] = 255  # in the second of two parts
    model, reference = NanOnWhite(), NanOnWhite()
    train(reference, [good], micro_batch=2)
    with pytest.raises(InputError, match=r"no longer finite, found nan -> lower train\.learning_"):
        train(model, [good, bad, good], micro_batch=2)
    assert equal(model.state_dict(), reference.state_dict())


def test_infinite_loss_stops_too() -> None:
    model = plain_net()
    with torch.no_grad():
        model[3].weight.fill_(3e38)
    before = state_of(model)
    with pytest.raises(InputError, match="no longer finite"):
        train(model, draw_batches(4))
    assert equal(model.state_dict(), before)


class SteepAtZero(nn.Module):
    """A network with a finite loss and an infinite gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain_net()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.net(clips)
        return logits * (1 + self.scale.sqrt())


def test_infinite_gradient_stops_before_the_step() -> None:
    model = SteepAtZero()
    with pytest.raises(InputError, match="no longer finite"):
        train(model, draw_batches(4))
    assert all(weights.isfinite().all() for weights in model.parameters())


def train_repeatably(seed: int) -> tuple[State, list[Score]]:
    make_repeatable(seed=seed, threads=1)
    model = Small3dCnn(num_classes=NUM_CLASSES)
    history = fit(
        model,
        draw_batches(4, 4, 1, size_px=16),
        watch={},
        optimiser=torch.optim.Adam(model.parameters(), lr=1e-2),
        schedule="constant",
        epochs=2,
        micro_batch=2,
        device=CPU,
        on_epoch=lambda epoch: None,
    )
    return state_of(model), [epoch.scores["train"] for epoch in history]


@pytest.mark.usefixtures("torch_settings")
def test_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    weights, scores = train_repeatably(1)
    again, scores_again = train_repeatably(1)
    other, _ = train_repeatably(2)
    assert equal(weights, again)
    assert scores == scores_again
    assert not equal(weights, other)


def fit_norm_net(watch: dict[str, list[Batch]]) -> tuple[State, list[Epoch]]:
    model, seen = norm_net(), []
    history = fit(
        model,
        draw_batches(4, 2, size_px=16),
        watch=watch,
        optimiser=torch.optim.Adam(model.parameters()),
        schedule="constant",
        epochs=2,
        micro_batch=4,
        device=CPU,
        on_epoch=seen.append,
    )
    assert seen == history
    return state_of(model), history


def test_watching_sides_does_not_change_the_model() -> None:
    alone, _ = fit_norm_net({})
    watched, history = fit_norm_net({"val": draw_batches(3, size_px=16)})
    assert equal(alone, watched)
    assert [(epoch.number, list(epoch.scores)) for epoch in history] == [
        (1, ["train", "val"]),
        (2, ["train", "val"]),
    ]


def test_side_is_scored_after_the_epoch_with_fixed_statistics() -> None:
    batches = draw_batches(3, size_px=16)
    weights, history = fit_norm_net({"val": batches})
    model = norm_net().eval()
    model.load_state_dict(weights)
    assert history[-1].scores["val"] == approx(plain_score(model, batches))


def test_one_clip_is_batch_enough_for_batch_norm() -> None:
    assert math.isfinite(train(norm_net(), draw_batches(4, 1, size_px=16)).loss)


def test_score_leaves_the_model_as_it_was() -> None:
    model = norm_net()
    before = state_of(model)
    score(model, draw_batches(4, size_px=16), micro_batch=2, device=CPU)
    assert equal(model.state_dict(), before)


def test_metrics_of_an_epoch_are_named_by_side() -> None:
    epoch = Epoch(3, {"train": Score(0.5, 0.75, 8), "val": Score(0.6, 0.5, 4)}, 2.0)
    assert epoch.metrics() == {
        "train/loss": 0.5,
        "train/accuracy": 0.75,
        "val/loss": 0.6,
        "val/accuracy": 0.5,
        "train/seconds": 2.0,
        "train/clips_per_s": 4.0,
    }


@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_probabilities_come_in_the_order_of_the_loader(micro_batch: int) -> None:
    batches, model = draw_batches(3, 2), plain_net()
    found = predict_probabilities(model, batches, micro_batch=micro_batch, device=CPU)
    clips = torch.cat([batch.clips for batch in batches])
    expected = model(clips.float() / 255).detach().double().softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_probabilities_sum_to_one_in_double_precision() -> None:
    """In single precision they do not, and scikit-learn warns."""
    found = predict_probabilities(plain_net(), draw_batches(5), micro_batch=2, device=CPU)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5).double(), atol=1e-12, rtol=0)


def test_input_is_in_zero_to_one_channels_last() -> None:
    clips = collate([(torch.tensor([0, 51, 255]).byte().reshape(1, 1, 1, 3), 0)]).clips
    values = to_input(clips, CPU)
    assert values.flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert values.dtype == torch.float32
    assert values.is_contiguous(memory_format=torch.channels_last_3d)
    assert clips.flatten().tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.1, 0.1, 0.1, 0.1]), ("cosine", [0.1, 0.085355, 0.05, 0.014645])],
)
def test_learning_rate_follows_its_schedule(schedule: Schedule, rates: list[float]) -> None:
    optimiser = torch.optim.Adam(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    scheduler, found = make_scheduler(optimiser, schedule, epochs=4), []
    for _ in rates:
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert found == pytest.approx(rates, abs=1e-6)
