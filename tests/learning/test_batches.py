import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from kinetrack.data.index import tensor_path
from kinetrack.data.tensors import PackedSide, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.batches import Batch, ClipBatches, collate
from kinetrack.learning.packed_clips import ClipKey, Example, Mixture, PackedClips
from kinetrack.learning.processes import Team, alone

from factories import GEOMETRY, NO_AUGMENTATION, write_packed

CPU = torch.device("cpu")


def example_of(clips: PackedClips, place: int, *, epoch: int = 1) -> Example:
    """One clip, not mixed."""
    example = clips[ClipKey(place, epoch)]
    assert isinstance(example, Example)
    return example


def in_batches(clips: PackedClips, batch_size: int, *, team: Team | None = None, **keys: Any):
    return ClipBatches(clips, batch_size=batch_size, team=team or alone(CPU), **keys)


@pytest.fixture
def clips(tmp_path: Path) -> PackedClips:
    """Six training clips of 4 frames of 16 px, three of each class."""
    side = read_sides(write_packed(tmp_path))["train"]
    return PackedClips(side, labels=["Jump", "Walk"], geometry=GEOMETRY)


def test_batch_is_laid_out_channels_last(clips: PackedClips) -> None:
    batch = next(in_batches(clips, 2).of_epoch(1))
    assert isinstance(batch, Batch)
    assert batch.clips.shape == (2, 3, 4, 16, 16)
    assert batch.clips.dtype == torch.uint8
    assert batch.clips.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.targets.dtype == torch.int64


def test_batch_keeps_the_order_of_its_items() -> None:
    clips_thwc = [torch.full((1, 2, 2, 3), value, dtype=torch.uint8) for value in (7, 9)]
    draws = torch.tensor([5.0, 6.0])
    batch = collate([Example(clips_thwc[0], 1, draws[:1]), Example(clips_thwc[1], 0, draws[1:])])
    assert isinstance(batch, Batch)
    assert batch.draws.tolist() == [[5], [6]]
    assert batch.clips[:, 0, 0, 0, 0].tolist() == [7, 9]
    assert batch.targets.tolist() == [1, 0]


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 2]), (3, [3, 3]), (5, [5, 1]), (9, [6])])
def test_last_batch_is_as_small_as_it_comes(
    clips: PackedClips, batch_size: int, sizes: list[int]
) -> None:
    batches = in_batches(clips, batch_size)
    assert len(batches) == len(sizes)
    found = list(batches.of_epoch(1))
    assert [len(batch.targets) for batch in found] == sizes
    assert [batch.whole_size for batch in found] == sizes


def brightness(clips: PackedClips, seed: int | None, epoch: int = 1, **keys: Any) -> list[int]:
    """Sums of the clips in the order in which they come."""
    batches = in_batches(clips, 4, shuffle_seed=seed, **keys)
    return [int(clip.sum()) for batch in batches.of_epoch(epoch) for clip in batch.clips.int()]


def test_order_is_that_of_the_index_unless_shuffled(clips: PackedClips) -> None:
    in_order = [int(example_of(clips, place).clip.int().sum()) for place in range(len(clips))]
    assert brightness(clips, None) == in_order
    assert brightness(clips, 0) != in_order
    assert sorted(brightness(clips, 0)) == sorted(in_order)


def test_order_depends_on_seed_and_epoch_alone(clips: PackedClips) -> None:
    order = brightness(clips, 3, epoch=5)
    torch.rand(5)
    assert brightness(clips, 3, epoch=5) == order
    assert brightness(clips, 3, epoch=6) != order
    assert brightness(clips, 4, epoch=5) != order


def test_batches_can_be_read_epoch_after_epoch(clips: PackedClips) -> None:
    batches = in_batches(clips, 4, shuffle_seed=3)
    orders = [
        [int(clip.sum()) for batch in batches.of_epoch(epoch) for clip in batch.clips.int()]
        for epoch in (1, 2)
    ]
    assert orders == [brightness(clips, 3, epoch) for epoch in (1, 2)]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 6])
