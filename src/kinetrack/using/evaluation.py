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
    top_k_accuracy_score,
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
    counts the same. `top_k` is at most K.
    """
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        targets, predicted, average="macro", zero_division=0.0
    )
    k = min(top_k, len(classes))
    return {
        "accuracy": float(accuracy_score(targets, predicted)),
        f"top_{top_k}_accuracy": _top_k_accuracy(targets, probabilities, k),
        "loss": float(log_loss(targets, probabilities, labels=classes)),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
        "f1_macro": float(f1),
        "num_clips": len(targets),
    }


def _top_k_accuracy(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], k: int
) -> float:
    classes = np.arange(probabilities.shape[1])
    if k == len(classes):
        return 1.0  # scikit-learn warns that this figure says nothing, and it does
    # Two classes: scikit-learn wants one column, and only k = 1 is left.
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities
    return float(top_k_accuracy_score(targets, scores, k=k, labels=classes))


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
