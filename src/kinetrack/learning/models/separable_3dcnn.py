"""A small network of our own: convolutions in space, then in time, in residual blocks."""

import torch.nn.functional as F
from torch import Tensor, nn

from kinetrack.learning.models.convolution import draw_weights
from kinetrack.learning.models.pooling import max_pool

# Frames and pixels: sides are halved three times, and two of each are left.
SMALLEST_CLIP = (4, 16)
_GROUPS = 32


class Separable3dCnn(nn.Module):
    """A stem, four residual blocks, pooled in between, a global average, a linear head.

    Each convolution sees space (1, 3, 3) or time (3, 1, 1): half the weights of (3, 3, 3), and one
    more ReLU (Tran et al. 2018). Group norm (Wu and He 2018) takes its statistics from one clip:
    the gradient of a batch does not depend on the parts that it goes through in, as it does with
    batch norm. Pooling before ReLU is the same function as after it and touches fewer numbers.
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 32, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), bias=False),
            nn.GroupNorm(_GROUPS, 32),
            nn.ReLU(),
            nn.Conv3d(32, 32, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.GroupNorm(_GROUPS, 32),
        )
        self.block1 = ResidualBlock(32, 32)
        self.block2 = ResidualBlock(32, 64)
        self.block3 = ResidualBlock(64, 128)
        self.block4 = ResidualBlock(128, 128)
        self.head = nn.Linear(128, num_classes)
        draw_weights(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) to logits (N, K)."""
        features = F.relu(self.stem(clips))
        features = F.relu(max_pool(self.block1(features), (1, 2, 2)))
        features = F.relu(max_pool(self.block2(features), (2, 2, 2)))
        features = F.relu(self.block3(features))
        features = F.relu(self.block4(features))
        logits: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return logits


class ResidualBlock(nn.Module):
    """Convolution in space, then in time, each with group norm, added to the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, (1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.GroupNorm(_GROUPS, out_channels),
            nn.ReLU(),
            nn.Conv3d(out_channels, out_channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.GroupNorm(_GROUPS, out_channels),
        )
        self.widen = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv3d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, T, H, W), to which the caller applies ReLU."""
        added: Tensor = self.widen(features) + self.change(features)
        return added
