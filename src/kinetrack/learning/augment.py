"""Clips changed by chance in training: one change a clip, the same for all of its frames.

What happens to a clip is drawn by its own generator, where it is loaded; it is done on the device.
So neither the other clips of a batch nor the number of processes alter a result.
"""

import math
from typing import Annotated, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Share = Annotated[float, Field(ge=0, le=1)]

# The bounds of torchvision's RandomResizedCrop.
_NARROWEST, _WIDEST = 3 / 4, 4 / 3
_GREY = 0.5
_CHANCES = 11  # drawn for every clip, whatever the params
_SEEDS = 2**63 - 1


class AugmentParams(BaseModel):
    """What may happen to a clip in training; section `augment` of params.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    flip: Share
    """Probability that left and right change places. Classes whose names differ by left and right
    (or clockwise and anticlockwise) alone change places too; 0 where only the picture tells."""
    resized_crop: Annotated[list[Share], Field(min_length=2, max_length=2)] | None
    """Smallest and largest share of the frame's area that is cut out and enlarged to its size; null
    cuts nothing. Its width is 3/4 to 4/3 of its height, as far as the frame has room."""
    brightness: Share
    """Strength x: the brightness is multiplied by a factor drawn from [1 - x, 1 + x]."""
    contrast: Share
    """Strength x: the distance from the clip's mean grey is, likewise."""
    saturation: Share
    """Strength x: the distance of each pixel from its grey is, likewise."""
    reverse: Share
    """Probability that the clip runs backwards; not where the direction tells the classes apart."""
    cutout: Share
    """Side of a grey square laid over the frames, as a share of theirs; 0 is none."""
    mixup: Annotated[float, Field(ge=0, le=1000)]
    """Each clip is mixed with another one, in shares drawn from Beta(mixup, mixup): around 0.2 the
    mixture is mostly one of the two, at 1 every share is as likely; 0 mixes nothing."""

    @model_validator(mode="after")
    def _crop_is_a_range(self) -> Self:
        if self.resized_crop and not 0 < self.resized_crop[0] <= self.resized_crop[1]:
            raise ValueError("resized_crop should be [smallest, largest], both above 0")
        return self


class Changes(NamedTuple):
    """What happens to one clip: a row of draws. Places are shares of the room that there is."""

    crop_width: float  # a share of the frame's
    crop_height: float
    crop_left: float
    crop_top: float
    flip: float  # 0 or 1
    reverse: float
    brightness: float  # a factor, 1 changes nothing
    contrast: float
    saturation: float
    cutout_left: float
    cutout_top: float


class Mix(NamedTuple):
    """Which clip is mixed in, and the share of the clip that it is mixed into."""

    partner: int
    weight: float


def draw(params: AugmentParams, generator: torch.Generator) -> Tensor:
    """Draw what happens to one clip: `Changes` as float64 (D,).

    As much is drawn whatever the params, so a param that is switched on alters no other's draws.
    """
    chances = torch.rand(_CHANCES, dtype=torch.float64, generator=generator).tolist()
    flip, reverse, area, aspect, left, top, *colours, cutout_left, cutout_top = chances
    brightness, contrast, saturation = colours
    width, height = _draw_crop(params.resized_crop or [1, 1], area, aspect)
    changes = Changes(
        crop_width=width,
        crop_height=height,
        crop_left=left,
        crop_top=top,
        flip=flip < params.flip,
        reverse=reverse < params.reverse,
        brightness=_draw_factor(params.brightness, brightness),
        contrast=_draw_factor(params.contrast, contrast),
        saturation=_draw_factor(params.saturation, saturation),
        cutout_left=cutout_left,
        cutout_top=cutout_top,
    )
    return torch.tensor(changes, dtype=torch.float64)


def _draw_crop(areas: list[float], area_chance: float, aspect_chance: float) -> tuple[float, float]:
    """Width and height as shares of a square frame's; the ratio is uniform in its logarithm.

    RandomResizedCrop draws again what has no room, up to ten times. Here every draw has room.
    """
    area = _between(areas[0], areas[1], area_chance)
    narrowest, widest = max(_NARROWEST, area), min(_WIDEST, 1 / area)
    aspect = math.exp(_between(math.log(narrowest), math.log(widest), aspect_chance))
    return min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))


def _draw_factor(strength: float, chance: float) -> float:
    return _between(1 - strength, 1 + strength, chance)


