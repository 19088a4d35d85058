"""A trained model that answers: videos or packed clips in, class probabilities out."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kinetrack.learning.checkpoint import ModelCard, load_model
from kinetrack.learning.inputs import to_input
from kinetrack.using.answers import Prediction, Step, Timeline
from kinetrack.using.prediction import Prepared, prepare
from kinetrack.using.scratch import scratch_folder
from kinetrack.using.timeline import Footage, decode_footage, look_through
from kinetrack.using.windows import check_seconds


class Recogniser:
    """A model with its labels, ready to predict on the CPU."""

    def __init__(self, model: nn.Module, card: ModelCard) -> None:
        self._model = model
        self.card = card

    @property
    def network(self) -> nn.Module:
        """The network itself, on the CPU, in evaluation mode."""
        return self._model

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

    def predict(self, video: str | os.PathLike[str], *, views: int | None = None) -> Prediction:
        """Tell what a video shows.

        Args:
            views: windows, evenly spread over the video, whose logits are averaged; None: 5 of a
                model that was trained on windows drawn at random, 1 of any other.

        Raises:
            InputError: no such video, or one that cannot be used.
        """
        card, path = self.card, Path(video)
        return self.answer(prepare(path, decoding=card.decoding, geometry=card.clip, windows=views))

    def timeline(
        self, video: str | os.PathLike[str], *, window_s: float, stride_s: float = 1.0
    ) -> Timeline:
        """Tell what a long video shows, step by step.

        Args:
            window_s: length of the window around each step, in seconds; it is judged as a clip of
                its own.
            stride_s: length of a step, in seconds.

        Raises:
            InputError: no such video, one that cannot be used, or windows too short for the model.
        """
        check_seconds(window_s=window_s, stride_s=stride_s)
        with scratch_folder() as scratch:
            footage = decode_footage(Path(video), scratch, decoding=self.card.decoding)
            steps = tuple(self.watch(footage, window_s=window_s, stride_s=stride_s))
        return Timeline(steps, footage.num_frames, footage.times.end_s, footage.notes)

    def watch(self, footage: Footage, *, window_s: float, stride_s: float) -> Iterator[Step]:
        """Tell what a decoded video shows, step by step; see `timeline`."""
        seen, prediction = None, None
        for look in look_through(footage, self.card.clip, window_s=window_s, stride_s=stride_s):
            if look.prepared is not seen:
                prediction = self.answer(look.prepared) if look.prepared else None
                seen = look.prepared
            yield Step(look.start_s, look.end_s, prediction, look.reason)

    def answer(self, prepared: Prepared) -> Prediction:
        """Tell what a prepared video shows: the mean of the logits over its views."""
        # One by one: the memory does not grow with the number of views.
        views = [self._logits(clip[None])[0].double() for clip in prepared.clips]
        logits = torch.stack(views).mean(dim=0)
        shares = F.softmax(logits, dim=0).tolist()
        order = sorted(range(len(shares)), key=lambda place: -shares[place])
        return Prediction(
            labels=tuple(self.labels[place] for place in order),
            probabilities=tuple(shares[place] for place in order),
            num_frames=prepared.num_frames,
            notes=prepared.notes,
        )

    def probabilities(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, K) of clips uint8 (N, 3, T, H, W).

        Raises:
            ValueError: clips of another type or shape.
        """
        probabilities: NDArray[np.float32] = F.softmax(self._logits(clips), dim=1).numpy()
        return probabilities

    @torch.inference_mode()
    def _logits(self, clips: NDArray[np.uint8]) -> Tensor:
        shape = (3, self.num_frames, self.size_px, self.size_px)
        if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[1:] != shape:
            raise ValueError(f"clips {clips.dtype} {clips.shape}, expected uint8 (N, {shape})")
        # torch warns of memory that it must not write to, and knows no negative strides.
        writable = np.require(clips, requirements=["C", "W"])
        values = to_input(torch.from_numpy(writable), torch.device("cpu"), self.card.input)
        logits: Tensor = self._model(values)
        return logits


def load_recogniser(folder: Path) -> Recogniser:
    """Load a model folder, as `data/model`.

    Raises:
        InputError: the folder holds no whole model.
    """
    return Recogniser(*load_model(folder))
