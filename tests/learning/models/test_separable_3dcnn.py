import torch
import torch.nn.functional as F

from kinetrack.learning.models.cost import count_parameters
from kinetrack.learning.models.separable_3dcnn import Separable3dCnn

from factories import draw_clips


def build(num_classes: int = 3) -> Separable3dCnn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Separable3dCnn(num_classes=num_classes)


def test_network_is_small() -> None:
    assert 300_000 < count_parameters(build()) < 1_500_000


def test_gradient_of_a_batch_is_the_sum_of_its_parts() -> None:
    model, clips = build().double().train(), draw_clips(4, 4, 16).double()
    targets = torch.tensor([0, 1, 2, 1])
    gradients = []
    for size in (4, 1):
        model.zero_grad()
        for part, target in zip(clips.split(size), targets.split(size), strict=True):
            torch.autograd.backward(F.cross_entropy(model(part), target, reduction="sum"))
        gradients.append([values.grad for values in model.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-9)
