"""Batches of packed clips for training and evaluation."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kinetrack.data.sampling import ClipGeometry, middle_start, packed_lengths, window_starts
from kinetrack.data.tensors import PackedSide, load_clip
from kinetrack.errors import InputError


class Batch(NamedTuple):
    """Clips uint8 (N, C, T, H, W) in channels-last memory, and class indices (N,)."""

    clips: Tensor
    targets: Tensor


class PackedClips(Dataset[tuple[Tensor, int]]):
    """The clips of one side as (uint8 window (T, H, W, C), class index).

    Of a clip that was packed with spare frames the window is the middle one, or with `draw_with`
    one drawn from this generator, anew each time. No other frame is read from the disk.

    Raises:
        InputError: a clip was not packed by this geometry.
    """

    def __init__(
        self,
        side: PackedSide,
        *,
        labels: Sequence[str],
        geometry: ClipGeometry,
        draw_with: torch.Generator | None = None,
    ) -> None:
        _check_lengths(side, geometry)
        self._side = side
        self._class_index = {label: index for index, label in enumerate(labels)}
        self._geometry = geometry
        self._draw_with = draw_with

    def __len__(self) -> int:
        return len(self._side.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        row, num_frames = self._side.rows[place], self._geometry.num_frames
        clip = load_clip(
            self._side.path(row), num_frames=row.packed_frames, size_px=self._geometry.size_px
        )
        start = self._choose_start(row.packed_frames)
        # (C, T, H, W) as stored in (T, H, W, C): so the view is contiguous and costs nothing.
        return clip.permute(1, 2, 3, 0)[start : start + num_frames], self._class_index[row.label]

    def _choose_start(self, packed_frames: int) -> int:
        if self._draw_with is None:
            return middle_start(packed_frames, self._geometry.num_frames)
        starts = window_starts(packed_frames, self._geometry.num_frames)
        return starts[int(torch.randint(len(starts), (), generator=self._draw_with))]


def _check_lengths(side: PackedSide, geometry: ClipGeometry) -> None:
    lengths = packed_lengths(geometry)
    other = [row for row in side.rows if row.packed_frames not in lengths]
    if other:
        sampling, spare = geometry.sampling, geometry.spare_frames
        raise InputError(
            side.path(other[0]),
            "was packed by another geometry",
            found=f"{other[0].packed_frames} frames",
            expected=f"num_frames {geometry.num_frames}, {sampling}, spare_frames {spare}",
            remedy="dvc repro",
        )


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
