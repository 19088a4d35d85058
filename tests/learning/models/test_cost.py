import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights

from kinetrack.learning.models import NETWORKS, ModelName, build_model
from kinetrack.learning.models.cost import count_all_parameters, count_gflop, count_parameters
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


@pytest.mark.parametrize(
    ("name", "size_px"),
    [
        ("r3d_18", 112),
        ("mc3_18", 112),
        ("r2plus1d_18", 112),
        ("s3d", 224),
        ("mvit_v2_s", 224),
        ("swin3d_t", 224),
    ],
)
def test_networks_cost_what_torchvision_publishes(name: ModelName, size_px: int) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=400, num_frames=16, size_px=size_px)
    meta = get_model_weights(NETWORKS[name].published).DEFAULT.meta
    assert count_parameters(model) == meta["num_params"]
    # It counts a multiplication and an addition as one.
    found = count_gflop(model, num_frames=16, size_px=size_px)
    assert found / 2 == pytest.approx(meta["_ops"], abs=0.002)


def test_lstm_costs_two_for_each_weight_and_frame() -> None:
    with torch.device("meta"):
        model = build_model("cnn_lstm", num_classes=5, num_frames=7, size_px=224)
    by_hand = 2 * (7 * 4 * 256 * (512 + 256) + 256 * 5) / 1e9
    resnet = get_model_weights("resnet18").DEFAULT.meta["_ops"] * 2 * 7
    head_of_resnet = 2 * 7 * 512 * 1000 / 1e9
    found = count_gflop(model, num_frames=7, size_px=224)
    assert found == pytest.approx(resnet - head_of_resnet + by_hand, abs=0.005)
    assert by_hand > 0.01


def test_all_parameters_count_frozen_ones_too() -> None:
    model = nn.Linear(4, 5)
    model.weight.requires_grad_(False)
    assert (count_parameters(model), count_all_parameters(model)) == (5, 25)
