"""Which part of a clip a model sees: its geometry, and pure arithmetic on frame indices."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

Sampling = Literal["uniform"]
ShortClips = Literal["stretch", "fail"]


class ClipGeometry(BaseModel):
    """How a clip becomes the input of a network; section `pack` of params.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    num_frames: PositiveInt
    """Frames of the window."""
    sampling: Sampling
    """Which frames: "uniform" spreads them over the clip by the lecture's rule."""
    short_clips: ShortClips
    """A clip with fewer frames: "stretch" repeats frames evenly, "fail" refuses it."""
    resize_px: PositiveInt
    """Short side after resizing."""
    size_px: PositiveInt
    """Side of the centre square that is cut out."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.size_px > self.resize_px:
            raise ValueError("size_px should be at most resize_px")
        return self


def uniform_indices(num_available: int, num_frames: int) -> list[int]:
    """Spread `num_frames` indices in `[0, num_available)` evenly, from the first frame on.

    With a step of `num_available // num_frames` this is the lecture's rule
    `arange(0, (T // n) * n, T // n)`. A clip shorter than the window is stretched: its frames
    repeat evenly, in order.

    Raises:
        ValueError: a count is not positive.
    """
    if num_available < 1 or num_frames < 1:
        raise ValueError(f"counts must be positive, got {num_available} and {num_frames}")
    step = num_available // num_frames
    if step == 0:
        return [position * num_available // num_frames for position in range(num_frames)]
    return list(range(0, step * num_frames, step))
