import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import beta, kstest
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision

from kinetrack.learning.augment import AugmentParams, Changes, augment, draw, draw_mix, mix

NOTHING = AugmentParams(
    flip=0,
    resized_crop=None,
    brightness=0,
    contrast=0,
    saturation=0,
    reverse=0,
    cutout=0,
    mixup=0,
)
UNCHANGED = Changes(
    crop_width=1,
    crop_height=1,
    crop_left=0.5,
    crop_top=0.5,
    flip=0,
    reverse=0,
    brightness=1,
    contrast=1,
    saturation=1,
    cutout_left=0.5,
    cutout_top=0.5,
)
EVERYTHING = {
    "flip": 0.5,
    "resized_crop": [0.3, 1.0],
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 1.0,
    "reverse": 0.5,
    "cutout": 0.3,
}
# Each by itself so strong that a clip does not stay what it was.
SINGLE = [
    {"flip": 1.0},
    {"resized_crop": [0.2, 0.3]},
    {"brightness": 1.0},
    {"contrast": 1.0},
    {"saturation": 1.0},
    {"reverse": 1.0},
    {"cutout": 0.3},
]
seeds = st.integers(0, 2**40)
shares = st.floats(0, 1)


def changed(**keys: object) -> AugmentParams:
    return AugmentParams.model_validate(NOTHING.model_dump() | keys)


@st.composite
def any_params(draw_value: st.DrawFn) -> AugmentParams:
    areas = sorted(draw_value(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1))))
    keys = {key: draw_value(shares) for key in EVERYTHING if key != "resized_crop"}
    return changed(**keys, resized_crop=draw_value(st.sampled_from([None, areas])))


