"""Floating-point operations: how many a training clip takes, and how many a second there could be.

The yardstick is a large matrix product on the same threads: what a convolution reaches at best.
"""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_SIDES = (1024, 2048, 4096)  # of square matrices; which one is fastest differs by processor
_SECONDS_EACH = 0.5


def count_training_gflop(network: nn.Module, *, num_frames: int, size_px: int) -> float:
    """Billions of floating-point operations of one clip, forward and backward.

    A multiplication and an addition count as two, convolutions and matrix products only. The
    gradient of the clip itself is not computed in training, and not counted. The network is moved
    to the "meta" device, where nothing is computed.
    """
    network.to("meta").train()
    clip = torch.empty(1, 3, num_frames, size_px, size_px, device="meta")
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(network(clip).sum())
    return float(counter.get_total_flops()) / 1e9


def measure_matrix_gflops(dtype: torch.dtype, *, threads: int) -> float:
    """Billions of operations a second of the fastest matrix product."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return max(_time_product(side, dtype) for side in _SIDES)
    finally:
        torch.set_num_threads(before)


def _time_product(side: int, dtype: torch.dtype) -> float:
    """The best of all products of two matrices within half a second."""
    one, other, product = (torch.rand(side, side).to(dtype) for _ in range(3))
    torch.mm(one, other, out=product)  # the first one sets things up
    seconds: list[float] = []
    while sum(seconds) < _SECONDS_EACH:
        start_s = time.perf_counter()
        torch.mm(one, other, out=product)
        seconds.append(time.perf_counter() - start_s)
    return 2 * side**3 / min(seconds) / 1e9
