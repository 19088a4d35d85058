"""What the networks of our own are made of: 3D convolutions, and their first weights."""

from torch import nn


def normed_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int, int],
    *,
    stride: tuple[int, int, int] = (1, 1, 1),
) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    """Convolution of (N, C, T, H, W) that keeps the size but for the stride, then batch norm."""
    frames, height, width = kernel_size
    padding = (frames // 2, height // 2, width // 2)
    return (
        # Batch norm subtracts the mean, so a bias would have no effect.
        nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        nn.BatchNorm3d(out_channels),
    )


def draw_weights(model: nn.Module) -> None:
    """Draw those of all 3D convolutions for ReLU (He et al. 2015); PyTorch's learn slower."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
