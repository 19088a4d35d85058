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

    Precision, recall and F1 are macro averages: every class that has clips or was predicted
    counts the same.
    """
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        targets, predicted, average="macro", zero_division=0.0
    )
    return {
        "accuracy": float(accuracy_score(targets, predicted)),
        f"top_{top_k}_accuracy": float((true_class_ranks(targets, probabilities) <= top_k).mean()),
        "loss": float(log_loss(targets, probabilities, labels=classes)),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
        "f1_macro": float(f1),
        "num_clips": len(targets),
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
