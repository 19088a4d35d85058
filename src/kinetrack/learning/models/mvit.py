"""Multiscale vision transformer, small, second version.

Li et al. 2022, "MViTv2: Improved Multiscale Vision Transformers"; made for 16 frames of 224 px.
"""

from typing import NamedTuple

from torch import nn

# Frames and pixels: patches of 2 x 4 x 4, halved three times in space.
SMALLEST_CLIP = (2, 32)
MULTIPLE_OF = (2, 4)


class _Stage(NamedTuple):
    """Blocks between two halvings of the sides."""

    num_blocks: int
    channels: int
    num_heads: int
    stride_kv: int
    """By which keys and values are thinned out in space."""


_STAGES = (_Stage(1, 96, 1, 8), _Stage(2, 192, 2, 4), _Stage(11, 384, 4, 2), _Stage(2, 768, 8, 1))


def build(*, num_classes: int, num_frames: int, size_px: int) -> nn.Module:
    """Build the network as torchvision has it, its tables of positions as large as the clip.

    torchvision's own `mvit_v2_s` builds it for 16 frames of 224 px alone.
    """
    from torchvision.models.video import mvit

    settings, channels = [], _STAGES[0].channels
    for stage in _STAGES:
        for _ in range(stage.num_blocks):
            halves = 1 if channels == stage.channels else 2
            block = mvit.MSBlockConfig(
                num_heads=stage.num_heads,
                input_channels=channels,
                output_channels=stage.channels,
                kernel_q=[3, 3, 3],
                kernel_kv=[3, 3, 3],
                stride_q=[1, halves, halves],
                stride_kv=[1, stage.stride_kv, stage.stride_kv],
            )
            settings.append(block)
            channels = stage.channels
    model: nn.Module = mvit.MViT(
        spatial_size=(size_px, size_px),
        temporal_size=num_frames,
        block_setting=settings,
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        stochastic_depth_prob=0.2,
        num_classes=num_classes,
    )
    return model
