"""How far a figure on test clips can be trusted: an interval that knows of groups."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def group_interval(
    is_right: Sequence[bool],
    groups: Sequence[str],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the accuracy on clips of other groups: a percentile bootstrap of whole groups.

    Clips of a group (a person, a place) are right or wrong together, so groups are drawn, each
    with all its clips (Davison and Hinkley 1997, section 3.8). Equal input gives equal bounds.

    One group says nothing of others: (0, 1). Where every group has the same accuracy, as when every
    clip is right, draws would say that this is certain; then at least the share of groups that have
    another one is bounded, by the exact binomial interval: at most 1 - (alpha / 2) ** (1 / groups),
    and those may be all right or all wrong. With every clip right, this is from
    (alpha / 2) ** (1 / groups) to 1.

    Args:
        is_right: whether each clip was classified correctly.
        groups: the group of each clip.

    Raises:
        ValueError: no clips, or not one group a clip.
    """
    if not len(is_right) or len(is_right) != len(groups):
        raise ValueError(f"{len(is_right)} clips, {len(groups)} groups")
    num_right, num_clips = _count_by_group(np.asarray(is_right, dtype=bool), groups)
    tail = (1 - confidence) / 2
    if len(num_clips) == 1:
        return 0.0, 1.0
    # In whole numbers: of three and of six clips, a third is a third.
    if np.all(num_right * num_clips[0] == num_right[0] * num_clips):
        accuracy, share = num_right[0] / num_clips[0], tail ** (1 / len(num_clips))
        return float(accuracy * share), float(1 - (1 - accuracy) * share)
    accuracies = _draw_accuracies(num_right, num_clips, draws=draws, seed=seed)
    low, high = np.quantile(accuracies, [tail, 1 - tail])
    return float(low), float(high)


def _count_by_group(
    is_right: NDArray[np.bool_], groups: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right clips and clips of each group, both (G,)."""
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    places = np.array([numbers[group] for group in groups])
    num_clips = np.bincount(places)
    return np.bincount(places[is_right], minlength=len(num_clips)), num_clips


def _draw_accuracies(
    num_right: NDArray[np.int64], num_clips: NDArray[np.int64], *, draws: int, seed: int
) -> NDArray[np.float64]:
    """Accuracy of each draw of as many groups as there are, (draws,)."""
    random = np.random.default_rng(seed)
    accuracies = np.empty(draws)
    for number in range(draws):  # all at once would be gigabytes where each clip is a group
        chosen = random.integers(len(num_clips), size=len(num_clips))
        accuracies[number] = num_right[chosen].sum() / num_clips[chosen].sum()
    return accuracies
