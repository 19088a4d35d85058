import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinetrack.errors import InputError
from kinetrack.learning.batches import Batch, collate
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.learning.optimising import make_scheduler
from kinetrack.learning.packed_clips import Example, Mixture
from kinetrack.learning.processes import alone
from kinetrack.learning.training import (
    NotFiniteError,
    Recipe,
    Score,
    predict_logits,
    train_one_epoch,
)
from kinetrack.learning.training import score as score_of

from factories import PLAIN_INPUT

CPU = torch.device("cpu")
NUM_CLASSES = 3
PLAIN = Recipe(PLAIN_INPUT)
State = dict[str, Tensor]


def draw_batches(*sizes: int, num_frames: int = 4, size_px: int = 8) -> list[Batch]:
    """Batches of noise, the same on every call: all that a loop asks of a loader."""
    generator = torch.Generator().manual_seed(0)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    def example() -> Example:
        clip = draw(256, num_frames, size_px, size_px, 3).byte()
        return Example(clip, int(draw(NUM_CLASSES, 1)), torch.empty(0))

    return [whole(collate([example() for _ in range(size)])) for size in sizes]


def whole(batch: Batch) -> Batch:
    """The batch of a process that is alone."""
    return batch._replace(whole_size=len(batch.targets))


def score(model: nn.Module, batches: Iterable[Batch], *, micro_batch: int = 4) -> Score:
    micro = MicroBatch(micro_batch)
    return score_of(model, batches, recipe=PLAIN, micro=micro, device=CPU, team=alone(CPU))


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
    model: nn.Module,
    batches: list[Batch],
    *,
    micro_batch: int = 4,
    learning_rate: float = 0.1,
    **extras: Any,
) -> Score:
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate)
    scheduler = make_scheduler(optimiser, "constant", epochs=1, steps_per_epoch=len(batches))
    trained = train_one_epoch(
        model,
        batches,
        optimiser,
        scheduler,
        recipe=PLAIN._replace(**extras),
        micro=MicroBatch(micro_batch),
        device=CPU,
        team=alone(CPU),
    )
    return trained.score


@pytest.mark.parametrize("sizes", [(4, 4, 1), (5,), (4, 3), (1,)])
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_score_counts_every_clip_once(sizes: tuple[int, ...], micro_batch: int) -> None:
    batches, model = draw_batches(*sizes), plain_net()
    found = score(model, batches, micro_batch=micro_batch)
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
    return [batch._replace(clips=batch.clips.clamp(max=254)) for batch in draw_batches(*sizes)]


def test_loss_that_is_no_number_stops_before_the_step() -> None:
    good, bad = dark_batches(4, 4)
    bad.clips[3] = 255  # in the second of two parts
    model, reference = NanOnWhite(), NanOnWhite()
    train(reference, [good], micro_batch=2)
    with pytest.raises(
        NotFiniteError, match=r"no longer finite, found nan -> lower train\.learning"
    ):
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


def test_one_clip_is_batch_enough_for_batch_norm() -> None:
    assert math.isfinite(train(norm_net(), draw_batches(4, 1, size_px=16)).loss)


def test_score_leaves_the_model_as_it_was() -> None:
    model = norm_net()
    before = state_of(model)
    score(model, draw_batches(4, size_px=16), micro_batch=2)
    assert equal(model.state_dict(), before)


def probabilities(model: nn.Module, batches: list[Batch], *, micro_batch: int = 2) -> Tensor:
    micro = MicroBatch(micro_batch)
    logits = predict_logits(model, batches, recipe=PLAIN, micro=micro, device=CPU)
    return logits.softmax(dim=1)


@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_probabilities_come_in_the_order_of_the_loader(micro_batch: int) -> None:
    batches, model = draw_batches(3, 2), plain_net()
    found = probabilities(model, batches, micro_batch=micro_batch)
    clips = torch.cat([batch.clips for batch in batches])
    expected = model(clips.float() / 255).detach().double().softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_probabilities_sum_to_one_in_double_precision() -> None:
    """In single precision they do not, and scikit-learn warns."""
    found = probabilities(plain_net(), draw_batches(5))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5).double(), atol=1e-12, rtol=0)


def step_of(model: nn.Module, batch: Batch, loss: Callable[[Tensor], Tensor]) -> State:
    """The weights after one plain step down a loss of the logits, at rate 0.5."""
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss(model(batch.clips.float() / 255)), list(weights.values()))
    return {
        name: (values - 0.5 * gradient).detach()
        for (name, values), gradient in zip(weights.items(), gradients, strict=True)
    }


