"""Clips brought to one brightness and one contrast, inside of a network."""

import torch
from torch import Tensor


def standardise(clips: Tensor) -> Tensor:
    """Bring each clip and channel of (N, C, T, H, W) to mean 0 and variance 1.

    A bright room and a dark one then look alike; an evenly coloured clip becomes all 0.
    """
    variance, mean = torch.var_mean(clips, dim=(2, 3, 4), keepdim=True)
    return (clips - mean) * torch.rsqrt(variance + 1e-5)


def add_differences(clips: Tensor) -> Tensor:
    """Put beside each channel how it changed since the frame before: (N, C, T, H, W) to 2C.

    The first frame has no change. The changes of a clip are brought to a mean square of 1
    together, so that slow motion and fast look alike.
    """
    changes = torch.zeros_like(clips)
    changes[:, :, 1:] = clips[:, :, 1:] - clips[:, :, :-1]
    scale = changes.square().mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.cat([clips, changes * torch.rsqrt(scale + 1e-5)], dim=1)
