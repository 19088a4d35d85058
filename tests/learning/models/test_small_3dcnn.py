import pytest
import torch

from kinetrack.errors import InputError
from kinetrack.learning.models import build_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

from factories import draw_clips


def test_channels_last_is_the_same_function() -> None:
    model, clips = Small3dCnn(num_classes=3).eval(), draw_clips(2, 8, 32)
    last = torch.channels_last_3d
    with torch.inference_mode():
        expected = model(clips)
        found = model.to(memory_format=last)(clips.to(memory_format=last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("num_frames", "size_px"), [(1, 16), (4, 4)])
def test_clip_too_small_is_refused_by_its_size(num_frames: int, size_px: int) -> None:
    with pytest.raises(InputError, match=f"{num_frames} frames of {size_px} px"):
        build_model("small_3dcnn", num_classes=2, num_frames=num_frames, size_px=size_px)
