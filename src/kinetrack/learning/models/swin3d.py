"""Video Swin transformer, tiny.

Liu et al. 2022, "Video Swin Transformer"; made for 32 frames of 224 px.
"""

from torch import nn

from kinetrack.learning.models.pooling import GlobalAverage

# Frames and pixels: one patch. What is no multiple of a patch is padded.
SMALLEST_CLIP = (2, 4)


def build(*, num_classes: int) -> nn.Module:
    """Build the network as torchvision has it, with a deterministic average."""
    from torchvision.models import video

    model: nn.Module = video.swin3d_t(num_classes=num_classes)
    model.avgpool = GlobalAverage()
    return model
