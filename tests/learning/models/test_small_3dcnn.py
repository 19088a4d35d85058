import pytest
import torch

from kinetrack.errors import InputError
from kinetrack.learning.models import build_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn


def draw_clips(num_frames: int, size_px: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, num_frames, size_px, size_px, generator=generator)


@pytest.mark.parametrize(("num_frames", "size_px"), [(4, 16), (5, 17), (9, 40)])
def test_clips_of_any_size_give_a_logit_a_class(num_frames: int, size_px: int) -> None:
    model = Small3dCnn(num_classes=7)
    assert model(draw_clips(num_frames, size_px)).shape == (2, 7)


def test_channels_last_is_the_same_function() -> None:
    model, clips = Small3dCnn(num_classes=3).eval(), draw_clips(8, 32)
    last = torch.channels_last_3d
    with torch.inference_mode():
        expected = model(clips)
        found = model.to(memory_format=last)(clips.to(memory_format=last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_order_of_the_frames_matters() -> None:
    model, clips = Small3dCnn(num_classes=3).eval(), draw_clips(8, 32)
    with torch.inference_mode():
        assert not torch.allclose(model(clips), model(clips.flip(2)), atol=1e-4)


@pytest.mark.parametrize(("num_frames", "size_px"), [(1, 16), (4, 4)])
def test_clip_too_small_is_refused_by_its_size(num_frames: int, size_px: int) -> None:
    with pytest.raises(InputError, match=f"{num_frames} frames of {size_px} px"):
        build_model("small_3dcnn", num_classes=2, num_frames=num_frames, size_px=size_px)
