"""Packed clips in batches, shared out among processes, for training and evaluation."""

import signal
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kinetrack.errors import InputError
from kinetrack.learning.device import LOADERS_VARIABLE
from kinetrack.learning.packed_clips import ClipKey, Example, Mixture, PackedClips
from kinetrack.learning.processes import Team
from kinetrack.learning.seeds import derive_generator


class Batch(NamedTuple):
    """Clips uint8 (N, C, T, H, W) in channels-last memory, class indices (N,), draws (N, D).

    With mixup, `partners` are the clips to mix in and `weights` (N,) the shares of `clips`.
    `whole_size` counts the clips of the batch over all processes.
    """

    clips: Tensor
    targets: Tensor
    draws: Tensor
    partners: "Batch | None" = None
    weights: Tensor | None = None
    whole_size: int = 0

    def split(self, size: int) -> Iterator["Batch"]:
        """Cut it into parts of `size` clips, the last one as small as it comes."""
        for start in range(0, len(self.targets), size):
            yield self._part(slice(start, start + size))

    def _part(self, part: slice) -> "Batch":
        return self._replace(
            clips=self.clips[part],
            targets=self.targets[part],
            draws=self.draws[part],
            partners=None if self.partners is None else self.partners._part(part),
            weights=None if self.weights is None else self.weights[part],
        )


class ClipBatches:
    """All clips of a data set in batches, the last one as small as it comes.

    In training (`shuffle_seed`) the order is another one in each epoch. Each process of a team gets
    its share of every batch, which may be empty for a small last one.

    Args:
        loaders: processes that read ahead; 0 reads in this one, in between.
        pin_memory: put batches where CUDA can fetch them while it works.
    """

    def __init__(
        self,
        clips: PackedClips,
        *,
        batch_size: int,
        team: Team,
        shuffle_seed: int | None = None,
        loaders: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.num_clips = len(clips)
        self._plan = _Plan(len(clips), batch_size, shuffle_seed, team)
        self._loader = DataLoader(
            clips,
            batch_sampler=self._plan,
            num_workers=loaders,
            persistent_workers=loaders > 0,
            pin_memory=pin_memory,
            collate_fn=collate,
            # Else it would draw a seed from the generator of dropout, and not in every epoch.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._plan)

    def of_epoch(self, epoch: int) -> Iterator[Batch]:
        """Load the batches of an epoch, this process's share of each.

        Raises:
            InputError: a clip cannot be read, or a loader process has died.
        """
        self._plan.epoch = epoch
        for batch, size in zip(self._loaded(), self._plan.sizes(), strict=True):
            if isinstance(batch, InputError):
                raise batch
            yield batch._replace(whole_size=size)

    def _loaded(self) -> Iterator[Batch | InputError]:
        try:
            batches = iter(self._loader)
            if self._loader.num_workers and threading.current_thread() is threading.main_thread():
                # torch would have a dead worker end whatever is being done, the logging too;
                # waiting for a batch tells of it as well.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            yield from batches
        except (RuntimeError, ConnectionError, EOFError) as error:
            # Its end is noticed by torch, or before that by a pipe that it no longer reads.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            raise InputError(
                LOADERS_VARIABLE,
                "a process that loads clips has died",
                found=" ".join(str(error).split())[:200],
                remedy=f"free memory, or set {LOADERS_VARIABLE}=0; then run it again",
            ) from None


class _Plan:
    """Which clips are in which batch: for a `DataLoader`, this process's share of each batch."""

    def __init__(
        self, num_clips: int, batch_size: int, shuffle_seed: int | None, team: Team
    ) -> None:
        self.epoch = 0
        self._num_clips = num_clips
        self._batch_size = batch_size
        self._shuffle_seed = shuffle_seed
        self._team = team

    def __len__(self) -> int:
        return (self._num_clips + self._batch_size - 1) // self._batch_size

    def __iter__(self) -> Iterator[list[ClipKey]]:
        order = self._order()
        for start in range(0, self._num_clips, self._batch_size):
            places = self._team.share(order[start : start + self._batch_size])
            yield [ClipKey(place, self.epoch) for place in places]

    def sizes(self) -> Iterator[int]:
        """How many clips each batch has, over all processes."""
        for start in range(0, self._num_clips, self._batch_size):
            yield min(self._batch_size, self._num_clips - start)

    def _order(self) -> list[int]:
        if self._shuffle_seed is None:
            return list(range(self._num_clips))
        generator = derive_generator("order", self._shuffle_seed, self.epoch)
        order: list[int] = torch.randperm(self._num_clips, generator=generator).tolist()
        return order


def collate(items: Sequence[Example | Mixture | InputError]) -> Batch | InputError:
    """Stack clips (T, H, W, C) into one batch (N, C, T, H, W) in channels-last memory."""
    for item in items:
        if isinstance(item, InputError):
            return item
    mixtures = [item for item in items if isinstance(item, Mixture)]
    if not mixtures:
        return _stack([item for item in items if isinstance(item, Example)])
    batch = _stack([mixture.example for mixture in mixtures])
    return batch._replace(
        partners=_stack([mixture.partner for mixture in mixtures]),
        weights=torch.tensor([mixture.weight for mixture in mixtures]),
    )


def _stack(examples: Sequence[Example]) -> Batch:
    if not examples:  # this process's share of a small last batch
        return Batch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.long), _NONE)
    clips_nthwc = torch.stack([example.clip for example in examples])
    return Batch(
        clips_nthwc.permute(0, 4, 1, 2, 3),
        torch.tensor([example.target for example in examples]),
        torch.stack([example.draws for example in examples]),
    )


_NONE = torch.empty(0)
