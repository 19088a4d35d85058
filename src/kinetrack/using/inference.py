"""A trained model that answers: packed clips in, class probabilities out."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from kinetrack.learning.checkpoint import ModelCard, load_model
from kinetrack.learning.inputs import to_input


class Recogniser:
    """A model with its labels, ready to predict on the CPU."""

    def __init__(self, model: nn.Module, card: ModelCard) -> None:
        self._model = model
        self.card = card

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return tuple(self.card.labels)

    @property
    def num_frames(self) -> int:
        """Frames a clip."""
        return self.card.clip.num_frames

    @property
    def size_px(self) -> int:
        """Side of the square frames."""
        return self.card.clip.size_px

    @torch.inference_mode()
    def probabilities(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, K) of clips uint8 (N, 3, T, H, W).

        Raises:
            ValueError: clips of another type or shape.
        """
        shape = (3, self.num_frames, self.size_px, self.size_px)
        if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[1:] != shape:
            raise ValueError(f"clips {clips.dtype} {clips.shape}, expected uint8 (N, {shape})")
        # torch warns of memory that it must not write to, and knows no negative strides.
        writable = np.require(clips, requirements=["C", "W"])
        values = to_input(torch.from_numpy(writable), torch.device("cpu"), self.card.input)
        logits = self._model(values)
        probabilities: NDArray[np.float32] = F.softmax(logits, dim=1).numpy()
        return probabilities


def load_recogniser(folder: Path) -> Recogniser:
    """Load a model folder, as `data/model`.

    Raises:
        InputError: the folder holds no whole model.
    """
    return Recogniser(*load_model(folder))
