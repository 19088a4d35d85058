import numpy as np
import pytest
from numpy.typing import NDArray

from kinetrack.using.evaluation import (
    ClassScore,
    class_scores,
    confusion_counts,
    group_metrics,
    overall_metrics,
)

# Eight clips of three classes, judged by hand below.
TARGETS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 0, 0])
LABELS = ["Jump", "Run", "Walk"]


def sure_of(predicted: NDArray[np.int64], *, num_classes: int) -> NDArray[np.float64]:
    """Probabilities (N, K): most for the predicted class, then ever less in a circle."""
    places = (np.arange(num_classes) - predicted[:, None]) % num_classes
    weights = np.where(places == 0, 2.0 * num_classes, num_classes - places)
    return weights / weights.sum(axis=1, keepdims=True)


def test_confusion_counts_by_hand() -> None:
    counts = confusion_counts(TARGETS, PREDICTED, num_classes=3)
    assert counts.tolist() == [[3, 1, 0], [1, 2, 0], [1, 0, 0]]


def test_class_that_nothing_is_said_of_has_its_row_and_column() -> None:
    counts = confusion_counts(TARGETS, PREDICTED, num_classes=4)
    assert counts.shape == (4, 4)
    assert counts[3].sum() == counts[:, 3].sum() == 0


def test_class_scores_by_hand() -> None:
    assert class_scores(TARGETS, PREDICTED, labels=LABELS) == [
        ClassScore("Jump", pytest.approx(3 / 5), pytest.approx(3 / 4), pytest.approx(2 / 3), 4),
        ClassScore("Run", pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        ClassScore("Walk", 0.0, 0.0, 0.0, 1),
    ]


def test_overall_metrics_by_hand() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.125, 0.375]])
    metrics = overall_metrics(np.array([0, 1, 2]), probabilities, top_k=2)
    assert metrics == {
        "accuracy": pytest.approx(2 / 3),
        "top_2_accuracy": pytest.approx(1.0),
        "loss": pytest.approx(-np.log([0.5, 0.5, 0.375]).mean()),
        "precision_macro": pytest.approx((1 / 2 + 1 + 0) / 3),
        "recall_macro": pytest.approx((1 + 1 + 0) / 3),
        "f1_macro": pytest.approx((2 / 3 + 1 + 0) / 3),
        "precision_weighted": pytest.approx((1 / 2 + 1 + 0) / 3),
        "recall_weighted": pytest.approx((1 + 1 + 0) / 3),
        "f1_weighted": pytest.approx((2 / 3 + 1 + 0) / 3),
        # All three were said with 0.5, and two are right.
        "calibration_error": pytest.approx(2 / 3 - 0.5),
        "majority_accuracy": pytest.approx(1 / 3),
        "num_clips": 3,
    }


