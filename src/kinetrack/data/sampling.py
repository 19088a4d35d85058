"""Which part of a clip a network sees: its geometry, and pure arithmetic on frames and pixels.

Nothing here opens a file. Intervals are half open, [start, end); frames count from 0.
"""

import sys
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sampling = Literal["uniform", "center", "random"]
ShortClips = Literal["fail", "stretch", "loop", "drop"]
Crop = Literal["center", "squash"]
# More is a slip of the hand, or a hostile model.json; a wider square would cost gigabytes a frame.
Frames = Annotated[int, Field(ge=1, le=100_000)]
Pixels = Annotated[int, Field(ge=1, le=8192)]
SHORT_CLIP_REMEDY = "ask for fewer frames, or set pack.short_clips: stretch, loop or drop"


class ClipGeometry(BaseModel):
    """How a clip becomes the input of a network; section `pack` of params.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    num_frames: Frames
    """Frames of the window, which the network sees."""
    sampling: Sampling
    """Where the window lies: "uniform" spreads it over the clip by the lecture's rule, "center" is
    the middle of the clip, "random" too, except in training, which draws it each time."""
    stride: Frames
    """Step from frame to frame for "center" and "random"; "uniform" finds its own."""
    spare_frames: Annotated[int, Field(ge=0, le=100_000)] | Literal["all"]
    """Frames that "random" packs around the middle window, as room to draw in."""
    short_clips: ShortClips
    """A clip shorter than the window: "fail" refuses it, "stretch" spreads its frames evenly over
    the window, "loop" starts it again, "drop" leaves it out."""
    resize_px: Pixels
    """Short side before the crop "center"; without effect on "squash"."""
    crop: Crop
    """What of a frame: "center" is the centre square, "squash" the whole frame, made square."""
    size_px: Pixels
    """Side of the square that the network sees."""
    spare_px: Annotated[int, Field(ge=0, le=8192)]
    """Pixels by which the packed square is wider and higher, as room to draw the place of the
    network's square in training; elsewhere that is the middle."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop == "center" and packed_px(self) > self.resize_px:
            spare = " plus spare_px" if self.spare_px else ""
            raise ValueError(f"size_px{spare} should be at most resize_px")
        return self

    @model_validator(mode="after")
    def _random_has_room(self) -> Self:
        if self.sampling == "random" and self.spare_frames == 0:
            raise ValueError("sampling random needs spare_frames: a number above 0, or all")
        return self


def needed_frames(geometry: ClipGeometry) -> int:
    """Count the frames that a clip must have to fill the window without repeating one."""
    if geometry.sampling == "uniform":
        return geometry.num_frames
    return (geometry.num_frames - 1) * geometry.stride + 1


def is_short(geometry: ClipGeometry, num_available: int) -> bool:
    """Whether a clip of so many frames is shorter than the window."""
    return num_available < needed_frames(geometry)


def packed_indices(geometry: ClipGeometry, num_available: int) -> list[int]:
    """Name the frames to pack of a clip that has `num_available`, in order.

    They are the window, and for "random" up to `spare_frames` more around it, as far as the clip
    goes; the middle window among them is the one of "center".

    Raises:
        ValueError: the clip has no frame, or is short and `short_clips` is "fail" or "drop".
    """
    if num_available < 1:
        raise ValueError(f"a clip has frames, got {num_available}")
    if is_short(geometry, num_available):
        return _short_indices(geometry, num_available)
    if geometry.sampling == "uniform":
        return uniform_indices(num_available, geometry.num_frames)
    return list(_around_the_centre(geometry, num_available))


def packed_lengths(geometry: ClipGeometry) -> range:
    """Tell how many frames a packed clip may have."""
    shortest = geometry.num_frames
    if geometry.sampling != "random":
        return range(shortest, shortest + 1)
    if geometry.spare_frames == "all":
        return range(shortest, sys.maxsize)
    return range(shortest, shortest + geometry.spare_frames + 1)


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
        return _stretched_indices(num_available, num_frames)
    return list(range(0, step * num_frames, step))


