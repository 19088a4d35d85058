import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torchvision import models
from torchvision.transforms.v2 import functional as torchvision

from kinetrack.learning.inputs import ClipInput, normalise, to_input, to_values

CPU = torch.device("cpu")
RGB = ClipInput(kind="rgb", normalise="none")
NORMALISED = ("kinetics", "imagenet", "slowfast")


def draw_bytes(
    num_clips: int = 2, *, num_frames: int = 3, height: int = 4, width: int = 5, seed: int = 0
) -> Tensor:
    """Bytes (N, C, T, H, W) in channels-last memory."""
    shape = (num_clips, num_frames, height, width, 3)
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return clips.permute(0, 4, 1, 2, 3)


@given(seed=st.integers(0, 99), num_clips=st.integers(0, 3), num_frames=st.integers(1, 4))
def test_bytes_become_values_from_0_to_1(seed: int, num_clips: int, num_frames: int) -> None:
    clips = draw_bytes(num_clips, num_frames=num_frames, seed=seed)
    values = to_values(clips, CPU)
    assert values.dtype == torch.float32
    # To the last bit: what the earlier versions fed.
    assert torch.equal(values, clips.float().div(255))


def test_every_byte_has_its_value() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16)
    values = to_values(every, CPU)
    assert torch.equal(values.flatten(), torch.arange(256) / 255)


@pytest.mark.parametrize("kind", ["rgb", "differences"])
@pytest.mark.parametrize("statistics", ["none", *NORMALISED])
def test_memory_is_channels_last_however_the_bytes_lie(kind: str, statistics: str) -> None:
    clips, clip_input = draw_bytes(), ClipInput(kind=kind, normalise=statistics)
    made = [to_input(laid_out, CPU, clip_input) for laid_out in (clips, clips.contiguous())]
    assert all(one.is_contiguous(memory_format=torch.channels_last_3d) for one in made)
    assert torch.equal(*made)


def test_frames_without_normalisation_are_the_values_themselves() -> None:
    values = to_values(draw_bytes(), CPU)
    assert normalise(values, RGB) is values


@pytest.mark.parametrize("statistics", NORMALISED)
def test_frames_are_normalised_in_place(statistics: str) -> None:
    values = to_values(draw_bytes(), CPU)
    normalised = normalise(values, ClipInput(kind="rgb", normalise=statistics))
    assert normalised.data_ptr() == values.data_ptr()


@pytest.mark.parametrize(
    ("statistics", "weights"),
    [
        ("kinetics", models.video.R3D_18_Weights.KINETICS400_V1),
        ("kinetics", models.video.MC3_18_Weights.KINETICS400_V1),
        ("kinetics", models.video.R2Plus1D_18_Weights.KINETICS400_V1),
        ("kinetics", models.video.S3D_Weights.KINETICS400_V1),
        ("imagenet", models.ResNet18_Weights.IMAGENET1K_V1),
        ("imagenet", models.video.Swin3D_T_Weights.KINETICS400_V1),
        ("slowfast", models.video.MViT_V2_S_Weights.KINETICS400_V1),
    ],
)
def test_frames_are_normalised_as_torchvision_does_for_its_weights(
    statistics: str, weights: models.WeightsEnum
) -> None:
    clips, wanted = draw_bytes(), weights.transforms()
    normalised = to_input(clips, CPU, ClipInput(kind="rgb", normalise=statistics))
    for clip, clip_normalised in zip(clips, normalised, strict=True):
        frames_tchw = clip.transpose(0, 1).float() / 255
        expected = torchvision.normalize(frames_tchw, list(wanted.mean), list(wanted.std))
        assert torch.equal(clip_normalised.transpose(0, 1), expected)


def test_differences_are_to_the_frame_before() -> None:
    differences = to_input(draw_bytes(), CPU, ClipInput(kind="differences", normalise="none"))
    values = to_values(draw_bytes(), CPU)
    assert differences.shape == values.shape
    assert not differences[:, :, 0].any()
    for frame in (1, 2):
        expected = values[:, :, frame] - values[:, :, frame - 1]
        assert torch.equal(differences[:, :, frame], expected)


@pytest.mark.parametrize("statistics", NORMALISED)
def test_no_mean_is_subtracted_from_differences(statistics: str) -> None:
    still = draw_bytes(num_frames=1).expand(-1, -1, 4, -1, -1)
    clip_input = ClipInput(kind="differences", normalise=statistics)
    assert not to_input(still, CPU, clip_input).any()


def test_differences_are_divided_by_the_deviation_of_their_colour() -> None:
    plain = to_input(draw_bytes(), CPU, ClipInput(kind="differences", normalise="none"))
    divided = to_input(draw_bytes(), CPU, ClipInput(kind="differences", normalise="imagenet"))
    for colour, deviation in enumerate((0.229, 0.224, 0.225)):
        torch.testing.assert_close(divided[:, colour] * deviation, plain[:, colour])


def test_the_input_of_a_clip_does_not_depend_on_the_others() -> None:
    clip_input = ClipInput(kind="differences", normalise="kinetics")
    together = to_input(draw_bytes(3), CPU, clip_input)
    alone = [to_input(clip[None], CPU, clip_input) for clip in draw_bytes(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "flow"}, "'rgb' or 'differences'"),
        ({"normalise": "ucf101"}, "'none', 'kinetics', 'imagenet' or 'slowfast'"),
        ({"normalise": None}, "'none', 'kinetics'"),
        ({"mean": 0.5}, "Extra inputs"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ClipInput.model_validate(RGB.model_dump() | change)


@pytest.mark.gpu
def test_a_gpu_feeds_the_same() -> None:
    for kind in ("rgb", "differences"):
        clip_input = ClipInput(kind=kind, normalise="kinetics")
        there = to_input(draw_bytes(), torch.device("cuda"), clip_input)
        assert there.is_contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(there.cpu(), to_input(draw_bytes(), CPU, clip_input))