def draw_values(num_clips: int = 2, *, num_frames: int = 4, size_px: int = 12) -> Tensor:
    """Values (N, C, T, H, W) in channels-last memory."""
    shape = (num_clips, num_frames, size_px, size_px, 3)
    return torch.rand(shape, generator=seeded(0)).permute(0, 4, 1, 2, 3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_rows(params: AugmentParams, num_clips: int, *, seed: int = 0) -> Tensor:
    return torch.stack([draw(params, seeded(seed + clip)) for clip in range(num_clips)])


def draw_changes(params: AugmentParams, seed: int) -> Changes:
    return Changes(*draw(params, seeded(seed)).tolist())


def rows_of(*changes: Changes) -> Tensor:
    return torch.tensor(changes, dtype=torch.float64)


@given(params=any_params(), seed=seeds)
def test_a_row_of_draws_says_what_the_params_allow(params: AugmentParams, seed: int) -> None:
    row = draw(params, seeded(seed))
    assert (row.dtype, row.shape) == (torch.float64, (len(Changes._fields),))
    changes = Changes(*row.tolist())
    for key in ("brightness", "contrast", "saturation"):
        strength = getattr(params, key)
        assert 1 - strength <= getattr(changes, key) <= 1 + strength
    places = (changes.crop_left, changes.crop_top, changes.cutout_left, changes.cutout_top)
    assert all(0 <= place < 1 for place in places)
    assert {changes.flip, changes.reverse} <= {0, 1}


@given(params=any_params(), seed=seeds)
def test_a_crop_has_an_allowed_area_and_shape(params: AugmentParams, seed: int) -> None:
    changes = draw_changes(params, seed)
    smallest, largest = params.resized_crop or [1, 1]
    area = changes.crop_width * changes.crop_height
    assert smallest * (1 - 1e-9) <= area <= largest * (1 + 1e-9)
    assert 3 / 4 - 1e-9 <= changes.crop_width / changes.crop_height <= 4 / 3 + 1e-9
    assert max(changes.crop_width, changes.crop_height) <= 1


def test_crops_are_of_all_areas_and_shapes() -> None:
    params = changed(resized_crop=[0.1, 0.5])
    drawn = [draw_changes(params, seed) for seed in range(2000)]
    areas = np.array([changes.crop_width * changes.crop_height for changes in drawn])
    aspects = np.log([changes.crop_width / changes.crop_height for changes in drawn])
    assert kstest(areas, "uniform", (0.1, 0.4)).pvalue > 0.01
    assert kstest(aspects, "uniform", (np.log(3 / 4), np.log(16 / 9))).pvalue > 0.01
    assert abs(np.corrcoef(areas, aspects)[0, 1]) < 0.1


@pytest.mark.parametrize("key", ["flip", "reverse"])
@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_a_change_happens_as_often_as_its_probability_says(key: str, probability: float) -> None:
    params = changed(**{key: probability})
    happened = sum(getattr(draw_changes(params, seed), key) for seed in range(2000))
    assert happened / 2000 == pytest.approx(probability, abs=0.03)


@given(params=any_params(), seed=seeds)
def test_params_do_not_alter_how_much_is_drawn(params: AugmentParams, seed: int) -> None:
    generator, other = seeded(seed), seeded(seed)
    draw(params, generator)
    draw(NOTHING, other)
    assert torch.equal(generator.get_state(), other.get_state())


@given(seed=seeds)
@pytest.mark.parametrize("switched_on", SINGLE, ids=lambda keys: next(iter(keys)))
def test_a_param_that_is_switched_on_alters_no_other_draw(
    switched_on: dict[str, object], seed: int
) -> None:
    before, after = (draw_changes(params, seed) for params in (NOTHING, changed(**switched_on)))
    [key] = switched_on
    others = [name for name in Changes._fields if not name.startswith(key.removeprefix("resized_"))]
    assert len(others) in (7, 9, 10)
    assert all(getattr(before, name) == getattr(after, name) for name in others)


def test_draws_come_from_their_generator_alone() -> None:
    params = changed(**EVERYTHING)
    torch.manual_seed(1)
    first, mixed = draw(params, seeded(5)), draw_mix(changed(mixup=0.3), seeded(5), 100)
    torch.manual_seed(2)
    assert torch.equal(first, draw(params, seeded(5)))
    assert mixed == draw_mix(changed(mixup=0.3), seeded(5), 100)
    assert not torch.equal(first, draw(params, seeded(6)))


@given(seed=seeds)
def test_nothing_is_changed_where_nothing_is_asked_for(seed: int) -> None:
    values = draw_values()
    same = augment(values, draw_rows(NOTHING, 2, seed=seed), changed(mixup=0.2))
    assert same is values
    assert torch.equal(same, draw_values())


@pytest.mark.parametrize("keys", SINGLE, ids=lambda keys: next(iter(keys)))
def test_each_param_changes_every_clip(keys: dict[str, object]) -> None:
    params = changed(**keys)
    changed_values = augment(draw_values(3), draw_rows(params, 3), params)
    assert (changed_values != draw_values(3)).flatten(1).any(1).all()


def test_neutral_draws_leave_every_bit() -> None:
    params = changed(**EVERYTHING | {"cutout": 0})
    assert torch.equal(augment(draw_values(1), rows_of(UNCHANGED), params), draw_values(1))


def test_a_flipped_clip_is_mirrored_and_a_reversed_one_runs_backwards() -> None:
    params = changed(flip=0.5, reverse=0.5)
    rows = rows_of(
        UNCHANGED,
        UNCHANGED._replace(flip=1),
        UNCHANGED._replace(reverse=1),
        UNCHANGED._replace(flip=1, reverse=1),
    )
    values = draw_values(4)
    expected = [values[0], values[1].flip(-1), values[2].flip(1), values[3].flip(1).flip(-1)]
    assert torch.equal(augment(draw_values(4), rows, params), torch.stack(expected))


@given(seed=seeds)
@pytest.mark.parametrize("key", ["flip", "reverse"])
def test_twice_turned_is_as_before(key: str, seed: int) -> None:
    params = changed(**{key: 0.5})
    rows = draw_rows(params, 2, seed=seed)
    twice = augment(augment(draw_values(), rows, params), rows, params)
    assert torch.equal(twice, draw_values())


@pytest.mark.parametrize(
    ("width", "height", "left", "top", "pixels"),
    [
        (0.5, 0.75, 0.0, 0.0, (0, 0, 9, 6)),
        (0.5, 0.75, 0.999, 0.999, (3, 6, 9, 6)),
        (1.0, 0.5, 0.9, 0.5, (3, 0, 6, 12)),
        (0.01, 0.01, 0.5, 0.0, (0, 6, 1, 1)),
    ],
)
def test_a_crop_is_enlarged_as_by_torchvision(
    width: float, height: float, left: float, top: float, pixels: tuple[int, ...]
) -> None:
    change = UNCHANGED._replace(crop_width=width, crop_height=height, crop_left=left, crop_top=top)
    [clip] = augment(draw_values(1), rows_of(change), changed(resized_crop=[0.1, 1]))
    frames_tchw = draw_values(1)[0].transpose(0, 1)
    expected = torchvision.resized_crop(frames_tchw, *pixels, [12, 12], antialias=True)
    torch.testing.assert_close(clip.transpose(0, 1), expected)


def test_brightness_and_saturation_are_those_of_torchvision() -> None:
    params = changed(brightness=0.5, saturation=0.5)
    change = UNCHANGED._replace(brightness=1.3, saturation=0.6)
    [clip] = augment(draw_values(1), rows_of(change), params)
    frames_tchw = draw_values(1)[0].transpose(0, 1)
    brighter = torchvision.adjust_brightness(frames_tchw, 1.3)
    expected = torchvision.adjust_saturation(brighter, 0.6)
    torch.testing.assert_close(clip.transpose(0, 1), expected)


def test_contrast_is_about_the_mean_grey_of_the_whole_clip() -> None:
    dark_then_bright = draw_values(1)
    dark_then_bright[:, :, :2] *= 0.5
    red, green, blue = dark_then_bright[0]
    mean = (0.2989 * red + 0.587 * green + 0.114 * blue).mean()
    expected = (mean + 1.4 * (dark_then_bright - mean)).clamp(0, 1)
    change = rows_of(UNCHANGED._replace(contrast=1.4))
    torch.testing.assert_close(augment(dark_then_bright, change, changed(contrast=0.5)), expected)


@pytest.mark.parametrize(
    ("left", "top", "columns", "rows"),
    [
        (0.0, 0.0, (0, 4), (0, 4)),
        (0.999, 0.0, (8, 12), (0, 4)),
        (0.5, 0.999, (4, 8), (8, 12)),
    ],
)
def test_a_grey_square_is_laid_over_the_same_place_of_all_frames(
    left: float, top: float, columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    change = rows_of(UNCHANGED._replace(cutout_left=left, cutout_top=top))
    expected = draw_values(1)
    expected[..., slice(*rows), slice(*columns)] = 0.5
    assert torch.equal(augment(draw_values(1), change, changed(cutout=0.3)), expected)


def test_the_square_is_laid_on_last() -> None:
    change = UNCHANGED._replace(flip=1, brightness=2, cutout_left=0.0, cutout_top=0.0)
    params = changed(flip=1, brightness=1, cutout=0.3)
    clips = augment(draw_values(1), rows_of(change), params)
    assert (clips[..., :4, :4] == 0.5).all()


@given(params=any_params(), seed=seeds)
def test_values_stay_in_their_bounds(params: AugmentParams, seed: int) -> None:
    extreme = draw_values().round()
    values = augment(extreme, draw_rows(params, 2, seed=seed), params)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.is_contiguous(memory_format=torch.channels_last_3d)
    assert values.dtype == torch.float32


def test_enlarged_white_is_no_brighter_than_white() -> None:
    """From 2 px to 12 px, PyTorch rounds to a little more than 1."""
    change = rows_of(UNCHANGED._replace(crop_width=2 / 12, crop_height=2 / 12))
    white = augment(torch.ones_like(draw_values(1)), change, changed(resized_crop=[0.01, 1]))
    assert white.max() == 1


@given(params=any_params(), seed=seeds)
def test_equal_frames_stay_equal(params: AugmentParams, seed: int) -> None:
    still = draw_values(num_frames=1).repeat(1, 1, 5, 1, 1)
    still = still.contiguous(memory_format=torch.channels_last_3d)
    values = augment(still, draw_rows(params, 2, seed=seed), params)
    assert torch.equal(values, values[:, :, :1].expand_as(values))


@given(params=any_params(), seed=seeds, order=st.permutations(range(4)))
def test_a_clip_comes_out_the_same_in_any_batch(
    params: AugmentParams, seed: int, order: list[int]
) -> None:
    rows = draw_rows(params, 4, seed=seed)
    together = augment(draw_values(4), rows, params)
    shuffled = augment(draw_values(4)[order], rows[order], params)
    alone = [augment(draw_values(4)[[clip]], rows[[clip]], params) for clip in range(4)]
    assert torch.equal(together[order], shuffled)
    assert torch.equal(together, torch.cat(alone))


def test_torchvision_is_imported_for_colours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)  # its import fails
    without = changed(**EVERYTHING | {"brightness": 0, "contrast": 0, "saturation": 0})
    augment(draw_values(4), draw_rows(without, 4), without)
    for key in ("brightness", "contrast", "saturation"):
        params = changed(**{key: 0.5})
        with pytest.raises(ImportError, match="torchvision"):
            augment(draw_values(4), draw_rows(params, 4), params)


@given(alpha=st.just(0.0) | st.floats(1e-3, 100), num_clips=st.integers(1, 50), seed=seeds)
def test_a_mix_names_a_clip_and_a_share(alpha: float, num_clips: int, seed: int) -> None:
    generator, other = seeded(seed), seeded(seed)
    drawn = draw_mix(changed(mixup=alpha), generator, num_clips)
    assert 0 <= drawn.partner < num_clips
    assert 0 <= drawn.weight <= 1
    assert draw_mix(NOTHING, other, num_clips) == (drawn.partner, 1)
    assert torch.equal(generator.get_state(), other.get_state())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_of_a_mix_are_beta_distributed(alpha: float) -> None:
    params = changed(mixup=alpha)
    drawn = [draw_mix(params, seeded(seed), 4) for seed in range(2000)]
    assert kstest([one.weight for one in drawn], beta(alpha, alpha).cdf).pvalue > 0.01
    counts = np.bincount([one.partner for one in drawn])
    assert counts == pytest.approx([500] * 4, rel=0.15)


def test_clips_are_mixed_in_their_shares() -> None:
    values, partners = draw_values(3), draw_values(6)[3:]
    mixed = mix(draw_values(3), partners, torch.tensor([1.0, 0.75, 0.0], dtype=torch.float64))
    assert torch.equal(mixed[0], values[0])
    torch.testing.assert_close(mixed[1], 0.75 * values[1] + 0.25 * partners[1])
    assert torch.equal(mixed[2], partners[2])
    assert mixed.is_contiguous(memory_format=torch.channels_last_3d)


@given(weights=st.lists(shares, min_size=3, max_size=3))
def test_a_mixture_does_not_depend_on_the_other_clips(weights: list[float]) -> None:
    partners, shares_n = draw_values(6)[3:], torch.tensor(weights)
    together = mix(draw_values(3), partners, shares_n)
    alone = [mix(draw_values(3)[[clip]], partners[[clip]], shares_n[[clip]]) for clip in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert together.min() >= 0
    assert together.max() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"flip": 1, "reverse": 0.5},
        {"resized_crop": [0.08, 1]},
        {"resized_crop": [0.5, 0.5]},
        {"mixup": 3.5},
    ],
)
def test_params_that_make_sense_are_taken(change: dict[str, object]) -> None:
    assert changed(**change).model_dump() == NOTHING.model_dump() | change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"flip": -0.1}, "greater than or equal to 0"),
        ({"flip": True}, "valid number"),
        ({"reverse": "0.5"}, "valid number"),
        ({"brightness": 1.1}, "less than or equal to 1"),
        ({"cutout": 2}, "less than or equal to 1"),
        ({"mixup": -1}, "greater than or equal to 0"),
        ({"mixup": float("inf")}, "finite number"),
        ({"resized_crop": 0.5}, "valid list"),
        ({"resized_crop": [0.5]}, "at least 2 items"),
        ({"resized_crop": [0.1, 0.5, 1]}, "at most 2 items"),
        ({"resized_crop": [0.5, 1.2]}, "less than or equal to 1"),
        ({"resized_crop": [0.9, 0.5]}, r"\[smallest, largest\], both above 0"),
        ({"resized_crop": [0, 1]}, "both above 0"),
        ({"hue": 0.1}, "Extra inputs"),
    ],
)
def test_params_that_make_no_sense_are_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        changed(**change)


@pytest.mark.gpu
def test_a_gpu_changes_clips_alike() -> None:
    params = changed(**EVERYTHING)
    rows = draw_rows(params, 8)
    there = augment(draw_values(8).cuda(), rows, params)
    torch.testing.assert_close(there.cpu(), augment(draw_values(8), rows, params))
    partners, weights = draw_values(8).flip(0), torch.linspace(0, 1, 8)
    mixed = mix(there, partners.cuda(), weights)
    expected = mix(augment(draw_values(8), rows, params), partners, weights)
    torch.testing.assert_close(mixed.cpu(), expected)
