"""Decoded pictures as arrays of pixels, turned as their file asks for."""

from typing import NamedTuple, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData
from numpy.typing import NDArray

from kinetrack.data import containers


def to_rgb(picture: av.VideoFrame) -> NDArray[np.uint8] | None:
    """RGB uint8 (H, W, 3) of a decoded picture; None for one that is too large or cannot be had.

    Pixels may lie four bytes apart.
    """
    if picture.width * picture.height > containers.MOST_PIXELS:
        return None
    try:
        if picture.width % 8:
            return cast("NDArray[np.uint8]", picture.to_ndarray(format="rgb24", threads=1))
        return _to_padded_rgb(picture)
    except (av.FFmpegError, ValueError):
        return None


def _to_padded_rgb(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """The same pixels with a fourth byte behind each, as Pillow holds them: it need not copy.

    For widths that are no multiple of 8, FFmpeg leaves the last columns wrong in this format.
    """
    plane = picture.reformat(format="rgb0", threads=1).planes[0]
    return np.ndarray(
        (picture.height, picture.width, 3),
        dtype=np.uint8,
        buffer=memoryview(plane),
        strides=(plane.line_size, 4, 1),
    )


class Turn(NamedTuple):
    """How a picture asks to be turned: `angle` by PyAV, `rotation_deg` counterclockwise."""

    angle: int
    rotation_deg: int
    is_mirrored: bool


def read_turn(picture: av.VideoFrame) -> Turn:
    """How the picture asks to be turned; PyAV cuts an angle of 89.99 degrees off to 89."""
    angle = picture.rotation
    nearest = 90 * round(angle / 90)
    rotation_deg = (nearest if abs(angle - nearest) <= 1 else angle) % 360
    return Turn(angle, rotation_deg, _is_mirrored(picture))


def _is_mirrored(picture: av.VideoFrame) -> bool:
    """Whether the display matrix (9 fixed-point numbers, row by row) swaps left and right."""
    try:
        data = cast("SideData | None", picture.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # another kind of side data that PyAV does not know
        return False
    if data is None:
        return False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), dtype=np.int32)[:5])
    return a * d - b * c < 0


def rotate(image_hwc: NDArray[np.uint8], rotation_deg: int) -> NDArray[np.uint8]:
    """Turn counterclockwise by a multiple of 90 degrees; by another angle, not at all."""
    if rotation_deg % 90 or not rotation_deg:
        return image_hwc
    return np.ascontiguousarray(np.rot90(image_hwc, rotation_deg // 90))
