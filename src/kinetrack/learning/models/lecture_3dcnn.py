"""The network of the lecture: three 3D convolutions and one linear layer."""

import torch.nn.functional as F
from torch import Tensor, nn

from kinetrack.learning.models.pooling import average_pool, max_pool

# Frames and pixels; below, nothing is left after the last pooling.
SMALLEST_CLIP = (32, 32)


class Lecture3dCnn(nn.Module):
    """Conv 5-3-3 without padding, two max-poolings, one average-pooling, a linear head.

    The lecture pools after each ReLU. Max-pooling before it is the same function, because ReLU
    keeps the order of values, and touches an eighth of the numbers.
    """

    def __init__(self, *, num_classes: int, num_frames: int, size_px: int) -> None:
        super().__init__()
        length, side = pooled_size(num_frames), pooled_size(size_px)
        self.conv1 = nn.Conv3d(3, 16, kernel_size=5)
        self.conv2 = nn.Conv3d(16, 32, kernel_size=3)
        self.conv3 = nn.Conv3d(32, 32, kernel_size=3)
        self.head = nn.Linear(32 * length * side * side, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of values in [0, 1] to logits (N, K)."""
        features = F.relu(max_pool(self.conv1(clips), (2, 2, 2)))
        features = F.relu(max_pool(self.conv2(features), (2, 2, 2)))
        features = average_pool(F.relu(self.conv3(features)), 4)
        logits: Tensor = self.head(features.flatten(1))
        return logits


def pooled_size(size: int) -> int:
    """What the three convolutions and poolings leave of one dimension."""
    return (((size - 4) // 2 - 2) // 2 - 2) // 4
