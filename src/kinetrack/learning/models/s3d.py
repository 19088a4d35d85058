"""Separable inception network S3D.

Xie et al. 2018, "Rethinking Spatiotemporal Feature Learning"; made for 64 frames of 224 px.
"""

from functools import partial

from torch import nn

from kinetrack.learning.models.pooling import GlobalAverage

# Frames and pixels: halved three and five times, and batch norm needs two places of one clip.
SMALLEST_CLIP = (13, 17)


def build(*, num_classes: int) -> nn.Module:
    """Build the network as torchvision has it, but for its average and its batch norm.

    torchvision averages windows of 2 x 7 x 7 places, all that a clip of 31 frames of 224 px leaves:
    of such a clip the global average is the same, and it takes any other.

    torchvision's running statistics move by 0.001 a step, which takes thousands of steps to forget
    where they began; ours move by 0.1, PyTorch's default.
    """
    from torchvision.models import video

    norm = partial(nn.BatchNorm3d, eps=0.001, momentum=0.1)
    model: nn.Module = video.S3D(num_classes=num_classes, norm_layer=norm)
    model.avgpool = GlobalAverage()
    return model
