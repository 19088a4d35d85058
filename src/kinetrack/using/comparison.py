"""Whether one model is better than another: two sets of predictions on the same clips."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy.stats import binomtest
from sklearn.metrics import f1_score

from kinetrack.using.intervals import group_interval


class JudgedClip(NamedTuple):
    """What a model said of a test clip; in order, clips stand by their class and name."""

    label: str
    """The class that the clip has."""
    clip: str
    group: str
    """Empty where it is not known."""
    predicted: str
    probability: float
    """Of the class that was predicted."""
    actual_probability: float
    """Of the class that the clip has."""
    repetition: str = ""
    """Where a clip was tested by several models that are compared as one: by which, as `seed 1`."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Of one test of one clip: a clip of another class may be called the same."""
        return self.label, self.clip, self.repetition

    @property
    def name(self) -> str:
        """As people read it."""
        return f"{self.label}/{self.clip}" + f" ({self.repetition})" * bool(self.repetition)

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the class of the clip."""
        return self.predicted == self.label


class Difference(NamedTuple):
    """How a second model differs from a first one; what it does better is positive."""

    accuracies: tuple[float, float]
    difference: float
    """Of the accuracies."""
    interval: tuple[float, float] | None
    """Of the difference, 95 %, for clips of other groups; None where groups are not known."""
    p_value: float | None
    """Of McNemar's test, as `mcnemar_p_value` has it; None where clips were tested repeatedly."""
    num_lost: int
    """Clips that the first one alone gets right; n10 in books."""
    num_won: int
    """Clips that the second one alone gets right; n01 in books."""
    f1_difference: float
    """Of F1, averaged over classes."""
    recall_differences: dict[str, float]
    """By class, in order of names."""


