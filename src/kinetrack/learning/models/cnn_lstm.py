"""A network for pictures on each frame, then an LSTM over time: the lecture's second way."""

from torch import Tensor, nn

# Frames and pixels: ResNet halves the sides five times, and batch norm needs two frames.
SMALLEST_CLIP = (2, 32)
_FEATURES = 512
_HIDDEN = 256


class CnnLstm(nn.Module):
    """ResNet-18 on every frame, one LSTM over the frames' features, its last step classified."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        from torchvision.models import resnet18

        self.cnn = resnet18()
        self.cnn.fc = nn.Identity()
        self.lstm = nn.LSTM(_FEATURES, _HIDDEN, batch_first=True)
        self.head = nn.Linear(_HIDDEN, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) to logits (N, K)."""
        frames = clips.transpose(1, 2).flatten(0, 1)  # (N * T, 3, H, W)
        features: Tensor = self.cnn(frames)
        # Not `len(clips)`: it would fix the number of clips of an exported network.
        steps, _ = self.lstm(features.reshape(-1, clips.shape[2], _FEATURES))  # (N, T, hidden)
        logits: Tensor = self.head(steps[:, -1])
        return logits
