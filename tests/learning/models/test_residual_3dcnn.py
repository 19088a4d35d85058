import pytest
import torch
import torch.nn.functional as F

from kinetrack.learning.models.cost import count_parameters
from kinetrack.learning.models.residual_3dcnn import Residual3dCnn, ResidualBlock

from factories import draw_clips, moving_bars


def build(num_classes: int = 3) -> Residual3dCnn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual3dCnn(num_classes=num_classes)


@pytest.mark.parametrize(("num_frames", "size_px"), [(8, 16), (9, 17), (9, 40)])
def test_clips_of_any_size_give_a_logit_a_class(num_frames: int, size_px: int) -> None:
    assert build(7)(draw_clips(2, num_frames, size_px)).shape == (2, 7)


def test_network_is_small() -> None:
    assert 100_000 < count_parameters(build()) < 1_000_000


def test_order_of_the_frames_matters() -> None:
    model, clips = build().eval(), draw_clips(2, 8, 32)
    with torch.inference_mode():
        assert not torch.allclose(model(clips), model(clips.flip(2)), atol=1e-4)


def test_light_of_a_clip_does_not_matter() -> None:
    model, clips = build().eval(), draw_clips(2, 8, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(0.5 * clips + 0.2), model(clips), atol=1e-3, rtol=1e-3)


def test_a_block_without_change_passes_on_what_it_is_given() -> None:
    block, features = ResidualBlock(4, 4).eval(), torch.rand(1, 4, 4, 8, 8)
    for values in block.change.parameters():
        torch.nn.init.zeros_(values)
    assert torch.equal(block(features), features)


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
