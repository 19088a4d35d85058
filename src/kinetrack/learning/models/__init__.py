"""The networks that `model.name` may ask for, one file a family."""

from typing import Literal

from torch import nn

from kinetrack.learning.models.lecture_3dcnn import Lecture3dCnn
from kinetrack.learning.models.small_3dcnn import Small3dCnn

ModelName = Literal["lecture_3dcnn", "small_3dcnn"]


def build_model(name: ModelName, *, num_classes: int, num_frames: int, size_px: int) -> nn.Module:
    """Build a network with fresh weights for clips (N, 3, T, H, W) of values in [0, 1].

    Raises:
        InputError: the network cannot take clips of this size.
    """
    match name:
        case "lecture_3dcnn":
            return Lecture3dCnn(num_classes=num_classes, num_frames=num_frames, size_px=size_px)
        case "small_3dcnn":
            return Small3dCnn(num_classes=num_classes)
