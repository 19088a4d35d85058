"""A model's answers on packed clips, from one or several views of each."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinetrack.data.tensors import PackedSide
from kinetrack.learning.batches import ClipBatches
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.packed_clips import PackedClips, View
from kinetrack.learning.processes import alone
from kinetrack.learning.training import Recipe, predict_logits


def list_views(*, windows: int, crops: int) -> list[View]:
    """Every window with every square of it."""
    return [
        View(window, windows, crop, crops) for window in range(windows) for crop in range(crops)
    ]


def judge(
    model: nn.Module, card: ModelCard, side: PackedSide, view: View, *, device: torch.device
) -> NDArray[np.float64]:
    """Logits (N, K) of one view of each clip, in the order of the side.

    Raises:
        InputError: a clip cannot be read, or was packed by another geometry.
    """
    clips = PackedClips(side, labels=card.labels, geometry=card.clip, view=view)
    batches = ClipBatches(clips, batch_size=card.micro_batch, team=alone(device))
    logits: NDArray[np.float64] = predict_logits(
        model,
        batches.of_epoch(0),
        recipe=Recipe(input=card.input),
        micro=MicroBatch(card.micro_batch),
        device=device,
    ).numpy()
    return logits


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class probabilities (N, K) of logits (N, K)."""
    probabilities: NDArray[np.float64] = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    return probabilities