def test_team_shares_every_batch(clips: PackedClips, size: int, batch_size: int) -> None:
    """Each clip goes to one process, in the batch that a process alone would have had it in."""
    keys = {"shuffle_seed": 2}
    teams = [Team(rank=rank, size=size, device=CPU) for rank in range(size)]
    shares = [list(in_batches(clips, batch_size, team=team, **keys).of_epoch(1)) for team in teams]
    for one, *parts in zip(in_batches(clips, batch_size, **keys).of_epoch(1), *shares, strict=True):
        assert {part.whole_size for part in parts} == {len(one.targets)}
        targets = [int(target) for part in parts for target in part.targets]
        assert targets == one.targets.tolist()
        sums = [int(clip.int().sum()) for part in parts for clip in part.clips]
        assert sums == [int(clip.int().sum()) for clip in one.clips]


def test_clip_of_another_size_is_named(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path))["train"]
    smaller = GEOMETRY.model_copy(update={"size_px": 8})
    clips = PackedClips(side, labels=["Jump", "Walk"], geometry=smaller)
    with pytest.raises(InputError, match=r"v_Jump_g01_c01\.pt: is of another shape"):
        next(in_batches(clips, 2).of_epoch(1))


RANDOM = GEOMETRY.model_copy(update={"sampling": "random", "spare_frames": 5})


@pytest.fixture
def spacious(tmp_path: Path) -> PackedSide:
    """Six training clips of 4 frames and 5 spare ones."""
    return read_sides(write_packed(tmp_path, spare_frames=5))["train"]


def test_what_is_drawn_does_not_depend_on_loaders_or_batches(spacious: PackedSide) -> None:
    mixing = NO_AUGMENTATION.model_copy(update={"flip": 0.5, "mixup": 0.4})
    clips = PackedClips(spacious, labels=["Jump", "Walk"], geometry=RANDOM, augment=mixing)

    def drawn(batch_size: int, **keys: Any) -> list[list[float]]:
        batches = in_batches(clips, batch_size, **keys)
        return [
            [
                float(batch.weights[i]),
                *(float(each.clips[i].float().mean()) for each in (batch, batch.partners)),
                *(float(draw) for each in (batch, batch.partners) for draw in each.draws[i]),
            ]
            for batch in batches.of_epoch(2)
            for i in range(len(batch.targets))
        ]

    assert drawn(6) == drawn(4) == drawn(3, loaders=2)


def test_mixed_batch_is_cut_with_its_partners(spacious: PackedSide) -> None:
    mixing = NO_AUGMENTATION.model_copy(update={"mixup": 1.0})
    clips = PackedClips(spacious, labels=["Jump", "Walk"], geometry=RANDOM, augment=mixing)
    (batch,) = in_batches(clips, 6).of_epoch(1)
    parts = list(batch.split(4))
    assert [len(part.targets) for part in parts] == [4, 2]
    for part in parts:
        assert part.partners is not None
        assert part.weights is not None
        assert len(part.partners.clips) == len(part.weights) == len(part.targets)
    assert torch.equal(parts[1].partners.clips, batch.partners.clips[4:])


def test_clip_that_a_loader_process_cannot_read_is_named(
    clips: PackedClips, tmp_path: Path
) -> None:
    path = tensor_path(tmp_path, "train", "Walk", "v_Walk_g01_c01")
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"v_Walk_g01_c01\.pt: is no packed clip"):
        list(in_batches(clips, 2, loaders=1).of_epoch(1))


class Deadly(PackedClips):
    """Clips whose loader process is killed at the fourth."""

    def __getitem__(self, key: ClipKey) -> Example | Mixture | InputError:
        if key.place == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


def test_dead_loader_process_is_told(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path))["train"]
    clips = Deadly(side, labels=["Jump", "Walk"], geometry=GEOMETRY)
    with pytest.raises(InputError, match="KINETRACK_LOADERS: a process that loads clips has died"):
        list(in_batches(clips, 2, loaders=1).of_epoch(1))
