"""How good a model is on clips that it has not seen: figures, per class and over all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)

from kinetrack.using.calibration import calibration_error, reliability_curve
from kinetrack.using.intervals import group_interval


class ClassScore(NamedTuple):
    """Precision, recall and F1 of one class; 0 where nothing is to be divided by."""

    label: str
    precision: float
    recall: float
    f1: float
    num_clips: int


def overall_metrics(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], *, top_k: int
) -> dict[str, float]:
    """Flat figures of predictions: targets (N,), probabilities (N, K).

    In the macro averages of precision, recall and F1 every class that has clips or was predicted
    counts the same, in the weighted ones every clip.
    """
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(targets, predicted)),
        f"top_{top_k}_accuracy": float((true_class_ranks(targets, probabilities) <= top_k).mean()),
        "loss": float(log_loss(targets, probabilities, labels=classes)),
        **_averages(targets, predicted, "macro"),
        **_averages(targets, predicted, "weighted"),
        "calibration_error": calibration_error(reliability_curve(targets, probabilities)),
        "majority_accuracy": majority_accuracy(targets),
        "num_clips": len(targets),
    }


def _averages(
    targets: NDArray[np.int64], predicted: NDArray[np.int64], average: str
) -> dict[str, float]:
    values = precision_recall_fscore_support(targets, predicted, average=average, zero_division=0.0)
    names = (f"{name}_{average}" for name in ("precision", "recall", "f1"))
    return dict(zip(names, map(float, values[:3]), strict=True))


def majority_accuracy(targets: NDArray[np.int64]) -> float:
    """Accuracy of always naming the class that has most of these clips: what is to be beaten."""
    return float(np.bincount(targets).max() / len(targets))


def group_metrics(is_right: NDArray[np.bool_], groups: Sequence[str]) -> dict[str, float]:
    """Figures that know of groups (a person, a place), whose clips are right or wrong together.

    `group_accuracy` is the mean over groups of the accuracy within each; `accuracy_low` and
    `accuracy_high` are the bounds of `group_interval`.
    """
    low, high = group_interval(is_right.tolist(), groups)
    members: dict[str, list[bool]] = {}
    for right, group in zip(is_right.tolist(), groups, strict=True):
        members.setdefault(group, []).append(right)
    accuracies = [sum(rights) / len(rights) for rights in members.values()]
    return {
        "accuracy_low": low,
        "accuracy_high": high,
        "group_accuracy": sum(accuracies) / len(accuracies),
        "num_groups": len(members),
    }


def true_class_ranks(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Place of the true class (N,) among the classes by probability, from 1.

    Of equally probable classes the first counts as more probable, as `argmax` has it; so rank 1 is
    the same as a right prediction. (scikit-learn's top-k accuracy takes the last one.)
    """
    own = np.take_along_axis(probabilities, targets[:, None], axis=1)
    is_before = np.arange(probabilities.shape[1])[None, :] < targets[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & is_before)
    ranks: NDArray[np.int64] = ahead.sum(axis=1) + 1
    return ranks


def class_scores(
    targets: NDArray[np.int64], predicted: NDArray[np.int64], *, labels: Sequence[str]
) -> list[ClassScore]:
    """Scores of every class, in the order of `labels`."""
    columns = precision_recall_fscore_support(
        targets, predicted, labels=np.arange(len(labels)), zero_division=0.0
    )
    return [
        ClassScore(label, float(precision), float(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
    ]


def confusion_counts(
    targets: NDArray[np.int64], predicted: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """Clips (K, K): row is the true class, column the predicted one."""
    counts: NDArray[np.int64] = confusion_matrix(targets, predicted, labels=np.arange(num_classes))
    return counts
