import itertools

import pytest
import torch
from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.optimising import Schedule, make_optimiser, make_scheduler

EPOCHS, STEPS = 4, 5


def rates(schedule: Schedule, **keys: int) -> list[float]:
    """The learning rate of every step of a training of 4 epochs of 5 steps, at most 0.1."""
    optimiser = make_optimiser("sgd", nn.Linear(1, 1), learning_rate=0.1)
    scheduler = make_scheduler(optimiser, schedule, epochs=EPOCHS, steps_per_epoch=STEPS, **keys)
    found = []
    for _ in range(EPOCHS * STEPS):
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        scheduler.step()
    return found


def test_constant_rate_stays() -> None:
    assert rates("constant") == [0.1] * 20


def test_cosine_falls_along_half_a_cosine() -> None:
    found = rates("cosine")
    assert found[0] == 0.1
    assert found[10] == pytest.approx(0.05)
    assert found[5] == pytest.approx(0.1 * (1 + 0.5**0.5) / 2)
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.001


def test_step_falls_to_a_tenth() -> None:
    expected = [0.1] * 10 + [0.01] * 10
    assert rates("step", step_epochs=2) == pytest.approx(expected)


def test_one_cycle_rises_and_falls() -> None:
    found = rates("one_cycle", warmup_epochs=1)
    top = found.index(max(found))
    assert max(found) == pytest.approx(0.1)
    assert 3 <= top <= 5
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] < 1e-5


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warm_up_rises_evenly_to_the_rate(schedule: Schedule) -> None:
    found = rates(schedule, warmup_epochs=1, step_epochs=9)
    rises = [later - earlier for earlier, later in itertools.pairwise(found[:6])]
    assert found[0] == pytest.approx(0.001)
    assert rises == pytest.approx([(0.1 - 0.001) / 5] * 5, rel=1e-3)
    assert found[5] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "keys"),
    [
        ("constant", {}),
        ("cosine", {"warmup_epochs": 1}),
        ("step", {"step_epochs": 1}),
        ("one_cycle", {"warmup_epochs": 2}),
    ],
)
def test_schedule_goes_on_from_its_state(schedule: Schedule, keys: dict[str, int]) -> None:
    expected, found = rates(schedule, **keys), []
    optimiser = make_optimiser("sgd", nn.Linear(1, 1), learning_rate=0.1)
    scheduler = make_scheduler(optimiser, schedule, epochs=EPOCHS, steps_per_epoch=STEPS, **keys)
    for step in range(EPOCHS * STEPS):
        if step == 7:
            kept = optimiser.state_dict(), scheduler.state_dict()
            optimiser = make_optimiser("sgd", nn.Linear(1, 1), learning_rate=0.1)
            scheduler = make_scheduler(
                optimiser, schedule, epochs=EPOCHS, steps_per_epoch=STEPS, **keys
            )
            optimiser.load_state_dict(kept[0])
            scheduler.load_state_dict(kept[1])
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        scheduler.step()
    assert found == expected


def test_one_cycle_needs_two_steps_to_rise() -> None:
    optimiser = make_optimiser("sgd", nn.Linear(1, 1), learning_rate=0.1)
    with pytest.raises(InputError, match="one_cycle has too few steps to rise in, found 1"):
        make_scheduler(optimiser, "one_cycle", epochs=5, steps_per_epoch=1, warmup_epochs=1)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(4, 2))


def test_decay_pulls_weights_but_no_bias_and_no_norm() -> None:
    model = net()
    before = {name: values.clone() for name, values in model.named_parameters()}
    optimiser = make_optimiser("adamw", model, learning_rate=0.1, weight_decay=0.5)
    for values in model.parameters():
        values.grad = torch.zeros_like(values)
    optimiser.step()
    shrunk = {
        name for name, values in model.named_parameters() if not torch.equal(values, before[name])
    }
    assert shrunk == {"0.weight", "3.weight"}
    torch.testing.assert_close(model[0].weight.detach(), 0.95 * before["0.weight"])


def test_frozen_weights_are_not_given_to_the_optimiser() -> None:
    model = net()
    model[0].requires_grad_(False)
    optimiser = make_optimiser("adam", model, learning_rate=0.1)
    count = sum(len(group["params"]) for group in optimiser.param_groups)
    assert count == len(list(model.parameters())) - 2


def test_momentum_is_nesterovs() -> None:
    weight = nn.Linear(1, 1, bias=False)
    expected = torch.optim.SGD(weight.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    found = make_optimiser("sgd", weight, learning_rate=0.1, momentum=0.9)
    for key in ("momentum", "nesterov"):
        assert found.param_groups[0][key] == expected.param_groups[0][key]
