"""The networks that `model.name` may ask for, one file a family."""

from typing import Literal

from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.models import lecture_3dcnn, small_3dcnn

ModelName = Literal["lecture_3dcnn", "small_3dcnn"]
_SMALLEST_CLIPS: dict[ModelName, tuple[int, int]] = {
    "lecture_3dcnn": lecture_3dcnn.SMALLEST_CLIP,
    "small_3dcnn": small_3dcnn.SMALLEST_CLIP,
}


def build_model(name: ModelName, *, num_classes: int, num_frames: int, size_px: int) -> nn.Module:
    """Build a network with fresh weights for clips (N, 3, T, H, W) of values in [0, 1].

    Raises:
        InputError: the network cannot take clips of this size.
    """
    _check_size(num_frames, size_px, name=name)
    match name:
        case "lecture_3dcnn":
            return lecture_3dcnn.Lecture3dCnn(
                num_classes=num_classes, num_frames=num_frames, size_px=size_px
            )
        case "small_3dcnn":
            return small_3dcnn.Small3dCnn(num_classes=num_classes)


def _check_size(num_frames: int, size_px: int, *, name: ModelName) -> None:
    frames, side_px = _SMALLEST_CLIPS[name]
    if num_frames < frames or size_px < side_px:
        raise InputError(
            "params.yaml",
            f"the clip is too small for model {name}",
            found=f"{num_frames} frames of {size_px} px",
            expected=f"at least {frames} frames of {side_px} px",
            remedy="raise pack.num_frames or pack.size_px",
        )
