from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from kinetrack.data.index import tensor_path
from kinetrack.data.tensors import PackedSide, load_clip, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.batches import Batch, PackedClips, collate, make_loader

from factories import GEOMETRY, write_packed


@pytest.fixture
def clips(tmp_path: Path) -> PackedClips:
    """Six training clips of 4 frames of 16 px, three of each class."""
    side = read_sides(write_packed(tmp_path))["train"]
    return PackedClips(side, labels=["Jump", "Walk"], geometry=GEOMETRY)


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
    clips = PackedClips(side, labels=["Walk", "Other", "Jump"], geometry=GEOMETRY)
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


@pytest.mark.parametrize(
    ("spare_frames", "change"),
    [
        (0, {"num_frames": 8}),
        (0, {"num_frames": 3}),
        (2, {}),
        (2, {"sampling": "center", "spare_frames": 2}),
        (2, {"sampling": "random", "spare_frames": 1}),
        (2, {"sampling": "random", "spare_frames": "all", "num_frames": 7}),
    ],
)
def test_clip_of_another_length_is_named(
    tmp_path: Path, spare_frames: int, change: dict[str, object]
) -> None:
    side = read_sides(write_packed(tmp_path, spare_frames=spare_frames))["train"]
    message = (
        r"v_Jump_g01_c01\.pt: was packed by another geometry, found \d frames, expected num_fr"
    )
    with pytest.raises(InputError, match=message):
        PackedClips(side, labels=["Jump", "Walk"], geometry=GEOMETRY.model_copy(update=change))


def test_clip_of_another_size_is_named(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path))["train"]
    smaller = GEOMETRY.model_copy(update={"size_px": 8})
    clips = PackedClips(side, labels=["Jump", "Walk"], geometry=smaller)
    with pytest.raises(InputError, match=r"v_Jump_g01_c01\.pt: is of another shape"):
        next(iter(make_loader(clips, batch_size=2)))


RANDOM = GEOMETRY.model_copy(update={"sampling": "random", "spare_frames": 5})


@pytest.fixture
def spacious(tmp_path: Path) -> PackedSide:
    """Six training clips of 4 frames and 5 spare ones."""
    return read_sides(write_packed(tmp_path, spare_frames=5))["train"]


def starts_of(side: PackedSide, clips: PackedClips) -> list[int]:
    """Where the windows lie that a data set gives, in its order."""
    found = []
    for place, row in enumerate(side.rows):
        whole_thwc = load_clip(side.path(row), num_frames=9, size_px=16).permute(1, 2, 3, 0)
        window_thwc, _ = clips[place]
        assert window_thwc.shape == (4, 16, 16, 3)
        [start] = [at for at in range(6) if torch.equal(whole_thwc[at : at + 4], window_thwc)]
        found.append(start)
    return found


def test_window_is_the_middle_one_unless_drawn(spacious: PackedSide) -> None:
    clips = PackedClips(spacious, labels=["Jump", "Walk"], geometry=RANDOM)
    assert starts_of(spacious, clips) == [2] * 6


def draw_starts(side: PackedSide, *, seed: int, times: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    clips = PackedClips(side, labels=["Jump", "Walk"], geometry=RANDOM, draw_with=generator)
    return [start for _ in range(times) for start in starts_of(side, clips)]


def test_windows_are_drawn_anew_each_time_and_repeatably(spacious: PackedSide) -> None:
    drawn = draw_starts(spacious, seed=3, times=2)
    torch.rand(5)
    assert draw_starts(spacious, seed=3, times=2) == drawn
    assert drawn[:6] != drawn[6:]
    assert draw_starts(spacious, seed=4, times=2) != drawn


def test_every_window_is_drawn_as_often(spacious: PackedSide) -> None:
    drawn = draw_starts(spacious, seed=0, times=50)
    assert sorted(set(drawn)) == list(range(6))
    assert chisquare([drawn.count(start) for start in range(6)]).pvalue > 0.001


def test_window_is_a_view_of_the_file(spacious: PackedSide) -> None:
    """So that no other frame is read."""
    clips = PackedClips(spacious, labels=["Jump", "Walk"], geometry=RANDOM)
    window_thwc, _ = clips[0]
    assert window_thwc.is_contiguous()
    assert window_thwc.untyped_storage().nbytes() > window_thwc.numel()


def test_spare_frames_do_not_change_the_order(tmp_path: Path, spacious: PackedSide) -> None:
    def targets(side: PackedSide, **keys: object) -> list[int]:
        order = torch.Generator().manual_seed(1)
        clips = PackedClips(side, labels=["Jump", "Walk"], **keys)
        loader = make_loader(clips, batch_size=1, shuffle_with=order)
        return [int(batch.targets) for _ in range(3) for batch in loader]

    windows = torch.Generator().manual_seed(2)
    drawn = targets(spacious, geometry=RANDOM, draw_with=windows)
    plain = read_sides(write_packed(tmp_path / "plain"))["train"]
    assert drawn == targets(plain, geometry=GEOMETRY)
