import pytest
import torch
import torch.nn.functional as F

from kinetrack.learning.models.cost import count_parameters
from kinetrack.learning.models.separable_3dcnn import Separable3dCnn

from factories import draw_clips, moving_bars


def build(num_classes: int = 3) -> Separable3dCnn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Separable3dCnn(num_classes=num_classes)


@pytest.mark.parametrize(("num_frames", "size_px"), [(4, 16), (5, 17), (9, 40)])
def test_clips_of_any_size_give_a_logit_a_class(num_frames: int, size_px: int) -> None:
    assert build(7)(draw_clips(2, num_frames, size_px)).shape == (2, 7)


def test_network_is_small() -> None:
    assert 300_000 < count_parameters(build()) < 1_500_000


def test_order_of_the_frames_matters() -> None:
    model, clips = build().eval(), draw_clips(2, 8, 32)
    with torch.inference_mode():
        assert not torch.allclose(model(clips), model(clips.flip(2)), atol=1e-4)


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


def test_network_learns_a_handful_of_clips_by_their_motion() -> None:
    model, (clips, targets) = build(2), moving_bars()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(15):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(clips), targets)
        torch.autograd.backward(loss)
        optimiser.step()
    assert loss.item() < 0.1
    assert torch.equal(model(clips).argmax(dim=1), targets)
