from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms.v2 import functional as torchvision
from torchvision.tv_tensors import BoundingBoxes

from kinetrack.data.sampling import (
    SHORT_CLIP_REMEDY,
    ClipGeometry,
    ShortClips,
    centre_box,
    crop_corners,
    is_short,
    middle_crop,
    middle_start,
    needed_frames,
    packed_indices,
    packed_lengths,
    packed_px,
    resized_size,
    uniform_indices,
    view_corners,
    view_starts,
    window_starts,
)

from factories import GEOMETRY

counts = st.integers(1, 500)


def changed(**keys: object) -> ClipGeometry:
    return ClipGeometry.model_validate(GEOMETRY.model_dump() | keys)


@st.composite
def geometries(draw: st.DrawFn) -> ClipGeometry:
    """Any geometry that packs every clip."""
    sampling = draw(st.sampled_from(["uniform", "center", "random"]))
    numbers = st.integers(1 if sampling == "random" else 0, 60)
    return changed(
        num_frames=draw(st.integers(1, 40)),
        sampling=sampling,
        stride=draw(st.integers(1, 9)),
        spare_frames=draw(numbers | st.just("all")),
        short_clips=draw(st.sampled_from(["stretch", "loop"])),
    )


@given(num_frames=counts, more=st.integers(0, 2000))
def test_long_clip_is_sampled_by_the_rule_of_the_lecture(num_frames: int, more: int) -> None:
    length = num_frames + more
    step = length // num_frames
    expected = np.arange(0, step * num_frames, step).tolist()
    assert uniform_indices(length, num_frames) == expected
    assert packed_indices(changed(num_frames=num_frames, stride=7), length) == expected


@given(num_available=counts, more=st.integers(1, 500))
def test_short_clip_is_stretched_over_all_its_frames(num_available: int, more: int) -> None:
    indices = uniform_indices(num_available, num_available + more)
    assert len(indices) == num_available + more
    assert indices == sorted(indices)
    assert set(indices) == set(range(num_available))


@given(num_available=counts, more=st.integers(1, 500))
def test_stretched_frames_repeat_evenly(num_available: int, more: int) -> None:
    indices = uniform_indices(num_available, num_available + more)
    repeats = [indices.count(index) for index in range(num_available)]
    assert max(repeats) - min(repeats) <= 1


@pytest.mark.parametrize(
    ("num_available", "num_frames", "indices"),
    [
        (4, 4, [0, 1, 2, 3]),
        (9, 4, [0, 2, 4, 6]),
        (7, 4, [0, 1, 2, 3]),
        (3, 1, [0]),
        (1, 3, [0, 0, 0]),
        (2, 4, [0, 0, 1, 1]),
        (3, 4, [0, 0, 1, 2]),
    ],
)
def test_indices_by_hand(num_available: int, num_frames: int, indices: list[int]) -> None:
    assert uniform_indices(num_available, num_frames) == indices


@pytest.mark.parametrize(("num_available", "num_frames"), [(0, 4), (4, 0), (-1, 4), (4, -1)])
def test_counts_must_be_positive(num_available: int, num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"positive, got {num_available} and {num_frames}"):
        uniform_indices(num_available, num_frames)


@pytest.mark.parametrize(
    ("num_available", "stride", "indices"),
    [
        (4, 1, [0, 1, 2, 3]),
        (5, 1, [0, 1, 2, 3]),
        (6, 1, [1, 2, 3, 4]),
        (10, 3, [0, 3, 6, 9]),
        (13, 3, [1, 4, 7, 10]),
    ],
)
def test_centre_window_by_hand(num_available: int, stride: int, indices: list[int]) -> None:
    geometry = changed(sampling="center", stride=stride, spare_frames=5)
    assert packed_indices(geometry, num_available) == indices


