import copy
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import load_model, save_model, to_channels_last
from kinetrack.learning.models import NETWORKS, ModelName, build_model

from factories import model_card

NAMES = list(NETWORKS)
# Frames and pixels: little above the smallest clip, so that no network is left with one place.
SIZES = {
    "small_3dcnn": (4, 16),
    "separable_3dcnn": (4, 16),
    "residual_3dcnn": (8, 16),
    "lecture_3dcnn": (32, 32),
    "cnn_lstm": (3, 34),
    "r3d_18": (4, 33),
    "mc3_18": (4, 33),
    "r2plus1d_18": (4, 33),
    "s3d": (16, 33),
    "mvit_v2_s": (4, 36),
    "swin3d_t": (6, 36),
}
# The last block is asked for the class token alone, which has no place and is not pooled.
WITHOUT_EFFECT = {
    "mvit_v2_s": [
        *(f"blocks.15.attn.rel_pos_{axis}" for axis in "hwt"),
        "blocks.15.attn.pool_q.pool.weight",
    ]
}


def build(name: ModelName, *, num_classes: int = 3) -> nn.Module:
    """A network with weights from a fixed seed, for a small clip."""
    num_frames, size_px = SIZES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(name, num_classes=num_classes, num_frames=num_frames, size_px=size_px)


@cache
def _built(name: ModelName) -> nn.Module:
    return build(name)


def built(name: ModelName) -> nn.Module:
    """A copy, in evaluation mode: to draw the weights takes longer than most tests."""
    return copy.deepcopy(_built(name)).eval()


def draw_clips(name: ModelName, *, num_clips: int = 2) -> Tensor:
    num_frames, size_px = SIZES[name]
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_clips, 3, num_frames, size_px, size_px, generator=generator)


def test_every_network_is_tested() -> None:
    assert list(SIZES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_clips_give_a_logit_a_class(name: ModelName) -> None:
    with torch.inference_mode():
        logits = built(name)(draw_clips(name))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_answer_is_the_same_each_time_and_for_each_clip_alone(name: ModelName) -> None:
    model, clips = built(name), draw_clips(name)
    with torch.inference_mode():
        logits = model(clips)
        assert torch.equal(model(clips), logits)
        torch.testing.assert_close(model(clips[1:]), logits[1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: ModelName) -> None:
    model = built(name)  # in training stochastic depth leaves out blocks by chance
    logits = model(draw_clips(name))
    torch.autograd.backward(logits.square().sum())
    gradients = {key: values.grad for key, values in model.named_parameters()}
    assert [key for key, grad in gradients.items() if grad is None] == []
    without = [key for key, grad in gradients.items() if grad is not None and not grad.any()]
    assert without == WITHOUT_EFFECT.get(name, [])


@pytest.mark.parametrize("name", NAMES)
def test_smallest_clip_can_be_trained_on_alone(name: ModelName) -> None:
    num_frames, size_px = NETWORKS[name].smallest_clip
    model = built(name)
    if name in ("lecture_3dcnn", "mvit_v2_s"):  # whose weights depend on the size
        model = build_model(name, num_classes=3, num_frames=num_frames, size_px=size_px)
    model.train()
    clip = torch.rand(1, 3, num_frames, size_px, size_px)
    torch.autograd.backward(model(clip).sum())
    model.eval()(clip)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_and_bf16_are_nearly_the_same_function(name: ModelName) -> None:
    model, clips = built(name), draw_clips(name)
    with torch.inference_mode():
        expected = model(clips)
        last = to_channels_last(model)(clips.to(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(clips).float()
    assert rough.isfinite().all()
    torch.testing.assert_close(rough, expected, atol=0.06, rtol=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_network_is_the_same(name: ModelName, tmp_path: Path) -> None:
    num_frames, size_px = SIZES[name]
    model, clips = to_channels_last(built(name)), draw_clips(name)
    card = model_card(name, labels="abc", num_frames=num_frames, size_px=size_px)
    with torch.no_grad():
        model.train()(clips)  # batch norm has statistics of its own then
        save_model(tmp_path, model, card)
        loaded, _ = load_model(tmp_path)
        assert torch.equal(loaded(clips), model.eval()(clips))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lacking", ["frames", "pixels"])
def test_clip_too_small_is_refused_in_one_line(name: ModelName, lacking: str) -> None:
    frames, side_px = NETWORKS[name].smallest_clip
    num_frames, size_px = (frames - 1, 224) if lacking == "frames" else (64, side_px - 1)
    reason = rf"too small for model {name}, found {num_frames} frames of {size_px} px, expected"
    with pytest.raises(InputError, match=rf"{reason} at least {frames} frames of {side_px} px"):
        build_model(name, num_classes=2, num_frames=num_frames, size_px=size_px)


@pytest.mark.parametrize(("num_frames", "size_px"), [(15, 112), (16, 110), (16, 33)])
def test_clip_that_patches_do_not_divide_is_refused(num_frames: int, size_px: int) -> None:
    reason = rf"found {num_frames} frames of {size_px} px, expected frames a multiple of 2, pixels"
    with pytest.raises(InputError, match=rf"mvit_v2_s.*{reason} a multiple of 4 -> change pack\."):
        build_model("mvit_v2_s", num_classes=2, num_frames=num_frames, size_px=size_px)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("num_frames", "size_px"), [(32, 224), (34, 60)])
def test_common_sizes_are_taken(name: ModelName, num_frames: int, size_px: int) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=2, num_frames=num_frames, size_px=size_px).eval()
        assert model(torch.empty(1, 3, num_frames, size_px, size_px)).shape == (1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_head_is_a_module_that_the_classes_size(name: ModelName) -> None:
    with torch.device("meta"):
        shapes = [
            {key: values.shape for key, values in build(name, num_classes=k).state_dict().items()}
            for k in (3, 4)
        ]
    head = f"{NETWORKS[name].heads[0]}."
    assert shapes[0].keys() == shapes[1].keys()
    differing = [key for key in shapes[0] if shapes[0][key] != shapes[1][key]]
    assert differing
    assert all(key.startswith(head) for key in differing)


def test_name_is_one_of_the_table() -> None:
    kind = TypeAdapter[str](ModelName)
    assert [kind.validate_python(name, strict=True) for name in NAMES] == NAMES
    with pytest.raises(ValidationError) as caught:
        kind.validate_python("r3d", strict=True)
    message = caught.value.errors()[0]["msg"]
    assert "\n" not in message
    assert [name for name in NAMES if f"'{name}'" not in message] == []


@pytest.mark.slow  # to import torch takes seconds
def test_networks_of_our_own_do_not_wait_for_torchvision() -> None:
    code = """
import sys
from kinetrack.learning.models import build_model
for name in ("small_3dcnn", "separable_3dcnn", "residual_3dcnn", "lecture_3dcnn"):
    build_model(name, num_classes=2, num_frames=32, size_px=32)
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": "src"})
