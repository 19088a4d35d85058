"""From frame archive to packed clip: resize, crop, stack."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from kinetrack.data.frames import read_frames


def pack_clip(archive: Path, indices: Sequence[int], *, resize_px: int, size_px: int) -> Tensor:
    """Read frames of an archive as uint8 (C, T, H, W), stored as (T, H, W, C) in memory.

    The short side becomes `resize_px` (bilinear, antialiased), then the centre square of
    `size_px` is cut out: torchvision's Resize and CenterCrop on Pillow images, as the lecture has
    it. A frame that `indices` repeats is decoded once.

    Raises:
        InputError: the archive cannot be read.
    """
    geometry = v2.Compose([v2.Resize(resize_px), v2.CenterCrop(size_px)])
    distinct = sorted(set(indices))
    frames = [_to_hwc(geometry(image)) for image in read_frames(archive, distinct)]
    places = [distinct.index(index) for index in indices]
    clip_thwc = torch.stack([frames[place] for place in places])
    return clip_thwc.permute(3, 0, 1, 2)


def _to_hwc(image: Image.Image) -> Tensor:
    pixels: Tensor = v2.functional.pil_to_tensor(image)
    return pixels.permute(1, 2, 0)
