"""Where in space and time a network looks: what of a clip speaks for a class."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.inputs import to_input

# How a layer's values of one clip are laid out: channels C, time T, height H, width W; frames as a
# batch; or patches L in a row, behind one that stands for the whole clip.
_Layout = Literal["NCTHW", "NTHWC", "TCHW", "NLC"]


class _Layer(NamedTuple):
    """The last layer of a network whose values still have a place in space and time."""

    name: str
    layout: _Layout = "NCTHW"


_LAYERS = {
    "small_3dcnn": _Layer("block3"),
    "separable_3dcnn": _Layer("block4"),
    "residual_3dcnn": _Layer("block3"),
    "lecture_3dcnn": _Layer("conv3"),
    "cnn_lstm": _Layer("cnn.layer4", "TCHW"),
    "r3d_18": _Layer("layer4"),
    "mc3_18": _Layer("layer4"),
    "r2plus1d_18": _Layer("layer4"),
    "s3d": _Layer("features"),
    # Behind its last attention the patches have no say: only the one in front is classified.
    "mvit_v2_s": _Layer("blocks.15.norm1", "NLC"),
    "swin3d_t": _Layer("norm", "NTHWC"),
}
# By how much mvit_v2_s divides time and space: patches of 2 x 4 x 4, halved three times in space.
_PATCH = (2, 32, 32)


def class_saliency(
    model: nn.Module, card: ModelCard, clip: NDArray[np.uint8], class_index: int
) -> NDArray[np.float32]:
    """Tell how much each place of a clip speaks for a class: (T, H, W), from 0 to 1.

    HiResCAM (Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks"), by Captum: the last layer that knows of places, each of its
    values times the gradient of the class's logit above the mean of all logits (what all have in
    common tells no class), summed over channels. What speaks against the class counts as 0. It is
    as coarse as that layer is, and smoothly enlarged. The largest value is 1, unless nothing speaks
    for the class.

    Args:
        model: in evaluation mode, on the CPU.
        clip: uint8 (3, T, H, W), as the network is shown it.
    """
    from captum.attr import LayerGradientXActivation  # noqa: PLC0415  # takes seconds to import

    layer = _LAYERS[card.model]

    def above_mean(values: Tensor) -> Tensor:
        logits: Tensor = model(values)
        return logits - logits.mean(dim=1, keepdim=True)

    explained = LayerGradientXActivation(above_mean, model.get_submodule(layer.name))
    # torch warns of memory that it must not write to, and knows no negative strides.
    writable = np.require(clip[None], requirements=["C", "W"])
    values = to_input(torch.from_numpy(writable), torch.device("cpu"), card.input)
    with torch.enable_grad():
        shares = explained.attribute(values.requires_grad_(), target=class_index)
    return _enlarge(_to_places(cast("Tensor", shares).detach(), layer.layout, values.shape), values)


def frame_shares(saliency: NDArray[np.float32]) -> list[float]:
    """Tell how much each frame of a saliency (T, H, W) speaks for the class, the most being 1."""
    sums = saliency.sum(axis=(1, 2))
    return [float(value) for value in sums / max(float(sums.max()), 1e-12)]


def _to_places(shares: Tensor, layout: _Layout, clip_shape: Sequence[int]) -> Tensor:
    """Sum over channels: (T', H', W')."""
    match layout:
        case "NCTHW":
            return shares.sum(dim=1)[0]
        case "NTHWC":
            return shares.sum(dim=-1)[0]
        case "TCHW":
            return shares.sum(dim=1)
        case "NLC":
            sizes = [-(-size // by) for size, by in zip(clip_shape[2:], _PATCH, strict=True)]
            return shares[0, 1:].sum(dim=-1).reshape(sizes)


def _enlarge(places: Tensor, values: Tensor) -> NDArray[np.float32]:
    """What speaks for the class, as large as the clip (N, C, T, H, W), at most 1."""
    positive = F.relu(places)[None, None]
    smooth = F.interpolate(positive, size=values.shape[2:], mode="trilinear", align_corners=False)
    largest = smooth.max().clamp_min(torch.finfo(smooth.dtype).tiny)
    saliency: NDArray[np.float32] = (smooth / largest)[0, 0].numpy()
    return saliency
