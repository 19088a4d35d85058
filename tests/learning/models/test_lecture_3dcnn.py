import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.models import build_model
from kinetrack.learning.models.cost import count_parameters
from kinetrack.learning.models.lecture_3dcnn import Lecture3dCnn
from kinetrack.learning.models.pooling import average_pool


def as_the_lecture_has_it(model: Lecture3dCnn) -> nn.Sequential:
    """The same weights in the lecture's order of layers."""
    return nn.Sequential(
        model.conv1,
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        model.conv2,
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        model.conv3,
        nn.ReLU(),
        nn.AvgPool3d(4),
        nn.Flatten(),
        model.head,
    )


def test_parameters_are_as_many_as_the_lecture_counts() -> None:
    model = Lecture3dCnn(num_classes=5, num_frames=32, size_px=224)
    assert model.head.in_features == 5408
    assert count_parameters(model) == 74_597


@pytest.mark.parametrize(("num_frames", "size_px"), [(32, 32), (37, 50), (48, 37)])
def test_function_is_that_of_the_lecture(num_frames: int, size_px: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Lecture3dCnn(num_classes=5, num_frames=num_frames, size_px=size_px)
        clips = torch.rand(2, 3, num_frames, size_px, size_px)
    with torch.inference_mode():
        logits = model(clips)
        assert logits.shape == (2, 5)
        torch.testing.assert_close(logits, as_the_lecture_has_it(model)(clips))
        last = torch.channels_last_3d
        in_other_layout = model.to(memory_format=last)(clips.to(memory_format=last))
        torch.testing.assert_close(in_other_layout, logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 9, 11), (8, 5, 4)])
def test_average_is_that_of_torch(shape: tuple[int, int, int]) -> None:
    features = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(average_pool(features, 4), F.avg_pool3d(features, 4))


@pytest.mark.parametrize(("num_frames", "size_px"), [(31, 32), (32, 31), (1, 1), (31, 224)])
def test_clip_too_small_is_refused_by_its_size(num_frames: int, size_px: int) -> None:
    reason = rf"found {num_frames} frames of {size_px} px, expected at least 32 frames of 32 px"
    with pytest.raises(InputError, match=rf"{reason} -> raise pack\.num_frames or pack\.size_px"):
        build_model("lecture_3dcnn", num_classes=2, num_frames=num_frames, size_px=size_px)
