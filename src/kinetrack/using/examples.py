"""Clips that a model got wrong, as strips of the frames that it saw."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinetrack.data.sampling import ClipGeometry, packed_px
from kinetrack.data.tensors import PackedSide, load_clip

_FRAMES_A_STRIP = 6


class Example(NamedTuple):
    """A clip that was taken for another class."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3), some of what is packed of the clip."""
    caption: str


def find_errors(
    side: PackedSide,
    clip: ClipGeometry,
    predictions: Sequence[Mapping[str, str]],
    *,
    most: int = 8,
) -> list[Example]:
    """Return the errors that the model was surest of, the surest first.

    Args:
        predictions: rows of `predictions.csv`; those of clips that `side` has not are left out.

    Raises:
        InputError: a packed clip cannot be read.
    """
    rows = {(row.label, row.clip): row for row in side.rows}
    examples: list[Example] = []
    for error in surest_errors(predictions):
        row = rows.get((error["actual"], error["clip"]))
        if row is not None and len(examples) < most:
            tensor = load_clip(
                side.path(row), num_frames=row.packed_frames, size_px=packed_px(clip)
            )
            chosen = np.linspace(0, row.packed_frames - 1, _FRAMES_A_STRIP).round().astype(int)
            frames = tensor[:, chosen].permute(1, 2, 3, 0).numpy()
            examples.append(Example(frames, _describe(error)))
    return examples


def surest_errors(predictions: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the rows of wrong answers, that of which the model was surest first."""
    wrong = [row for row in predictions if row["actual"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row["probability"]), row["actual"], row["clip"]))
    return wrong


def _describe(error: Mapping[str, str]) -> str:
    taken = f"{error['actual']} taken for {error['predicted']} ({float(error['probability']):.2f})"
    return f"{taken}: {error['clip']}"
