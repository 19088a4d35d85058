"""What a network costs: parameters, and floating-point operations a clip."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values; those of a frozen backbone are none."""
    return sum(weights.numel() for weights in model.parameters() if weights.requires_grad)


def count_all_parameters(model: nn.Module) -> int:
    """Number of values of all parameters, those of a frozen backbone included."""
    return sum(weights.numel() for weights in model.parameters())


def count_gflop(model: nn.Module, *, num_frames: int, size_px: int) -> float:
    """Billions of floating-point operations for the forward pass of one clip.

    A multiplication and an addition count as two, convolutions and matrix products only. The
    model is traced on the "meta" device, where nothing is computed.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    clip = torch.empty(1, 3, num_frames, size_px, size_px, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(clip)
    return float(counter.get_total_flops()) / 1e9
