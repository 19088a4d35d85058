from pathlib import Path

import pytest
import torch

from kinetrack.data.tensors import load_clip, read_sides, tensor_path
from kinetrack.errors import InputError
from kinetrack.learning.batches import Batch, PackedClips, collate, make_loader

from factories import write_packed


@pytest.fixture
def clips(tmp_path: Path) -> PackedClips:
    """Six training clips of 4 frames of 16 px, three of each class."""
    side = read_sides(write_packed(tmp_path))["train"]
    return PackedClips(side, labels=["Jump", "Walk"], num_frames=4, size_px=16)


def test_clip_is_the_stored_one_with_its_class(clips: PackedClips, tmp_path: Path) -> None:
    stored = load_clip(
        tensor_path(tmp_path, "train", "Walk", "v_Walk_g01_c01"), num_frames=4, size_px=16
    )
    clip_thwc, target = clips[3]
    assert torch.equal(clip_thwc.permute(3, 0, 1, 2), stored)
    assert target == 1
    assert clip_thwc.is_contiguous()


def test_class_index_is_the_place_among_the_labels(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path))["train"]
    clips = PackedClips(side, labels=["Walk", "Other", "Jump"], num_frames=4, size_px=16)
    assert [clips[place][1] for place in range(len(clips))] == [2, 2, 2, 0, 0, 0]


def test_batch_is_laid_out_channels_last(clips: PackedClips) -> None:
    batch = next(iter(make_loader(clips, batch_size=2)))
    assert isinstance(batch, Batch)
    assert batch.clips.shape == (2, 3, 4, 16, 16)
    assert batch.clips.dtype == torch.uint8
    assert batch.clips.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.targets.dtype == torch.int64


def test_batch_keeps_the_order_of_its_items() -> None:
    clips_thwc = [torch.full((1, 2, 2, 3), value, dtype=torch.uint8) for value in (7, 9)]
    batch = collate([(clips_thwc[0], 1), (clips_thwc[1], 0)])
    assert batch.clips[:, 0, 0, 0, 0].tolist() == [7, 9]
    assert batch.targets.tolist() == [1, 0]


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 2]), (3, [3, 3]), (5, [5, 1]), (9, [6])])
def test_last_batch_is_as_small_as_it_comes(
    clips: PackedClips, batch_size: int, sizes: list[int]
) -> None:
    loader = make_loader(clips, batch_size=batch_size)
    assert [len(batch.targets) for batch in loader] == sizes


def brightness(clips: PackedClips, seed: int | None, *, epochs: int = 1) -> list[int]:
    """Sums of the clips in the order in which the loader gives them."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    loader = make_loader(clips, batch_size=4, shuffle_with=generator)
    return [
        int(clip.sum()) for _ in range(epochs) for batch in loader for clip in batch.clips.int()
    ]


def test_order_is_that_of_the_index_unless_shuffled(clips: PackedClips) -> None:
    in_order = [int(clips[place][0].int().sum()) for place in range(len(clips))]
    assert brightness(clips, None) == in_order
    assert brightness(clips, 0) != in_order
    assert sorted(brightness(clips, 0)) == sorted(in_order)


def test_shuffling_is_repeatable_and_new_in_every_epoch(clips: PackedClips) -> None:
    order = brightness(clips, 3, epochs=2)
    torch.rand(5)
    assert brightness(clips, 3, epochs=2) == order
    assert order[:6] != order[6:]


def test_clip_of_another_geometry_is_named(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path))["train"]
    clips = PackedClips(side, labels=["Jump", "Walk"], num_frames=8, size_px=16)
    with pytest.raises(InputError, match=r"v_Jump_g01_c01\.pt: is of another shape"):
        next(iter(make_loader(clips, batch_size=2)))
