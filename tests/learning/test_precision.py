import copy

import pytest
import torch
from torch import Tensor, nn

from kinetrack.learning.precision import spare_short_convolutions


def use_up_memory() -> None:
    """Leave numbers behind that a calculation would show that reads what it has not written."""
    for size in (100, 10_000, 1_000_000):
        torch.full((size,), float("nan"))


def gradient(convolution: nn.Conv3d, clips: Tensor, *, bf16: bool) -> Tensor:
    use_up_memory()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = convolution(clips)
    return torch.autograd.grad(features.float().mean(), convolution.weight)[0]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 6])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 2), (3, 0)])
def test_bf16_gradient_is_that_of_fp32(num_frames: int, kernel: int, padding: int) -> None:
    if num_frames + 2 * padding < kernel:
        return  # there is no such convolution
    torch.manual_seed(0)
    convolution = nn.Conv3d(16, 24, (kernel, 3, 3), padding=(padding, 1, 1))
    guarded = copy.deepcopy(convolution)
    spare_short_convolutions(guarded)
    clips = torch.rand(3, 16, num_frames, 6, 6).to(memory_format=torch.channels_last_3d)
    expected = gradient(convolution, clips, bf16=False)
    found = [gradient(guarded, clips, bf16=True) for _ in range(3)]
    torch.testing.assert_close(found[0], expected, rtol=0.05, atol=float(expected.abs().max()) / 50)
    assert all(torch.equal(found[0], again) for again in found)


def test_long_clips_are_calculated_in_bf16() -> None:
    guarded = nn.Conv3d(3, 4, 3, padding=1)
    spare_short_convolutions(guarded)
    with torch.autocast("cpu", torch.bfloat16):
        assert guarded(torch.rand(1, 3, 3, 4, 4)).dtype == torch.bfloat16
        assert guarded(torch.rand(1, 3, 2, 4, 4)).dtype == torch.float32