def _stretched_indices(num_available: int, num_frames: int) -> list[int]:
    return [position * num_available // num_frames for position in range(num_frames)]


def _short_indices(geometry: ClipGeometry, num_available: int) -> list[int]:
    num_frames = geometry.num_frames
    match geometry.short_clips:
        case "stretch":
            return _stretched_indices(num_available, num_frames)
        case "loop":
            step = 1 if geometry.sampling == "uniform" else geometry.stride
            return [position * step % num_available for position in range(num_frames)]
        case "fail" | "drop":
            raise ValueError(
                f"{num_available} frames are fewer than {needed_frames(geometry)}, and short_clips"
                f" is {geometry.short_clips}"
            )


def _around_the_centre(geometry: ClipGeometry, num_available: int) -> range:
    """The centre window, with as many spare frames before as after it, or one more after."""
    stride, window = geometry.stride, needed_frames(geometry)
    start = (num_available - window) // 2
    end = start + window
    room_before, room_after = start // stride, (num_available - end) // stride
    wanted = packed_lengths(geometry).stop - 1 - geometry.num_frames
    before, after = min(wanted // 2, room_before), min(wanted - wanted // 2, room_after)
    return range(start - before * stride, end + after * stride, stride)


def window_starts(packed_frames: int, num_frames: int) -> range:
    """Where a window of `num_frames` may start in a packed clip."""
    return range(packed_frames - num_frames + 1)


def middle_start(packed_frames: int, num_frames: int) -> int:
    """Where the middle window starts in a packed clip: there, `center` and `random` are equal."""
    return (packed_frames - num_frames) // 2


def view_starts(packed_frames: int, num_frames: int, views: int) -> list[int]:
    """Where each of `views` windows starts, evenly over what was packed; one is the middle one."""
    if views == 1:
        return [middle_start(packed_frames, num_frames)]
    last = packed_frames - num_frames
    return [round(view * last / (views - 1)) for view in range(views)]


def view_corners(geometry: ClipGeometry, crops: int) -> list[tuple[int, int]]:
    """Top and left of each square that is looked at: the middle one, and of five the corners too.

    Raises:
        ValueError: neither one nor five.
    """
    if crops not in (1, 5):
        raise ValueError(f"crops are 1 or 5, got {crops}")
    middle, ends = middle_crop(geometry), (crop_corners(geometry)[0], crop_corners(geometry)[-1])
    corners = [(top, left) for top in ends for left in ends]
    return [(middle, middle), *(corners if crops == 5 else [])]


def packed_px(geometry: ClipGeometry) -> int:
    """Tell the side of the packed square."""
    return geometry.size_px + geometry.spare_px


def crop_corners(geometry: ClipGeometry) -> range:
    """Where the network's square may start in the packed one, across and down."""
    return range(geometry.spare_px + 1)


def middle_crop(geometry: ClipGeometry) -> int:
    """Where the middle square starts in the packed one: with crop "center", that of no spare_px."""
    return _half(geometry.spare_px)


class Box(NamedTuple):
    """A part of a picture: columns [left, right), rows [top, bottom), in pixels."""

    left: int
    top: int
    right: int
    bottom: int


def resized_size(width: int, height: int, short_px: int) -> tuple[int, int]:
    """Scale a size so that its short side is `short_px`; the long side is rounded down.

    Returns:
        Width and height, as torchvision's Resize has them.
    """
    if width <= height:
        return short_px, short_px * height // width
    return short_px * width // height, short_px


def centre_box(width: int, height: int, size_px: int, *, spare_px: int = 0) -> Box:
    """Find the centre square of a picture, and `spare_px` more around it, if it is as large.

    Halves are rounded to the even number, as torchvision's CenterCrop does it.
    """
    # From the inner square outwards: rounded by itself, the outer one would lie a pixel aside.
    left = _half(width - size_px) - _half(spare_px)
    top = _half(height - size_px) - _half(spare_px)
    side = size_px + spare_px
    return Box(left, top, left + side, top + side)


def _half(length_px: int) -> int:
    return round(length_px / 2)
