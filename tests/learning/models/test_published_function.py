"""The networks of torchvision are its functions: so its published weights mean the same here."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from kinetrack.learning.models import NETWORKS, ModelName, build_model

VIDEO_NAMES = ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t"]


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    return {key: values.shape for key, values in model.state_dict().items()}


@pytest.mark.parametrize("name", VIDEO_NAMES)
def test_tensors_have_the_names_and_shapes_of_torchvision(name: ModelName) -> None:
    with torch.device("meta"):
        ours = build_model(name, num_classes=400, num_frames=16, size_px=224)
        theirs = get_model(NETWORKS[name].published, num_classes=400)
    assert shapes_of(ours) == shapes_of(theirs)


def compare(name: ModelName, *, num_frames: int, size_px: int) -> None:
    """Give weights and a clip to both."""
    ours = build_model(name, num_classes=3, num_frames=num_frames, size_px=size_px).eval()
    theirs = get_model(NETWORKS[name].published, num_classes=3).eval()
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(1, 3, num_frames, size_px, size_px, generator=generator)
    with torch.inference_mode():
        logits = theirs(clips)
        assert logits.std() > 1e-4
        torch.testing.assert_close(ours(clips), logits, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t"])
def test_function_is_that_of_torchvision(name: ModelName) -> None:
    compare(name, num_frames=6, size_px=36)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_frames"), [("s3d", 16), ("s3d", 31), ("mvit_v2_s", 16), ("swin3d_t", 16)]
)
def test_function_is_that_of_torchvision_at_full_size(name: ModelName, num_frames: int) -> None:
    compare(name, num_frames=num_frames, size_px=224)
