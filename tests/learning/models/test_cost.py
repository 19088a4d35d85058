import pytest
from torch import nn

from kinetrack.learning.models.cost import count_gflop, count_parameters
from kinetrack.learning.models.lecture_3dcnn import Lecture3dCnn


def test_lecture_network_costs_what_its_layers_sum_to() -> None:
    model = Lecture3dCnn(num_classes=5, num_frames=32, size_px=224)
    # Two for each weight of a kernel, at each place of its output.
    by_hand = 2 * (
        16 * (3 * 5**3) * (28 * 220**2)
        + 32 * (16 * 3**3) * (12 * 108**2)
        + 32 * (32 * 3**3) * (4 * 52**2)
        + 5408 * 5
    )
    found = count_gflop(model, num_frames=32, size_px=224)
    assert found == pytest.approx(by_hand / 1e9)
    assert found == pytest.approx(20.73, abs=0.005)


def test_linear_layer_costs_two_for_each_weight() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 4 * 4, 5))
    assert count_gflop(model, num_frames=2, size_px=4) == pytest.approx(2 * 96 * 5 / 1e9)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(96, 5))
    count_gflop(model, num_frames=2, size_px=4)
    assert model.training
    assert model[1].weight.device.type == "cpu"


def test_frozen_weights_are_no_parameters() -> None:
    model = nn.Linear(4, 5)
    assert count_parameters(model) == 25
    model.bias.requires_grad_(False)
    assert count_parameters(model) == 20