def check_step(batch: Batch, loss: Callable[[Tensor], Tensor], **extras: Any) -> None:
    expected, model = step_of(plain_net(), batch, loss), plain_net()
    train(model, [batch], micro_batch=3, learning_rate=0.5, **extras)
    for name, values in expected.items():
        torch.testing.assert_close(model.state_dict()[name], values, atol=1e-6, rtol=1e-5)


def test_smoothed_labels_are_torchs() -> None:
    (batch,) = draw_batches(7)
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.2)
    check_step(batch, lambda logits: smoothed(logits, batch.targets), label_smoothing=0.2)


def test_class_weights_multiply_the_loss_of_their_clips() -> None:
    (batch,) = draw_batches(7)
    weights = torch.tensor([0.5, 2.0, 1.0])

    def loss(logits: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
        return (losses * weights[batch.targets]).sum() / 7

    check_step(batch, loss, class_weights=weights)


def test_long_gradient_is_cut_to_its_limit() -> None:
    (batch,) = draw_batches(6)
    model, before = plain_net(), plain_net()
    train(model, [batch], learning_rate=1.0, clip_gradient=0.01)
    steps = [
        (values - before.state_dict()[name]).flatten()
        for name, values in model.state_dict().items()
    ]
    assert float(torch.cat(steps).norm()) == pytest.approx(0.01, rel=1e-3)


def test_mixed_clips_count_for_both_classes() -> None:
    (batch,), (other,) = draw_batches(5), draw_batches(5, size_px=8)
    other = other._replace(clips=other.clips.flip(0), targets=other.targets.flip(0))
    weights = torch.tensor([1.0, 0.0, 0.25, 0.5, 0.9])
    examples = [
        Mixture(*(Example(each.clips[i].permute(1, 2, 3, 0), int(each.targets[i]), torch.empty(0))
                  for each in (batch, other)), float(weights[i]))
        for i in range(5)
    ]  # fmt: skip
    mixed = whole(collate(examples))
    shares = weights.view(-1, 1, 1, 1, 1)
    values = shares * batch.clips.float() / 255 + (1 - shares) * other.clips.float() / 255
    blended = batch._replace(clips=values * 255)

    def loss(logits: Tensor) -> Tensor:
        first, second = (
            nn.functional.cross_entropy(logits, each.targets, reduction="none")
            for each in (batch, other)
        )
        return (weights * first + (1 - weights) * second).mean()

    expected, model = step_of(plain_net(), blended, loss), plain_net()
    train(model, [mixed], micro_batch=2, learning_rate=0.5)
    for name, found in model.state_dict().items():
        torch.testing.assert_close(found, expected[name], atol=1e-6, rtol=1e-5)


def test_bf16_takes_nearly_the_same_step() -> None:
    batches, exact, rough = draw_batches(8), plain_net(), plain_net()
    train(exact, batches)
    train(rough, batches, precision="bf16")
    assert not equal(exact.state_dict(), rough.state_dict())
    for name, values in exact.state_dict().items():
        assert rough.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(rough.state_dict()[name], values, atol=3e-3, rtol=0)


def test_bf16_gives_equal_bits_on_equal_settings() -> None:
    models = [plain_net(), plain_net()]
    for model in models:
        train(model, draw_batches(8, 3), precision="bf16")
    assert equal(models[0].state_dict(), models[1].state_dict())


class OutOfMemoryAbove(nn.Module):
    """A network for whose parts of more than `most` clips there is no memory."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.net = plain_net()
        self.most = most

    def forward(self, clips: Tensor) -> Tensor:
        if len(clips) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = self.net(clips)
        return logits


def test_out_of_memory_halves_the_parts_and_keeps_the_batch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches, roomy, narrow = draw_batches(8, 5), OutOfMemoryAbove(9), OutOfMemoryAbove(2)
    expected = train(roomy, batches, micro_batch=8)
    assert train(narrow, batches, micro_batch=8) == approx(expected)
    for name, values in roomy.state_dict().items():
        torch.testing.assert_close(narrow.state_dict()[name], values, atol=1e-5, rtol=0)
    assert capsys.readouterr().err.splitlines() == [
        "out of memory: going on with micro-batches of 4 clips",
        "out of memory: going on with micro-batches of 2 clips",
    ]


def test_out_of_memory_for_one_clip_is_told() -> None:
    with pytest.raises(InputError, match="does not suffice for a single clip"):
        train(OutOfMemoryAbove(0), draw_batches(4), micro_batch=2)


def test_out_of_memory_in_scoring_halves_too() -> None:
    batches = draw_batches(8)
    found = score(OutOfMemoryAbove(3), batches, micro_batch=8)
    assert found == approx(plain_score(plain_net(), batches))


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory() -> None:
    class Wrong(nn.Module):
        def forward(self, clips: Tensor) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        score(Wrong(), draw_batches(2))
