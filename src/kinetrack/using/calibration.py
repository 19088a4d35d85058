"""Whether probabilities can be taken at their word: of all 0.8s, are 80 % right?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ReliabilityBin(NamedTuple):
    """Clips whose predicted class has a probability above `low`, up to `high`."""

    low: float
    high: float
    num_clips: int
    confidence: float
    """Mean probability of the predicted class; 0 without clips."""
    accuracy: float
    """Share of clips that were classified correctly; 0 without clips."""


def reliability_curve(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], *, num_bins: int = 10
) -> list[ReliabilityBin]:
    """Sort clips into equally wide bins by their confidence: targets (N,), probabilities (N, K).

    As Guo et al. 2017, "On calibration of modern neural networks".
    """
    confidences = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == targets
    edges = np.linspace(0, 1, num_bins + 1)
    # Bins are open below, as in the paper: 1.0 belongs to the last one.
    places = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(places, minlength=num_bins)
    sums = np.bincount(places, weights=confidences, minlength=num_bins)
    rights = np.bincount(places, weights=is_right, minlength=num_bins)
    return [
        ReliabilityBin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            num_clips=int(count),
            confidence=float(sums[place] / count) if count else 0.0,
            accuracy=float(rights[place] / count) if count else 0.0,
        )
        for place, count in enumerate(counts)
    ]


def calibration_error(curve: list[ReliabilityBin]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over all clips."""
    total = sum(one.num_clips for one in curve)
    return sum(one.num_clips * abs(one.accuracy - one.confidence) for one in curve) / total
