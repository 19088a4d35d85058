"""From frame archive to packed clip: resize, crop, stack."""

import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kinetrack.data.containers import MOST_PIXELS
from kinetrack.data.frame_archives import read_frames
from kinetrack.data.sampling import ClipGeometry, Crop, centre_box, resized_size
from kinetrack.errors import InputError, WriteError

_BILINEAR = Image.Resampling.BILINEAR
# A larger clip is laid out in a file, so that memory does not bound the length of a clip.
_MOST_IN_MEMORY = 64 * 2**20


def pack_clip(
    archive: Path,
    indices: Sequence[int],
    *,
    crop: Crop,
    resize_px: int,
    size_px: int,
    spare_px: int = 0,
    scratch: Path | None = None,
) -> Tensor:
    """Read frames of an archive as uint8 (C, T, H, W), stored as (T, H, W, C).

    For the crop "center", the short side becomes `resize_px` (bilinear, antialiased), then the
    centre square of `size_px` is cut out: torchvision's Resize and CenterCrop on Pillow images, as
    the lecture has it. For "squash", the whole frame becomes the square. Either square is larger
    by `spare_px`. A frame that `indices` repeats is decoded once.

    A clip of more than 64 MiB lies in a file without a name in the folder `scratch` (by default
    the system's for temporary files), which is gone when the tensor is.

    Raises:
        InputError: the archive cannot be read, or a frame is so long and narrow that it would be
            huge when its short side has `resize_px`.
        WriteError: `scratch` has no room.
    """
    packed_px = size_px + spare_px
    pixels_thwc = _make_room((len(indices), packed_px, packed_px, 3), scratch)
    places = defaultdict(list)
    for place, index in enumerate(indices):
        places[index].append(place)
    distinct = sorted(places)
    for index, image in zip(distinct, read_frames(archive, distinct), strict=True):
        if crop == "center":
            _refuse_long(archive, image.size, resize_px=resize_px)
        pixels_thwc[places[index]] = _cut(
            image, crop, resize_px=resize_px, size_px=size_px, spare_px=spare_px
        )
    return torch.from_numpy(pixels_thwc).permute(3, 0, 1, 2)


def pack_window(
    archive: Path,
    indices: Sequence[int],
    geometry: ClipGeometry,
    *,
    scratch: Path | None = None,
) -> Tensor:
    """Read frames of an archive as `pack_clip` does, by the params of section `pack`.

    Raises:
        InputError: as `pack_clip`.
        WriteError: `scratch` has no room.
    """
    return pack_clip(
        archive,
        indices,
        crop=geometry.crop,
        resize_px=geometry.resize_px,
        size_px=geometry.size_px,
        spare_px=geometry.spare_px,
        scratch=scratch,
    )


def _make_room(shape: tuple[int, int, int, int], scratch: Path | None) -> NDArray[np.uint8]:
    num_bytes = math.prod(shape)
    if num_bytes <= _MOST_IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            # Taken now: a mapped file that finds the disk full later ends the process by a signal.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise WriteError(
            scratch or tempfile.gettempdir(),
            "has no room for a clip in the making",
            found=error.strerror,
            expected=f"{num_bytes} bytes, then as many again for its file",
            remedy="make room, or pack fewer or smaller frames",
        ) from None


def _refuse_long(archive: Path, size: tuple[int, int], *, resize_px: int) -> None:
    width, height = resized_size(*size, resize_px)
    if width * height > MOST_PIXELS:
        raise InputError(
            archive,
            "has frames that would be huge when they are resized",
            found=f"{size[0]} x {size[1]} px, resized {width} x {height} px",
            expected=f"at most {MOST_PIXELS} px",
            remedy="leave it out, or pack.crop: squash, or a smaller pack.resize_px",
        )


def _cut(
    image: Image.Image, crop: Crop, *, resize_px: int, size_px: int, spare_px: int
) -> NDArray[np.uint8]:
    if crop == "squash":
        packed_px = size_px + spare_px
        return np.asarray(image.resize((packed_px, packed_px), _BILINEAR))
    width, height = resized_size(*image.size, resize_px)
    whole = image.resize((width, height), _BILINEAR)
    return np.asarray(whole.crop(centre_box(width, height, size_px, spare_px=spare_px)))
