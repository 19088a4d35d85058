"""Several processes that train one model together, started by torchrun or by the stage itself.

Each takes its share of every batch; gradients and scores are added up, so that all hold the same
weights and a batch counts as one process would have counted it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kinetrack.errors import InputError

PROCESSES_VARIABLE = "KINETRACK_PROCESSES"
Item = TypeVar("Item")


class TeamLostError(InputError):
    """Another process of the team has ended; which and why, it or the launcher says."""


class Team:
    """The processes that train together; one alone is a team too."""

    def __init__(self, *, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self._device = device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and tracks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a list: consecutive items, as even as can be."""
        start, end = (len(items) * part // self.size for part in (self.rank, self.rank + 1))
        return items[start:end]

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Sum figures over the processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        _sum_over_all(sums)
        return [float(value) for value in sums]

    def largest(self, value: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return value
        found = torch.tensor(value, device=self._device)
        _over_all(found, dist.ReduceOp.MAX)
        return int(found)

    def require_same(self, numbers: Sequence[int]) -> None:
        """Refuse to go on when the processes do not all have the same numbers.

        Raises:
            InputError: they differ.
        """
        if self.size == 1:
            return
        lowest, highest = (
            torch.tensor(numbers, dtype=torch.int64, device=self._device) for _ in range(2)
        )
        _over_all(lowest, dist.ReduceOp.MIN)
        _over_all(highest, dist.ReduceOp.MAX)
        if not torch.equal(lowest, highest):
            raise InputError(
                PROCESSES_VARIABLE,
                "the processes do not start from the same state",
                remedy="have all machines mount the project, its .kinetrack included",
            )

    def add_up_gradients(self, weights: Sequence[Tensor]) -> None:
        """Sum the gradients of weights over the processes; one that has none adds 0."""
        if self.size == 1:
            return
        for values in weights:
            if values.grad is None:
                values.grad = torch.zeros_like(values)
        whole = torch.cat([values.grad.flatten() for values in weights if values.grad is not None])
        _sum_over_all(whole)
        parts = torch.split(whole, [values.numel() for values in weights])
        for values, part in zip(weights, parts, strict=True):
            if values.grad is not None:
                values.grad.copy_(part.view_as(values))

    def average_buffers(self, model: nn.Module) -> None:
        """Give all processes the mean of the statistics that batch norm has gathered in each."""
        if self.size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                _sum_over_all(buffer)
                buffer.div_(self.size)


def _sum_over_all(values: Tensor) -> None:
    _over_all(values, dist.ReduceOp.SUM)


def _over_all(values: Tensor, operation: dist.ReduceOp.RedOpType) -> None:
    try:
        dist.all_reduce(values, operation)
    except RuntimeError as error:
        raise TeamLostError(
            PROCESSES_VARIABLE,
            "another process of the training has ended",
            found=" ".join(str(error).split())[:200],
            remedy="run it again: it goes on after the last whole epoch",
        ) from None


def alone(device: torch.device) -> Team:
    """The team of one process."""
    return Team(rank=0, size=1, device=device)


def is_in_team() -> bool:
    """Whether torchrun, or the stage by its means, has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1


def wanted_processes() -> int:
    """How many processes `KINETRACK_PROCESSES` asks for; 1 without it.

    Raises:
        InputError: it is no number from 1 on.
    """
    text = os.environ.get(PROCESSES_VARIABLE) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            PROCESSES_VARIABLE, "is no number of processes", found=text, expected=">= 1"
        )
    return int(text)


def processes_here() -> int:
    """How many of the team's processes run on this machine, which share its threads."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_in_team() else 1


@contextmanager
def joined_team(device: torch.device) -> Iterator[Team]:
    """Join the processes that torchrun has started; without it, be alone.

    CPUs talk by Gloo, CUDA devices by NCCL.
    """
    if not is_in_team():
        yield alone(device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(rank=dist.get_rank(), size=dist.get_world_size(), device=device)
    finally:
        dist.destroy_process_group()
