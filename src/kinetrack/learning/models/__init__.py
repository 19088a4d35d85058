"""The networks that `model.name` may ask for: one table, one file a family."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.models import (
    cnn_lstm,
    lecture_3dcnn,
    mvit,
    residual_3dcnn,
    s3d,
    separable_3dcnn,
    small_3dcnn,
    swin3d,
    video_resnet,
)


class Sizes(NamedTuple):
    """What a network is built for: classes, and the clip it is given."""

    num_classes: int
    num_frames: int
    size_px: int


class Network(NamedTuple):
    """All that is asked of a network."""

    build: Callable[[Sizes], nn.Module]
    """With fresh weights."""
    smallest_clip: tuple[int, int]
    """Frames and pixels."""
    multiple_of: tuple[int, int] = (1, 1)
    """Frames and pixels come in steps of these."""
    heads: tuple[str, ...] = ("head",)
    """Modules that classify, here or in published weights: they never come from elsewhere."""
    published: str | None = None
    """Network of torchvision whose published weights fit `backbone`."""
    backbone: str = ""
    """Module that published weights fill and that can be frozen; empty: all but the heads."""


# Adding a network: a file beside this one, an entry here.
NETWORKS = {
    "small_3dcnn": Network(
        lambda sizes: small_3dcnn.Small3dCnn(num_classes=sizes.num_classes),
        smallest_clip=small_3dcnn.SMALLEST_CLIP,
    ),
    "separable_3dcnn": Network(
        lambda sizes: separable_3dcnn.Separable3dCnn(num_classes=sizes.num_classes),
        smallest_clip=separable_3dcnn.SMALLEST_CLIP,
    ),
    "residual_3dcnn": Network(
        lambda sizes: residual_3dcnn.Residual3dCnn(num_classes=sizes.num_classes),
        smallest_clip=residual_3dcnn.SMALLEST_CLIP,
    ),
    "lecture_3dcnn": Network(
        lambda sizes: lecture_3dcnn.Lecture3dCnn(
            num_classes=sizes.num_classes, num_frames=sizes.num_frames, size_px=sizes.size_px
        ),
        smallest_clip=lecture_3dcnn.SMALLEST_CLIP,
    ),
    "cnn_lstm": Network(
        lambda sizes: cnn_lstm.CnnLstm(num_classes=sizes.num_classes),
        smallest_clip=cnn_lstm.SMALLEST_CLIP,
        heads=("head", "cnn.fc"),
        published="resnet18",
        backbone="cnn",
    ),
    "r3d_18": Network(
        lambda sizes: video_resnet.build("r3d_18", num_classes=sizes.num_classes),
        smallest_clip=video_resnet.SMALLEST_CLIP,
        heads=("fc",),
        published="r3d_18",
    ),
    "mc3_18": Network(
        lambda sizes: video_resnet.build("mc3_18", num_classes=sizes.num_classes),
        smallest_clip=video_resnet.SMALLEST_CLIP,
        heads=("fc",),
        published="mc3_18",
    ),
    "r2plus1d_18": Network(
        lambda sizes: video_resnet.build("r2plus1d_18", num_classes=sizes.num_classes),
        smallest_clip=video_resnet.SMALLEST_CLIP,
        heads=("fc",),
        published="r2plus1d_18",
    ),
    "s3d": Network(
        lambda sizes: s3d.build(num_classes=sizes.num_classes),
        smallest_clip=s3d.SMALLEST_CLIP,
        heads=("classifier",),
        published="s3d",
    ),
    "mvit_v2_s": Network(
        lambda sizes: mvit.build(
            num_classes=sizes.num_classes, num_frames=sizes.num_frames, size_px=sizes.size_px
        ),
        smallest_clip=mvit.SMALLEST_CLIP,
        multiple_of=mvit.MULTIPLE_OF,
        published="mvit_v2_s",
    ),
    "swin3d_t": Network(
        lambda sizes: swin3d.build(num_classes=sizes.num_classes),
        smallest_clip=swin3d.SMALLEST_CLIP,
        published="swin3d_t",
    ),
}

if TYPE_CHECKING:
    ModelName = str
else:
    # Made from the table, so that pydantic names what the table holds.
    ModelName = Literal[tuple(NETWORKS)]


def build_model(name: ModelName, *, num_classes: int, num_frames: int, size_px: int) -> nn.Module:
    """Build a network with fresh weights for clips (N, 3, T, H, W), values in [0, 1] or normalised.

    Raises:
        InputError: the network cannot take clips of this size.
    """
    network = NETWORKS[name]
    _check_smallest(num_frames, size_px, network, name=name)
    _check_multiple(num_frames, size_px, network, name=name)
    return network.build(Sizes(num_classes, num_frames, size_px))


def _check_smallest(num_frames: int, size_px: int, network: Network, *, name: ModelName) -> None:
    frames, side_px = network.smallest_clip
    if num_frames < frames or size_px < side_px:
        raise InputError(
            "params.yaml",
            f"the clip is too small for model {name}",
            found=f"{num_frames} frames of {size_px} px",
            expected=f"at least {frames} frames of {side_px} px",
            remedy="raise pack.num_frames or pack.size_px",
        )


def _check_multiple(num_frames: int, size_px: int, network: Network, *, name: ModelName) -> None:
    frames, side_px = network.multiple_of
    if num_frames % frames or size_px % side_px:
        raise InputError(
            "params.yaml",
            f"model {name} cannot divide the clip into its patches",
            found=f"{num_frames} frames of {size_px} px",
            expected=f"frames a multiple of {frames}, pixels a multiple of {side_px}",
            remedy="change pack.num_frames or pack.size_px",
        )