@pytest.mark.parametrize(
    ("num_available", "stride", "spare_frames", "indices"),
    [
        (20, 1, 1, [8, 9, 10, 11, 12]),
        (20, 1, 2, [7, 8, 9, 10, 11, 12]),
        (20, 3, 2, [2, 5, 8, 11, 14, 17]),
        (20, 3, 3, [2, 5, 8, 11, 14, 17]),
        (21, 3, 3, [2, 5, 8, 11, 14, 17, 20]),
        (20, 3, "all", [2, 5, 8, 11, 14, 17]),
        (7, 1, "all", [0, 1, 2, 3, 4, 5, 6]),
        (4, 1, 9, [0, 1, 2, 3]),
    ],
)
def test_spare_frames_lie_around_the_centre_window(
    num_available: int, stride: int, spare_frames: object, indices: list[int]
) -> None:
    geometry = changed(sampling="random", stride=stride, spare_frames=spare_frames)
    assert packed_indices(geometry, num_available) == indices


@pytest.mark.parametrize(
    ("sampling", "stride", "num_available", "stretched", "looped"),
    [
        ("uniform", 9, 3, [0, 0, 1, 2], [0, 1, 2, 0]),
        ("uniform", 1, 1, [0, 0, 0, 0], [0, 0, 0, 0]),
        ("center", 1, 3, [0, 0, 1, 2], [0, 1, 2, 0]),
        ("center", 2, 3, [0, 0, 1, 2], [0, 2, 1, 0]),
        ("center", 3, 9, [0, 2, 4, 6], [0, 3, 6, 0]),
        ("random", 3, 8, [0, 2, 4, 6], [0, 3, 6, 1]),
    ],
)
def test_short_clips_by_hand(
    sampling: str, stride: int, num_available: int, stretched: list[int], looped: list[int]
) -> None:
    short = {"sampling": sampling, "stride": stride, "spare_frames": 2}
    stretching, looping = (changed(**short, short_clips=kind) for kind in ("stretch", "loop"))
    assert is_short(stretching, num_available)
    assert packed_indices(stretching, num_available) == stretched
    assert packed_indices(looping, num_available) == looped


@pytest.mark.parametrize("short_clips", ["fail", "drop"])
def test_a_short_clip_that_is_not_wanted_has_no_indices(short_clips: str) -> None:
    geometry = changed(sampling="center", stride=2, short_clips=short_clips)
    assert packed_indices(geometry, 7) == [0, 2, 4, 6]
    with pytest.raises(ValueError, match=f"6 frames are fewer than 7, .* is {short_clips}"):
        packed_indices(geometry, 6)


def test_the_remedy_names_each_way_to_take_a_short_clip() -> None:
    named = SHORT_CLIP_REMEDY.partition("short_clips: ")[2].replace(" or ", ", ").split(", ")
    assert ["fail", *named] == list(get_args(ShortClips))


@pytest.mark.parametrize("num_available", [0, -1])
def test_a_clip_without_frames_has_no_indices(num_available: int) -> None:
    with pytest.raises(ValueError, match=f"has frames, got {num_available}"):
        packed_indices(changed(short_clips="loop"), num_available)


@given(geometry=geometries(), num_available=counts)
def test_indices_are_frames_of_the_clip(geometry: ClipGeometry, num_available: int) -> None:
    indices = packed_indices(geometry, num_available)
    assert all(0 <= index < num_available for index in indices)
    assert len(indices) in packed_lengths(geometry)
    looped = is_short(geometry, num_available) and geometry.short_clips == "loop"
    assert looped or indices == sorted(indices)
    assert is_short(geometry, num_available) or len(set(indices)) == len(indices)


@given(geometry=geometries(), num_available=counts)
def test_a_short_clip_fills_exactly_the_window(geometry: ClipGeometry, num_available: int) -> None:
    assume(is_short(geometry, num_available))
    assert len(packed_indices(geometry, num_available)) == geometry.num_frames


@given(geometry=geometries(), more=st.integers(0, 300))
def test_a_window_is_short_by_one_frame_less(geometry: ClipGeometry, more: int) -> None:
    needed = needed_frames(geometry)
    assert is_short(geometry, needed - 1)
    assert not is_short(geometry, needed + more)


