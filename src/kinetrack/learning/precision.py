"""bf16 where it can be trusted."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def spare_short_convolutions(model: nn.Module) -> None:
    """Have padded 3D convolutions calculate in fp32 where a clip has fewer frames than the kernel.

    Measured with torch 2.14.1 (oneDNN) on a CPU with AVX-512: the bf16 gradient of their weights
    is then wrong, not repeatable, often infinite, and memory beside it is overwritten. Height and
    width are not affected, nor is a convolution without padding in time.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and module.padding != "valid" and module.padding[0]:
            # On the module itself: names of weights and what holds it stay as they are.
            module.__dict__["forward"] = _exact_if_short(module, module.forward)


def _exact_if_short(
    convolution: nn.Conv3d, usual: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    def forward(clips: Tensor) -> Tensor:
        if clips.shape[2] >= convolution.kernel_size[0]:
            return usual(clips)
        with torch.autocast(clips.device.type, enabled=False):
            return usual(clips.float())

    return forward
