"""Batches of packed clips for training and evaluation."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kinetrack.data.tensors import PackedSide, load_clip


class Batch(NamedTuple):
    """Clips uint8 (N, C, T, H, W) in channels-last memory, and class indices (N,)."""

    clips: Tensor
    targets: Tensor


class PackedClips(Dataset[tuple[Tensor, int]]):
    """The clips of one side as (uint8 (T, H, W, C), class index)."""

    def __init__(
        self, side: PackedSide, *, labels: Sequence[str], num_frames: int, size_px: int
    ) -> None:
        self._side = side
        self._class_index = {label: index for index, label in enumerate(labels)}
        self._num_frames = num_frames
        self._size_px = size_px

    def __len__(self) -> int:
        return len(self._side.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        row = self._side.rows[place]
        clip = load_clip(self._side.path(row), num_frames=self._num_frames, size_px=self._size_px)
        # (C, T, H, W) as stored in (T, H, W, C): so the view is contiguous and costs nothing.
        return clip.permute(1, 2, 3, 0), self._class_index[row.label]


def make_loader(
    clips: PackedClips, *, batch_size: int, shuffle_with: torch.Generator | None = None
) -> DataLoader[Batch]:
    """Load clips in batches, the last one as small as it comes; shuffled when given a generator."""
    loader = DataLoader(
        clips,
        batch_size=batch_size,
        shuffle=shuffle_with is not None,
        generator=shuffle_with,
        collate_fn=collate,
    )
    # torch types a loader by the items of its data set; what comes out is what `collate` makes.
    return cast("DataLoader[Batch]", loader)


def collate(items: Sequence[tuple[Tensor, int]]) -> Batch:
    """Stack clips (T, H, W, C) into one batch (N, C, T, H, W) in channels-last memory."""
    clips_nthwc = torch.stack([clip for clip, _ in items])
    targets = torch.tensor([target for _, target in items])
    return Batch(clips_nthwc.permute(0, 4, 1, 2, 3), targets)