@given(num_frames=counts, stride=st.integers(1, 20), more=st.integers(0, 300))
def test_the_centre_is_in_the_middle(num_frames: int, stride: int, more: int) -> None:
    geometry = changed(num_frames=num_frames, sampling="center", stride=stride)
    num_available = needed_frames(geometry) + more
    indices = packed_indices(geometry, num_available)
    before, after = indices[0], num_available - 1 - indices[-1]
    assert after - before in (0, 1)
    assert set(np.diff(indices)) <= {stride}


@given(geometry=geometries(), num_available=counts)
def test_the_middle_window_of_random_is_the_centre(
    geometry: ClipGeometry, num_available: int
) -> None:
    assume(geometry.sampling == "random")
    packed = packed_indices(geometry, num_available)
    start = middle_start(len(packed), geometry.num_frames)
    centre = geometry.model_copy(update={"sampling": "center"})
    middle = packed[start : start + geometry.num_frames]
    assert middle == packed_indices(centre, num_available)


@given(geometry=geometries(), num_available=counts)
def test_all_spare_frames_leave_no_room(geometry: ClipGeometry, num_available: int) -> None:
    assume(geometry.sampling == "random" and not is_short(geometry, num_available))
    whole = geometry.model_copy(update={"spare_frames": "all"})
    indices = packed_indices(whole, num_available)
    assert indices[0] < geometry.stride
    assert indices[-1] >= num_available - geometry.stride
    assert set(packed_indices(geometry, num_available)) <= set(indices)


@pytest.mark.parametrize(
    ("packed_frames", "starts", "middle"),
    [(4, [0], 0), (5, [0, 1], 0), (6, [0, 1, 2], 1), (9, [0, 1, 2, 3, 4, 5], 2)],
)
def test_windows_of_a_packed_clip(packed_frames: int, starts: list[int], middle: int) -> None:
    assert list(window_starts(packed_frames, 4)) == starts
    assert middle_start(packed_frames, 4) == middle


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ({"spare_frames": 9}, 4),
        ({"sampling": "center", "spare_frames": "all"}, 4),
        ({"sampling": "random", "spare_frames": 9}, 13),
    ],
)
def test_spare_frames_are_packed_for_random_only(change: dict[str, object], most: int) -> None:
    assert packed_lengths(changed(**change)) == range(4, most + 1)
    assert len(packed_indices(changed(**change), 100)) == most


sides_px = st.integers(1, 5000)


@given(width=sides_px, height=sides_px, short_px=st.integers(1, 1000))
def test_resized_size_is_that_of_torchvision(width: int, height: int, short_px: int) -> None:
    # Of boxes, torchvision resizes the size of the picture without the picture.
    box = BoundingBoxes([[0, 0, 1, 1]], format="XYXY", canvas_size=(height, width))
    expected_height, expected_width = torchvision.resize(box, [short_px]).canvas_size
    assert resized_size(width, height, short_px) == (expected_width, expected_height)


@given(size_px=st.integers(1, 60), wider=st.integers(0, 60), higher=st.integers(0, 60))
def test_centre_box_is_that_of_torchvision(size_px: int, wider: int, higher: int) -> None:
    width, height = size_px + wider, size_px + higher
    pixels = np.arange(width * height, dtype=np.int32).reshape(height, width)
    cut = torchvision.center_crop(Image.fromarray(pixels), [size_px])
    left, top, right, bottom = centre_box(width, height, size_px)
    assert np.array_equal(np.asarray(cut), pixels[top:bottom, left:right])


@given(
    size_px=st.integers(1, 60),
    spare_px=st.integers(0, 40),
    wider=st.integers(0, 40),
    higher=st.integers(0, 40),
)
def test_the_middle_of_the_packed_square_is_the_centre_square(
    size_px: int, spare_px: int, wider: int, higher: int
) -> None:
    geometry = changed(resize_px=100, size_px=size_px, spare_px=spare_px)
    width, height = packed_px(geometry) + wider, packed_px(geometry) + higher
    packed = centre_box(width, height, size_px, spare_px=spare_px)
    assert packed.right - packed.left == packed.bottom - packed.top == packed_px(geometry)
    assert 0 <= packed.left < packed.right <= width
    assert 0 <= packed.top < packed.bottom <= height
    before = middle_crop(geometry)
    left, top = packed.left + before, packed.top + before
    assert centre_box(width, height, size_px) == (left, top, left + size_px, top + size_px)