def _between(low: float, high: float, chance: float) -> float:
    return low + (high - low) * chance


def augment(values: Tensor, draws: Tensor, params: AugmentParams) -> Tensor:
    """Change values in [0, 1] (N, C, T, H, W) as the draws (N, D) say, in place.

    In this order: resized crop, flip, reverse, brightness, contrast, saturation, cutout. Each clip
    comes out the same in any batch.
    """
    if not _changes_pixels(params):
        return values
    for clip, row in zip(values, draws.tolist(), strict=True):
        changes = Changes(*row)
        changed = _adjust_colours(_move_pixels(clip, changes), changes)
        if changed is not clip:
            clip.copy_(changed)
        if params.cutout:
            _cut_out(clip, changes, share=params.cutout)
    return values


def _changes_pixels(params: AugmentParams) -> bool:
    return params.resized_crop is not None or any(
        (
            params.flip,
            params.reverse,
            params.brightness,
            params.contrast,
            params.saturation,
            params.cutout,
        )
    )


def _move_pixels(clip: Tensor, changes: Changes) -> Tensor:
    clip = _resize_crop(clip, changes)
    if changes.flip:
        clip = clip.flip(-1)
    if changes.reverse:
        clip = clip.flip(1)
    return clip


def _resize_crop(clip: Tensor, changes: Changes) -> Tensor:
    """Cut a part out of the frames (C, T, H, W) and enlarge it to their size."""
    full_height, full_width = clip.shape[-2:]
    width = max(1, round(full_width * changes.crop_width))
    height = max(1, round(full_height * changes.crop_height))
    if (width, height) == (full_width, full_height):
        return clip
    left = _choose(full_width - width, changes.crop_left)
    top = _choose(full_height - height, changes.crop_top)
    # Laid out plane by plane, where PyTorch resizes three colours twice as fast on a CPU.
    part = clip[..., top : top + height, left : left + width].contiguous()
    resized = F.interpolate(part, size=(full_height, full_width), mode="bilinear")
    return resized.clamp_(0, 1)  # rounding may pass the bounds


def _adjust_colours(clip: Tensor, changes: Changes) -> Tensor:
    if changes.brightness == changes.contrast == changes.saturation == 1:
        return clip
    # Here, because it takes a second, which a training without colours need not wait for.
    from torchvision.transforms.v2 import functional as torchvision

    # One tall image of all frames, so that its mean grey is the whole clip's.
    image: Tensor = clip.flatten(1, 2)
    if changes.brightness != 1:
        image = torchvision.adjust_brightness(image, changes.brightness)
    if changes.contrast != 1:
        image = torchvision.adjust_contrast(image, changes.contrast)
    if changes.saturation != 1:
        image = torchvision.adjust_saturation(image, changes.saturation)
    return image.view_as(clip)


def _cut_out(clip: Tensor, changes: Changes, *, share: float) -> None:
    height, width = clip.shape[-2:]
    side = round(share * min(height, width))
    left = _choose(width - side, changes.cutout_left)
    top = _choose(height - side, changes.cutout_top)
    clip[..., top : top + side, left : left + side] = _GREY


def _choose(room: int, chance: float) -> int:
    """Choose one of the places 0 to `room`, as chance in [0, 1) has it."""
    return int(chance * (room + 1))


def draw_mix(params: AugmentParams, generator: torch.Generator, num_clips: int) -> Mix:
    """Draw what is mixed into a clip, out of `num_clips` (mixup, Zhang et al. 2018).

    As much is drawn of the generator whatever the params.
    """
    partner = int(torch.randint(num_clips, (), generator=generator))
    seed = int(torch.randint(_SEEDS, (), generator=generator))
    if not params.mixup:
        return Mix(partner, 1.0)
    # By NumPy, since PyTorch's Beta draws from the global generator only.
    return Mix(partner, float(np.random.default_rng(seed).beta(params.mixup, params.mixup)))


def mix(values: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Mix partners into values (N, C, T, H, W), in place: weights (N,) are the shares of values.

    The loss to go with it is `weight * loss(target) + (1 - weight) * loss(partner's target)`.
    """
    shares = weights.to(values.device, values.dtype, non_blocking=True)
    return values.lerp_(partners, (1 - shares).view(-1, 1, 1, 1, 1))
