"""What the small networks of our own have in common; what each has beside that is in its file."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetrack.learning.models import ModelName, build_model

from factories import draw_clips

NAMES = ["small_3dcnn", "separable_3dcnn", "residual_3dcnn"]


def build(name: ModelName, num_classes: int = 3) -> nn.Module:
    """For clips of any size: that of no clip goes into these networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(name, num_classes=num_classes, num_frames=8, size_px=32)


@pytest.mark.parametrize(
    ("name", "num_frames", "size_px"),
    [
        *(("small_3dcnn", *size) for size in ((4, 16), (5, 17), (9, 40))),
        *(("separable_3dcnn", *size) for size in ((4, 16), (5, 17), (9, 40))),
        *(("residual_3dcnn", *size) for size in ((8, 16), (9, 17), (9, 40))),
    ],
)
def test_clips_of_any_size_give_a_logit_a_class(
    name: ModelName, num_frames: int, size_px: int
) -> None:
    assert build(name, 7)(draw_clips(2, num_frames, size_px)).shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_frames_matters(name: ModelName) -> None:
    model, clips = build(name).eval(), draw_clips(2, 8, 32)
    with torch.inference_mode():
        assert not torch.allclose(model(clips), model(clips.flip(2)), atol=1e-4)


def moving_bars() -> tuple[Tensor, Tensor]:
    """Eight clips (N, 3, 8, 24, 24) of a bar that moves right (0) or left (1) on noise.

    A frame alone does not tell the class: each clip is there in both orders of time.
    """
    clips = draw_clips(4, 8, 24) * 0.2
    for clip in range(4):
        for frame in range(8):
            clips[clip, :, frame, :, 2 * frame + clip : 2 * frame + clip + 3] += 0.8
    return torch.cat([clips, clips.flip(2)]), torch.tensor([0] * 4 + [1] * 4)


@pytest.mark.parametrize("name", ["separable_3dcnn", "residual_3dcnn"])
def test_network_learns_a_handful_of_clips_by_their_motion(name: ModelName) -> None:
    model, (clips, targets) = build(name, 2), moving_bars()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(15):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(clips), targets)
        torch.autograd.backward(loss)
        optimiser.step()
    assert loss.item() < 0.1
    assert torch.equal(model(clips).argmax(dim=1), targets)