def plain_metrics(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], *, top_k: int
) -> dict[str, float]:
    """The same figures by their definitions, in loops."""
    predicted = probabilities.argmax(axis=1)
    seen = sorted({*targets.tolist(), *predicted.tolist()})
    precision, recall, f1 = [], [], []
    for label in seen:
        right = np.sum((targets == label) & (predicted == label))
        precision.append(right / max(np.sum(predicted == label), 1))
        recall.append(right / max(np.sum(targets == label), 1))
        f1.append(2 * right / (np.sum(predicted == label) + np.sum(targets == label)))
    weights = np.array([np.sum(targets == label) for label in seen]) / len(targets)
    error = 0.0
    for number in range(10):
        inside = [
            place
            for place, row in enumerate(probabilities)
            if number / 10 < row.max() <= (number + 1) / 10
        ]
        if inside:
            rights = np.mean([predicted[place] == targets[place] for place in inside])
            said = np.mean([probabilities[place].max() for place in inside])
            error += len(inside) / len(targets) * abs(rights - said)
    ranks = [np.sum(row > row[target]) for row, target in zip(probabilities, targets, strict=True)]
    return {
        "accuracy": np.mean(predicted == targets),
        f"top_{top_k}_accuracy": np.mean(np.array(ranks) < top_k),
        "loss": -np.mean(np.log(probabilities[np.arange(len(targets)), targets])),
        "precision_macro": np.mean(precision),
        "recall_macro": np.mean(recall),
        "f1_macro": np.mean(f1),
        "precision_weighted": weights @ precision,
        "recall_weighted": weights @ recall,
        "f1_weighted": weights @ f1,
        "calibration_error": error,
        "majority_accuracy": max(np.sum(targets == label) for label in seen) / len(targets),
        "num_clips": len(targets),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_classes", "top_k"), [(2, 1), (3, 1), (3, 2), (10, 5), (101, 5)])
def test_overall_metrics_are_those_of_the_definitions(
    seed: int, num_classes: int, top_k: int
) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(0, num_classes, 40)
    probabilities = random.dirichlet(np.ones(num_classes), 40)
    found = overall_metrics(targets, probabilities, top_k=top_k)
    assert found == pytest.approx(plain_metrics(targets, probabilities, top_k=top_k))


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_follow_from_the_confusion(seed: int) -> None:
    random = np.random.default_rng(seed)
    targets, predicted = random.integers(0, 4, (2, 30))
    counts = confusion_counts(targets, predicted, num_classes=4)
    assert counts.sum() == 30
    for index, found in enumerate(class_scores(targets, predicted, labels=list("abcd"))):
        assert found.label == "abcd"[index]
        assert found.num_clips == counts[index].sum()
        assert found.precision * counts[:, index].sum() == pytest.approx(counts[index, index])
        assert found.recall * counts[index].sum() == pytest.approx(counts[index, index])


@pytest.mark.parametrize(("num_classes", "top_k"), [(2, 2), (3, 3), (2, 5), (3, 10)])
def test_every_clip_is_among_all_classes(num_classes: int, top_k: int) -> None:
    targets = np.array([0, 1, 1, 0])
    probabilities = sure_of(np.array([0, 0, 1, 1]), num_classes=num_classes)
    metrics = overall_metrics(targets, probabilities, top_k=top_k)
    assert metrics[f"top_{top_k}_accuracy"] == 1.0
    assert metrics["accuracy"] == 0.5


def test_two_classes_with_clips_of_one() -> None:
    probabilities = sure_of(np.array([1, 1, 0]), num_classes=2)
    metrics = overall_metrics(np.array([1, 1, 1]), probabilities, top_k=1)
    assert metrics["accuracy"] == metrics["top_1_accuracy"] == pytest.approx(2 / 3)


def test_probability_of_zero_gives_a_finite_loss() -> None:
    metrics = overall_metrics(np.array([1]), np.array([[1.0, 0.0, 0.0]]), top_k=1)
    assert 0 < metrics["loss"] < 1000


@pytest.mark.parametrize("row", [[0.25, 0.25, 0.25, 0.25], [0.4, 0.2, 0.2, 0.2]])
def test_of_equals_the_first_class_counts_as_more_probable(row: list[float]) -> None:
    """As accuracy and the column `rank` of the predictions have it: top-k is never below them."""
    targets, probabilities = np.array([row.index(min(row))]), np.array([row])
    found = overall_metrics(targets, probabilities, top_k=2)
    assert (
        found["top_2_accuracy"] == plain_metrics(targets, probabilities, top_k=2)["top_2_accuracy"]
    )
    assert found["top_2_accuracy"] >= found["accuracy"]


def test_groups_count_the_same_however_many_clips_they_have() -> None:
    is_right = np.array([True, True, True, False, False, True])
    metrics = group_metrics(is_right, ["a", "a", "a", "a", "b", "c"])
    assert metrics["num_groups"] == 3
    assert metrics["group_accuracy"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert 0 <= metrics["accuracy_low"] <= 4 / 6 <= metrics["accuracy_high"] <= 1
