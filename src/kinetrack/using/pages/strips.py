"""Clips as strips of the frames that a network was shown, and where it looked."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinetrack.data.sampling import ClipGeometry, packed_px
from kinetrack.data.tensors import PackedSide, load_clip
from kinetrack.errors import InputError
from kinetrack.learning.packed_clips import View, cut_view
from kinetrack.using.pages.document import to_address
from kinetrack.using.saliency import frame_shares

_FRAMES = 6
_FRAME_PX = 160
# So much of a place's picture the heat covers where the saliency is 1.
_MOST_HEAT = 0.65

# Of a window uint8 (3, T, H, W): its saliency (T, H, W).
Explain = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class StripFrame(NamedTuple):
    """A frame of the window; `number` counts from 1. Pictures are addresses, or empty."""

    number: int
    image: str
    heat: str = ""
    """The same with the saliency over it."""


class Strip(NamedTuple):
    """A clip's pictures, or the problem that left it without."""

    frames: list[StripFrame]
    shares: list[float]
    """Of every frame of the window, how much it speaks for the class, the most being 1."""
    problem: str = ""


def draw_strip(
    side: PackedSide | None,
    key: tuple[str, str],
    geometry: ClipGeometry,
    explain: Explain | None = None,
) -> Strip:
    """Draw some frames of a clip's window, evenly spread; with `explain`, where it was looked.

    Args:
        side: the packed clips; None where there are none.
        key: class and name of the clip.
    """
    row = next((row for row in side.rows if (row.label, row.clip) == key), None) if side else None
    if side is None or row is None:
        return Strip([], [], problem="no picture: its packed clip is not here")
    try:
        packed = load_clip(
            side.path(row), num_frames=row.packed_frames, size_px=packed_px(geometry)
        )
        window_thwc = cut_view(packed.permute(1, 2, 3, 0), geometry, View()).numpy()
    except InputError as error:
        return Strip([], [], problem=f"no picture: its packed clip {error.problem}")
    heat = explain(window_thwc.transpose(3, 0, 1, 2)) if explain else None
    return draw_window(window_thwc, heat)


def draw_window(window_thwc: NDArray[np.uint8], heat: NDArray[np.float32] | None = None) -> Strip:
    """Draw some frames of a window, evenly spread; with a saliency (T, H, W), where it lies."""
    chosen = np.linspace(0, len(window_thwc) - 1, min(_FRAMES, len(window_thwc)))
    frames = [
        StripFrame(
            number=place + 1,
            image=_to_picture(window_thwc[place]),
            heat="" if heat is None else _to_picture(_cover(window_thwc[place], heat[place])),
        )
        for place in chosen.round().astype(int).tolist()
    ]
    return Strip(frames, [] if heat is None else frame_shares(heat))


def _cover(frame_hwc: NDArray[np.uint8], saliency_hw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay colours over what is salient, the more the stronger."""
    colours = mpl.colormaps["inferno"](saliency_hw)[..., :3] * 255
    weights = _MOST_HEAT * saliency_hw[..., None]
    covered: NDArray[np.uint8] = (frame_hwc * (1 - weights) + colours * weights).astype(np.uint8)
    return covered


def _to_picture(frame_hwc: NDArray[np.uint8]) -> str:
    image = Image.fromarray(np.ascontiguousarray(frame_hwc))
    return to_address(image.resize((_FRAME_PX, _FRAME_PX), Image.Resampling.BICUBIC))
