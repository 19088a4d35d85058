"""What a network is fed: bytes of packed clips to values on the device, normalised."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

Kind = Literal["rgb", "differences"]
Normalise = Literal["none", "kinetics", "imagenet", "slowfast"]

# Mean and standard deviation of red, green and blue, as the transforms of torchvision's weights
# name them: r3d_18 and its relatives, s3d; its image networks and swin3d; mvit, whose weights come
# from the project PySlowFast.
_STATISTICS = {
    "kinetics": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "slowfast": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
}


class ClipInput(BaseModel):
    """What of a clip a network is fed; section `input` of params.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    kind: Kind
    """The frames ("rgb"), or each frame minus the one before it ("differences"; the first is 0)."""
    normalise: Normalise
    """Which mean is subtracted from each colour and by which standard deviation it is divided:
    pretrained weights want the one that they were trained with. From differences no mean is
    subtracted. With "none" rgb lies in [0, 1], differences in [-1, 1]."""


def to_input(clips: Tensor, device: torch.device, clip_input: ClipInput) -> Tensor:
    """Bytes uint8 (N, C, T, H, W) to what the network is fed, where nothing is augmented."""
    return normalise(to_values(clips, device), clip_input)


def to_values(clips: Tensor, device: torch.device) -> Tensor:
    """Bytes uint8 (N, C, T, H, W) to values in [0, 1] on the device, in channels-last memory."""
    on_device = clips.to(device, non_blocking=True)
    return on_device.to(torch.float32, memory_format=torch.channels_last_3d).div_(255)


def normalise(values: Tensor, clip_input: ClipInput) -> Tensor:
    """Turn values in [0, 1] (N, C, T, H, W), in channels-last memory, into what the network is fed.

    The values are overwritten where no other memory is needed.
    """
    differing = clip_input.kind == "differences"
    if differing:
        values = _differences(values)
    if clip_input.normalise != "none":
        mean, std = _STATISTICS[clip_input.normalise]
        # As rows of pixels: of three colours each, the processor would handle three at a time.
        rows = values.permute(0, 2, 3, 4, 1).view(-1, values.shape[-1] * len(mean))
        if not differing:
            rows.sub_(_along_row(mean, rows))
        rows.div_(_along_row(std, rows))
    return values


def _differences(values: Tensor) -> Tensor:
    differences = torch.zeros_like(values)
    torch.sub(values[:, :, 1:], values[:, :, :-1], out=differences[:, :, 1:])
    return differences


def _along_row(by_colour: tuple[float, ...], rows: Tensor) -> Tensor:
    row = torch.tensor(by_colour, dtype=rows.dtype).repeat(rows.shape[1] // len(by_colour))
    return row.to(rows.device, non_blocking=True)  # else the host waits for what is under way
