"""A residual network with batch norm for small collections, trained from nothing."""

import torch.nn.functional as F
from torch import Tensor, nn

from kinetrack.learning.models.convolution import draw_weights, normed_convolution
from kinetrack.learning.models.pooling import max_pool
from kinetrack.learning.models.standardisation import add_differences, standardise

# Frames and pixels: what the poolings need, and batch norm to see two values of a single clip.
SMALLEST_CLIP = (8, 16)
_CHANNELS = (16, 32, 64, 64)


class Residual3dCnn(nn.Module):
    """A stem and three residual blocks, pooled in between, a global average, a linear head.

    It sees the frames and, beside them, what changed from frame to frame, both standardised.
    Residual blocks: He et al. 2016; a convolution in time and space, then one in space alone. Batch
    norm: Ioffe and Szegedy 2015.
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        stem, first, second, third = _CHANNELS
        self.stem = nn.Sequential(*normed_convolution(6, stem, (3, 5, 5), stride=(1, 2, 2)))
        self.block1 = ResidualBlock(stem, first)
        self.block2 = ResidualBlock(first, second)
        self.block3 = ResidualBlock(second, third)
        self.head = nn.Linear(third, num_classes)
        draw_weights(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of values in [0, 1] or normalised to logits (N, K)."""
        features = F.relu(self.stem(add_differences(standardise(clips))))
        features = self.block1(max_pool(features, (1, 2, 2)))
        features = self.block2(max_pool(features, (2, 2, 2)))
        features = self.block3(max_pool(features, (2, 2, 2)))
        logits: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return logits


class ResidualBlock(nn.Module):
    """Two convolutions, added to the input, which a third one brings to as many channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            *normed_convolution(in_channels, out_channels, (3, 3, 3)),
            nn.ReLU(),
            *normed_convolution(out_channels, out_channels, (1, 3, 3)),
        )
        self.widen = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(*normed_convolution(in_channels, out_channels, (1, 1, 1)))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, T, H, W) to features of as many places."""
        return F.relu(self.widen(features) + self.change(features))
