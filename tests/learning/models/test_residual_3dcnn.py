import torch

from kinetrack.learning.models.cost import count_parameters
from kinetrack.learning.models.residual_3dcnn import Residual3dCnn, ResidualBlock

from factories import draw_clips


def build(num_classes: int = 3) -> Residual3dCnn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual3dCnn(num_classes=num_classes)


def test_network_is_small() -> None:
    assert 100_000 < count_parameters(build()) < 1_000_000


def test_light_of_a_clip_does_not_matter() -> None:
    model, clips = build().eval(), draw_clips(2, 8, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(0.5 * clips + 0.2), model(clips), atol=1e-3, rtol=1e-3)


def test_a_block_without_change_passes_on_what_it_is_given() -> None:
    block, features = ResidualBlock(4, 4).eval(), torch.rand(1, 4, 4, 8, 8)
    for values in block.change.parameters():
        torch.nn.init.zeros_(values)
    assert torch.equal(block(features), features)
