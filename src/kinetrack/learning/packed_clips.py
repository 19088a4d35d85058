"""Packed clips as a network sees them: which window and which square of each."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kinetrack.data.sampling import (
    ClipGeometry,
    crop_corners,
    packed_lengths,
    packed_px,
    view_corners,
    view_starts,
    window_starts,
)
from kinetrack.data.tensors import PackedSide, load_clip
from kinetrack.errors import InputError
from kinetrack.learning.augment import AugmentParams, Changes, draw, draw_mix
from kinetrack.learning.mirroring import mirror_classes
from kinetrack.learning.seeds import derive_generator


class ClipKey(NamedTuple):
    """Which clip of a data set, and for which epoch it is drawn."""

    place: int
    epoch: int


class Example(NamedTuple):
    """One clip: a uint8 window (T, H, W, C), its class index, and what was drawn for it (D,)."""

    clip: Tensor
    target: int
    draws: Tensor


class Mixture(NamedTuple):
    """An example, another one to mix in, and the share of the first."""

    example: Example
    partner: Example
    weight: float


class View(NamedTuple):
    """Which window and which square of a clip is judged: the first of one each is the middle."""

    window: int = 0
    windows: int = 1
    """How many there are, evenly spread over the packed frames."""
    crop: int = 0
    crops: int = 1
    """1, or 5: the middle and the corners."""
    is_shuffled: bool = False
    """Its frames in random order: a control, to which motion tells nothing."""


def cut_view(clip: Tensor, geometry: ClipGeometry, view: View) -> Tensor:
    """Cut the window (T, H, W, C) of a view, its frames in order, out of a packed clip."""
    frames, size = geometry.num_frames, geometry.size_px
    start = view_starts(len(clip), frames, view.windows)[view.window]
    top, left = view_corners(geometry, view.crops)[view.crop]
    return clip[start : start + frames, top : top + size, left : left + size]


class PackedClips(Dataset[Example | Mixture | InputError]):
    """The clips of one side as the network sees them: one window and one square of each.

    Without `augment` these are those of `view`, or else the middle ones. With it, those of clips
    that were packed with spare frames or pixels are drawn, and so is what the augmentation will do;
    a clip that it will flip is of the class that its own becomes in a mirror (`mirroring`).
    Each draw depends on `seed`, the clip and the epoch alone. Nothing but the window is read from
    the disk.

    Raises:
        InputError: a clip was not packed by this geometry.
    """

    def __init__(
        self,
        side: PackedSide,
        *,
        labels: Sequence[str],
        geometry: ClipGeometry,
        augment: AugmentParams | None = None,
        view: View | None = None,
        seed: int = 0,
    ) -> None:
        _check_lengths(side, geometry)
        self._side = side
        self._class_index = {label: index for index, label in enumerate(labels)}
        self._mirrored = mirror_classes(labels)
        self._geometry = geometry
        self._augment = augment
        self._view = view or View()
        self._seed = seed
        self._held: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._side.rows)

    def __getitem__(self, key: ClipKey) -> Example | Mixture | InputError:
        try:
            if self._augment is None:
                return Example(self._look(key.place), self._target(key.place), torch.empty(0))
            return self._draw(key, self._augment)
        except InputError as error:
            # Returned, not raised: a loader process would send its text only, as another error.
            return error

    def hold_all(self, device: torch.device) -> None:
        """Keep all clips in the memory of a device; windows are cut there from then on."""
        for place in range(len(self)):
            self._held[place] = self._load(place).to(device)

    def _draw(self, key: ClipKey, augment: AugmentParams) -> Example | Mixture:
        generator = derive_generator("clip", self._seed, key.epoch, key.place)
        example = self._draw_example(key.place, augment, generator)
        if not augment.mixup:
            return example
        partner, weight = draw_mix(augment, generator, num_clips=len(self))
        return Mixture(example, self._draw_example(partner, augment, generator), weight)

    def _draw_example(
        self, place: int, augment: AugmentParams, generator: torch.Generator
    ) -> Example:
        clip, target = self._cut(place, generator), self._target(place)
        draws = draw(augment, generator)
        # MoveLeft in a mirror is MoveRight.
        if Changes(*draws.tolist()).flip:
            target = self._mirrored[target]
        return Example(clip, target, draws)

    def _look(self, place: int) -> Tensor:
        """The window (T, H, W, C) that the view is of."""
        window = cut_view(self._clip(place), self._geometry, self._view)
        if not self._view.is_shuffled:
            return window
        generator = derive_generator("shuffled", self._seed, place)
        return window[torch.randperm(len(window), generator=generator)]

    def _target(self, place: int) -> int:
        return self._class_index[self._side.rows[place].label]

    def _cut(self, place: int, generator: torch.Generator) -> Tensor:
        """The window (T, H, W, C) of a clip that is drawn: a view, nothing is copied."""
        clip = self._clip(place)
        frames, size = self._geometry.num_frames, self._geometry.size_px
        starts, corners = window_starts(len(clip), frames), crop_corners(self._geometry)
        start, top, left = (_choose(range_, generator) for range_ in (starts, corners, corners))
        return clip[start : start + frames, top : top + size, left : left + size]

    def _clip(self, place: int) -> Tensor:
        return self._held[place] if place in self._held else self._load(place)

    def _load(self, place: int) -> Tensor:
        """All that was packed of a clip (T, H, W, C), mapped from the disk."""
        row = self._side.rows[place]
        clip = load_clip(
            self._side.path(row), num_frames=row.packed_frames, size_px=packed_px(self._geometry)
        )
        # (C, T, H, W) as stored in (T, H, W, C): so the view is contiguous and costs nothing.
        return clip.permute(1, 2, 3, 0)


def _choose(places: range, generator: torch.Generator) -> int:
    # Drawn for one place too: more room must not change what is drawn afterwards.
    return places[int(torch.randint(len(places), (), generator=generator))]


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
