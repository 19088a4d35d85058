"""Poolings that give the same bits on every run, on CUDA too; torch's own do not, there."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def max_pool(features: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Take the largest of non-overlapping cubes of (N, C, T, H, W), the far edges left out.

    Same as `max_pool3d(features, size)`, which is what runs on a CPU: its backward on CUDA adds up
    in random order.
    """
    if not features.is_cuda or not torch.are_deterministic_algorithms_enabled():
        return F.max_pool3d(features, size)
    return largest_of_cubes(features, size)


def largest_of_cubes(features: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Max-pooling by other means; of equal numbers one gets the gradient, which may be another."""
    n, c, t, h, w = _whole_cubes(features, size)
    cubes = features[:, :, : t * size[0], : h * size[1], : w * size[2]]
    cubes = cubes.reshape(n, c, t, size[0], h, size[1], w, size[2])
    return cubes.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5).max(dim=5).values


def average_pool(features: Tensor, size: int) -> Tensor:
    """Average non-overlapping cubes of (N, C, T, H, W), the rest at the far edges left out.

    Same as `avg_pool3d(features, size)`.
    """
    n, c, t, h, w = _whole_cubes(features, (size, size, size))
    whole = features[:, :, : t * size, : h * size, : w * size]
    return whole.reshape(n, c, t, size, h, size, w, size).mean(dim=(3, 5, 7))


class GlobalAverage(nn.Module):
    """Average (N, C, T, H, W) to (N, C, 1, 1, 1), as `AdaptiveAvgPool3d(1)`."""

    def forward(self, features: Tensor) -> Tensor:
        """Average over the last three dimensions and keep them."""
        return features.mean(dim=(2, 3, 4), keepdim=True)


def _whole_cubes(features: Tensor, size: tuple[int, int, int]) -> tuple[int, int, int, int, int]:
    """N, C, and how many cubes there are in time, height and width."""
    n, c, t, h, w = features.shape
    return n, c, t // size[0], h // size[1], w // size[2]
