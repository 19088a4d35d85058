"""Residual networks of 18 layers in time and space: r3d_18, mc3_18 and r2plus1d_18.

Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions for Action Recognition"; made for
16 frames of 112 px.
"""

from typing import Literal

from torch import nn

from kinetrack.learning.models.pooling import GlobalAverage

# Frames and pixels: the sides are halved four times, and batch norm needs two places of one clip.
SMALLEST_CLIP = (1, 17)


def build(name: Literal["r3d_18", "mc3_18", "r2plus1d_18"], *, num_classes: int) -> nn.Module:
    """Build one of the three as torchvision has it, with a deterministic average."""
    from torchvision.models import video

    model: nn.Module
    match name:
        case "r3d_18":
            model = video.r3d_18(num_classes=num_classes)
        case "mc3_18":
            model = video.mc3_18(num_classes=num_classes)
        case "r2plus1d_18":
            model = video.r2plus1d_18(num_classes=num_classes)
    model.avgpool = GlobalAverage()
    return model