@pytest.mark.parametrize(
    ("spare_px", "corners", "middle"),
    [(0, [0], 0), (1, [0, 1], 0), (2, [0, 1, 2], 1), (3, [0, 1, 2, 3], 2), (4, [0, 1, 2, 3, 4], 2)],
)
def test_squares_of_a_packed_clip(spare_px: int, corners: list[int], middle: int) -> None:
    geometry = changed(resize_px=20, spare_px=spare_px)
    assert packed_px(geometry) == 16 + spare_px
    assert list(crop_corners(geometry)) == corners
    assert middle_crop(geometry) == middle


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": 16},
        {"size_px": 12, "spare_px": 4},
        {"crop": "squash", "spare_px": 9},
        {"crop": "squash", "size_px": 64},
        {"sampling": "random", "spare_frames": "all"},
        {"sampling": "random", "spare_frames": 1, "short_clips": "drop"},
        {"spare_frames": 8},
    ],
)
def test_geometry_that_makes_sense_is_taken(change: dict[str, object]) -> None:
    assert changed(**change).model_dump() == GEOMETRY.model_dump() | change


def test_a_geometry_tells_what_its_keys_mean_and_does_not_change() -> None:
    assert [key for key, field in ClipGeometry.model_fields.items() if not field.description] == []
    with pytest.raises(ValidationError, match="frozen"):
        changed().num_frames = 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size_px": 17}, "size_px should be at most resize_px"),
        ({"spare_px": 1}, "size_px plus spare_px should be at most resize_px"),
        ({"crop": "squash", "spare_px": -1}, "greater than or equal to 0"),
        ({"spare_px": "all"}, "valid integer"),
        ({"num_frames": 0}, "greater than or equal to 1"),
        ({"num_frames": True}, "valid integer"),
        ({"num_frames": 32.0}, "valid integer"),
        ({"resize_px": -1}, "greater than or equal to 1"),
        ({"crop": "squash", "resize_px": 0}, "greater than or equal to 1"),
        ({"crop": "none"}, "'center' or 'squash'"),
        ({"sampling": "centre"}, "'uniform', 'center' or 'random'"),
        ({"sampling": "random"}, "random needs spare_frames: a number above 0, or all"),
        ({"spare_frames": -1}, "greater than or equal to 0"),
        ({"spare_frames": "none"}, "'all'"),
        ({"spare_frames": True}, "valid integer"),
        ({"stride": 0}, "greater than or equal to 1"),
        ({"short_clips": "skip"}, "'fail', 'stretch', 'loop' or 'drop'"),
        ({"strides": 2}, "Extra inputs"),
    ],
)
def test_geometry_that_makes_no_sense_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        changed(**change)


@pytest.mark.parametrize(
    ("packed", "views", "starts"),
    [(10, 1, [3]), (10, 2, [0, 6]), (10, 3, [0, 3, 6]), (4, 3, [0, 0, 0]), (9, 5, [0, 1, 2, 4, 5])],
)
def test_windows_to_look_at_are_spread_evenly(packed: int, views: int, starts: list[int]) -> None:
    assert view_starts(packed, 4, views) == starts


def test_squares_to_look_at_are_the_middle_and_the_corners() -> None:
    geometry = changed(size_px=16, resize_px=24, spare_px=8)
    assert view_corners(geometry, 1) == [(4, 4)]
    assert view_corners(geometry, 5) == [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]
    assert view_corners(changed(spare_px=0), 5) == [(0, 0)] * 5
    with pytest.raises(ValueError, match="1 or 5, got 3"):
        view_corners(geometry, 3)
