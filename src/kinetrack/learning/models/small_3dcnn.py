"""A small network for short, small clips: 3D convolutions with batch norm, a global average."""

from torch import Tensor, nn

from kinetrack.learning.models.convolution import normed_convolution
from kinetrack.learning.models.pooling import max_pool
from kinetrack.learning.models.standardisation import standardise

# Frames and pixels: what the poolings need, and batch norm to see two values of a single clip.
SMALLEST_CLIP = (4, 7)


class Small3dCnn(nn.Module):
    """Three blocks of convolution, batch norm and ReLU, pooled in between, then a linear head.

    Time is not pooled before two convolutions have seen the motion from frame to frame. The
    average over what is left takes clips of any length and size, from 4 frames of 7 pixels on.
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.block1 = _block(3, 16, kernel_size=(3, 5, 5), stride=(1, 2, 2))
        self.block2 = _block(16, 32, kernel_size=(3, 3, 3))
        self.block3 = _block(32, 64, kernel_size=(3, 3, 3))
        self.head = nn.Linear(64, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of values in [0, 1] to logits (N, K)."""
        features = max_pool(self.block1(standardise(clips)), (1, 2, 2))
        features = max_pool(self.block2(features), (2, 2, 2))
        features = self.block3(features)
        logits: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return logits


def _block(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
) -> nn.Sequential:
    """Convolution that keeps the size but for the stride, batch norm, ReLU."""
    convolution = normed_convolution(in_channels, out_channels, kernel_size, stride=stride)
    return nn.Sequential(*convolution, nn.ReLU())