def parse_predictions(content: bytes) -> list[JudgedClip]:
    """Read the bytes of a `predictions.csv`; the clips are sorted.

    Columns are found by name, others are left alone; `group` may be missing.

    Raises:
        ValueError: it is no such table, holds no clip, or one clip twice.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    clips = sorted(_parse_row(row) for row in rows)
    if not clips:
        raise ValueError("it holds no clip")
    for one, following in pairwise(clips):
        if one.key == following.key:
            raise ValueError(f"clip {one.name} stands there twice")
    return clips


def _parse_row(row: Mapping[str, str | None]) -> JudgedClip:
    return JudgedClip(
        label=_cell(row, "actual"),
        clip=_cell(row, "clip"),
        group=row.get("group") or "",
        predicted=_cell(row, "predicted"),
        probability=_share(row, "probability"),
        actual_probability=_share(row, "actual_probability"),
    )


def _cell(row: Mapping[str, str | None], column: str) -> str:
    text = row.get(column)
    if not text:
        raise ValueError(f"a row has no {column}")
    return text


def _share(row: Mapping[str, str | None], column: str) -> float:
    value = float(_cell(row, column))
    if not 0 <= value <= 1:
        raise ValueError(f"{column} {value} is not between 0 and 1")
    return value


def differing_clips(first: Sequence[JudgedClip], second: Sequence[JudgedClip]) -> list[str]:
    """Name the clips that only one of two tests has, or that have another group in the second.

    A group that one of them does not know is no difference.
    """
    names = {one.key: one.name for one in (*first, *second)}
    groups, others = ({one.key: one.group for one in clips} for clips in (first, second))
    alone = groups.keys() ^ others.keys()
    regrouped = {
        key
        for key in groups.keys() & others.keys()
        if groups[key] and others[key] and groups[key] != others[key]
    }
    return [names[key] for key in sorted(alone | regrouped)]


def with_groups(clips: Sequence[JudgedClip], source: Sequence[JudgedClip]) -> list[JudgedClip]:
    """Take over the groups from a test of the same clips that knows them."""
    return [one._replace(group=known.group) for one, known in _pair(clips, source)]


def compare(first: Sequence[JudgedClip], second: Sequence[JudgedClip]) -> Difference:
    """Compare two models by their predictions on the same clips.

    The p-value takes clips as independent, the interval only groups (a person, a place). Where
    clips of a group are right or wrong together, the p-value promises too much: believe the
    interval. One that holds 0 leaves open which model is better. Of clips that were tested
    repeatedly there is no p-value: those tests are not independent by any means.

    Raises:
        ValueError: not the same clips.
    """
    pairs = _pair(first, second)
    num_lost = sum(one.is_right and not other.is_right for one, other in pairs)
    num_won = sum(other.is_right and not one.is_right for one, other in pairs)
    recalls, others = class_recalls(first), class_recalls(second)
    return Difference(
        accuracies=(accuracy(first), accuracy(second)),
        difference=(num_won - num_lost) / len(pairs),
        interval=_difference_interval(pairs) if are_grouped(first) else None,
        p_value=None if are_repeated(first) else mcnemar_p_value(num_lost, num_won),
        num_lost=num_lost,
        num_won=num_won,
        f1_difference=macro_f1(second) - macro_f1(first),
        recall_differences={label: others[label] - recall for label, recall in recalls.items()},
    )


def changed_sides(
    first: Sequence[JudgedClip], second: Sequence[JudgedClip]
) -> list[tuple[JudgedClip, JudgedClip]]:
    """List the clips that one model gets right and the other wrong, as both have them.

    First those where the probability of the true class differs most.

    Raises:
        ValueError: not the same clips.
    """
    changed = [pair for pair in _pair(first, second) if pair[0].is_right != pair[1].is_right]
    return sorted(changed, key=lambda pair: -abs(_gain(*pair)))


def _gain(one: JudgedClip, other: JudgedClip) -> float:
    return other.actual_probability - one.actual_probability


def _pair(
    first: Sequence[JudgedClip], second: Sequence[JudgedClip]
) -> list[tuple[JudgedClip, JudgedClip]]:
    """Put what two models say of a clip side by side, by class and name of the clip."""
    if differing := differing_clips(first, second):
        raise ValueError(f"not the same clips: {differing[0]}")
    ordered = (sorted(clips, key=lambda one: one.key) for clips in (first, second))
    return list(zip(*ordered, strict=True))


def mcnemar_p_value(num_lost: int, num_won: int) -> float:
    """Exact two-sided p-value of McNemar's test: of clips that only one of two models gets right.

    If both models were equally good, each such clip would be won or lost as by the toss of a coin.
    The p-value is the probability that tosses give a result that is at most as likely as this one.
    It is not the probability that the models are equally good. Clips are taken as independent.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions".
    """
    if not num_lost + num_won:
        return 1.0
    return float(binomtest(num_won, num_lost + num_won, 0.5).pvalue)


def are_grouped(clips: Sequence[JudgedClip]) -> bool:
    """Whether the group of every clip is known."""
    return all(one.group for one in clips)


def are_repeated(clips: Sequence[JudgedClip]) -> bool:
    """Whether clips were tested by several models."""
    return any(one.repetition for one in clips)


def accuracy(clips: Sequence[JudgedClip]) -> float:
    """Share of clips that are classified correctly."""
    return sum(one.is_right for one in clips) / len(clips)


def accuracy_interval(clips: Sequence[JudgedClip]) -> tuple[float, float] | None:
    """Return `group_interval` of the accuracy; None where groups are not known."""
    if not are_grouped(clips):
        return None
    return group_interval([one.is_right for one in clips], [one.group for one in clips])


def macro_f1(clips: Sequence[JudgedClip]) -> float:
    """F1, averaged over the classes that have clips or were predicted."""
    actual, predicted = [one.label for one in clips], [one.predicted for one in clips]
    return float(f1_score(actual, predicted, average="macro", zero_division=0.0))


def class_recalls(clips: Sequence[JudgedClip]) -> dict[str, float]:
    """Share of the clips of each class that are classified correctly, in order of names."""
    recalls = {}
    for label in sorted({one.label for one in clips}):
        recalls[label] = accuracy([one for one in clips if one.label == label])
    return recalls


def _difference_interval(pairs: Sequence[tuple[JudgedClip, JudgedClip]]) -> tuple[float, float]:
    """Interval of the difference by a paired bootstrap: a group is drawn with both its results.

    Where both get the same clips right, draws would say that there is certainly no difference; then
    the share of other groups that differ is bounded as `group_interval` bounds it.
    """
    groups = [one.group for one, _ in pairs]
    if all(one.is_right == other.is_right for one, other in pairs):
        _, most = group_interval([False] * len(pairs), groups)
        return -most, most
    # "Second right" and "first wrong" together are true in a share of (1 + difference) / 2, and a
    # drawn group brings both: so the interval of this share is that of the difference.
    is_better = [other.is_right for _, other in pairs] + [not one.is_right for one, _ in pairs]
    low, high = group_interval(is_better, groups + groups)
    return 2 * low - 1, 2 * high - 1
