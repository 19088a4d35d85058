from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from kinetrack.data.index import tensor_path
from kinetrack.data.tensors import PackedSide, load_clip, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.augment import AugmentParams, Changes
from kinetrack.learning.packed_clips import ClipKey, Example, PackedClips, View

from factories import GEOMETRY, NO_AUGMENTATION, write_packed

CPU = torch.device("cpu")


def example_of(clips: PackedClips, place: int, *, epoch: int = 1) -> Example:
    """One clip, not mixed."""
    example = clips[ClipKey(place, epoch)]
    assert isinstance(example, Example)
    return example


@pytest.fixture
def clips(tmp_path: Path) -> PackedClips:
    """Six training clips of 4 frames of 16 px, three of each class."""
    side = read_sides(write_packed(tmp_path))["train"]
    return PackedClips(side, labels=["Jump", "Walk"], geometry=GEOMETRY)


def test_clip_is_the_stored_one_with_its_class(clips: PackedClips, tmp_path: Path) -> None:
    stored = load_clip(
        tensor_path(tmp_path, "train", "Walk", "v_Walk_g01_c01"), num_frames=4, size_px=16
    )
    clip_thwc, target, _ = example_of(clips, 3)
    assert torch.equal(clip_thwc.permute(3, 0, 1, 2), stored)
    assert target == 1
    assert clip_thwc.is_contiguous()


def test_class_index_is_the_place_among_the_labels(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path))["train"]
    clips = PackedClips(side, labels=["Walk", "Other", "Jump"], geometry=GEOMETRY)
    assert [example_of(clips, place).target for place in range(len(clips))] == [2, 2, 2, 0, 0, 0]


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


RANDOM = GEOMETRY.model_copy(update={"sampling": "random", "spare_frames": 5})


@pytest.fixture
def spacious(tmp_path: Path) -> PackedSide:
    """Six training clips of 4 frames and 5 spare ones."""
    return read_sides(write_packed(tmp_path, spare_frames=5))["train"]


def starts_of(side: PackedSide, clips: PackedClips, *, epoch: int = 1) -> list[int]:
    """Where the windows lie that a data set gives, in its order."""
    found = []
    for place, row in enumerate(side.rows):
        whole_thwc = load_clip(side.path(row), num_frames=9, size_px=16).permute(1, 2, 3, 0)
        window_thwc = example_of(clips, place, epoch=epoch).clip
        assert window_thwc.shape == (4, 16, 16, 3)
        [start] = [at for at in range(6) if torch.equal(whole_thwc[at : at + 4], window_thwc)]
        found.append(start)
    return found


def test_window_is_the_middle_one_unless_drawn(spacious: PackedSide) -> None:
    clips = PackedClips(spacious, labels=["Jump", "Walk"], geometry=RANDOM)
    assert starts_of(spacious, clips) == [2] * 6


def draw_starts(side: PackedSide, *, seed: int, epochs: int) -> list[int]:
    clips = PackedClips(
        side, labels=["Jump", "Walk"], geometry=RANDOM, augment=NO_AUGMENTATION, seed=seed
    )
    return [start for epoch in range(epochs) for start in starts_of(side, clips, epoch=epoch)]


def test_windows_are_drawn_anew_in_each_epoch_and_repeatably(spacious: PackedSide) -> None:
    drawn = draw_starts(spacious, seed=3, epochs=2)
    torch.rand(5)
    assert draw_starts(spacious, seed=3, epochs=2) == drawn
    assert drawn[:6] != drawn[6:]
    assert draw_starts(spacious, seed=4, epochs=2) != drawn


def test_every_window_is_drawn_as_often(spacious: PackedSide) -> None:
    drawn = draw_starts(spacious, seed=0, epochs=50)
    assert sorted(set(drawn)) == list(range(6))
    assert chisquare([drawn.count(start) for start in range(6)]).pvalue > 0.001


def test_window_is_a_view_of_the_file(spacious: PackedSide) -> None:
    """So that no other frame is read."""
    clips = PackedClips(spacious, labels=["Jump", "Walk"], geometry=RANDOM)
    window_thwc = example_of(clips, 0).clip
    assert window_thwc.is_contiguous()
    assert window_thwc.untyped_storage().nbytes() > window_thwc.numel()


def test_square_is_the_middle_one_unless_drawn(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path, spare_px=4))["train"]
    geometry = GEOMETRY.model_copy(update={"resize_px": 20, "spare_px": 4})
    whole = load_clip(side.path(side.rows[0]), num_frames=4, size_px=20).permute(1, 2, 3, 0)

    def square(augment: AugmentParams | None, epoch: int) -> Tensor:
        clips = PackedClips(side, labels=["Jump", "Walk"], geometry=geometry, augment=augment)
        return example_of(clips, 0, epoch=epoch).clip

    assert torch.equal(square(None, 1), whole[:, 2:18, 2:18])
    corners = {
        (top, left)
        for epoch in range(40)
        for top in range(5)
        for left in range(5)
        if torch.equal(square(NO_AUGMENTATION, epoch), whole[:, top : top + 16, left : left + 16])
    }
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(5))
    assert any(top != left for top, left in corners)


def test_held_clips_are_those_of_the_disk(spacious: PackedSide) -> None:
    def make() -> PackedClips:
        return PackedClips(
            spacious, labels=["Jump", "Walk"], geometry=RANDOM, augment=NO_AUGMENTATION
        )

    held = make()
    held.hold_all(CPU)
    for place in range(len(held)):
        assert torch.equal(example_of(held, place).clip, example_of(make(), place).clip)


def test_each_view_is_a_part_of_what_was_packed(tmp_path: Path) -> None:
    side = read_sides(write_packed(tmp_path, spare_frames=5, spare_px=4))["test"]
    geometry = RANDOM.model_copy(update={"resize_px": 20, "spare_px": 4})
    packed = load_clip(side.path(side.rows[0]), num_frames=9, size_px=20).permute(1, 2, 3, 0)

    def look(**view: Any) -> Tensor:
        clips = PackedClips(
            side, labels=["Jump", "Walk"], geometry=geometry, view=View(**view), seed=0
        )
        return example_of(clips, 0).clip

    assert torch.equal(look(), packed[2:6, 2:18, 2:18])
    assert torch.equal(look(window=2, windows=3), packed[5:, 2:18, 2:18])
    assert torch.equal(look(crop=2, crops=5), packed[2:6, :16, 4:])
    shuffled = look(is_shuffled=True)
    assert not torch.equal(shuffled, look())
    assert sorted(map(hash, map(bytes, shuffled.numpy().reshape(4, -1)))) == sorted(
        map(hash, map(bytes, look().numpy().reshape(4, -1)))
    )
    assert torch.equal(shuffled, look(is_shuffled=True))


def test_class_of_a_flipped_clip_is_the_one_in_the_mirror(tmp_path: Path) -> None:
    labels = ["Jump", "MoveLeft", "MoveRight"]
    side = read_sides(write_packed(tmp_path, labels=labels))["train"]
    mirror = {"Jump": "Jump", "MoveLeft": "MoveRight", "MoveRight": "MoveLeft"}
    half = NO_AUGMENTATION.model_copy(update={"flip": 0.5})
    clips = PackedClips(side, labels=labels, geometry=GEOMETRY, augment=half)
    seen = set()
    for place, row in enumerate(side.rows):
        for epoch in range(8):
            example = example_of(clips, place, epoch=epoch)
            is_flipped = bool(Changes(*example.draws.tolist()).flip)
            assert labels[example.target] == (mirror[row.label] if is_flipped else row.label)
            seen.add((row.label, is_flipped))
    assert len(seen) == 6
