"""All that is to be said of a trained model: what its page and its model card tell."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from kinetrack.data.index import SIDES, DroppedRow, Side, TensorsRow
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.using.evaluation import ClassScore

# Measured: with 5 groups a 95 % interval holds the truth in 86 of 100 cases, with 20 in 93.
FEW_GROUPS = 10


class SideFacts(NamedTuple):
    """What one side of the split holds."""

    side: Side
    num_clips: int
    num_groups: int
    clips_by_class: dict[str, int]


class Made(NamedTuple):
    """What made a model, as far as it is known; empty where it is not."""

    run_id: str = ""
    run_name: str = ""
    run_address: str = ""
    """Where MLflow's pages show the run; empty for a store without a server."""
    commit: str = ""
    has_changes: bool = False
    """Whether the commit had uncommitted changes."""


class Confused(NamedTuple):
    """Clips of a class that were taken for another one."""

    actual: str
    predicted: str
    num_clips: int
    share: float
    """Of the clips of the class."""


class Report(NamedTuple):
    """A model, its result on the test clips, and what both came from."""

    dataset: str
    card: ModelCard
    metrics: dict[str, float]
    scores: list[ClassScore]
    confusion: Sequence[Mapping[str, str]]
    """Rows of `confusion.csv`: one for every pair of classes."""
    reliability: Sequence[Mapping[str, str]]
    history: Sequence[Mapping[str, str]]
    """Of each epoch, as `history.csv` has it."""
    predictions: Sequence[Mapping[str, str]]
    sides: list[SideFacts]
    """Empty where the packed clips are not here."""
    dropped: list[DroppedRow] | None
    """By the split; None where that is not known."""
    params: dict[str, Any]
    """By section, those that DVC recorded."""
    made: Made

    @property
    def top_k(self) -> int:
        """Among how many classes the true one was looked for."""
        return int(self.params.get("evaluate", {}).get("top_k", 1))

    @property
    def confused(self) -> list[Confused]:
        """Pairs of classes that were confused, the most frequent first."""
        pairs = [
            Confused(
                row["actual"], row["predicted"], int(row["num_clips"]), float(row.get("share", 0))
            )
            for row in self.confusion
            if row["actual"] != row["predicted"] and int(row["num_clips"])
        ]
        return sorted(pairs, key=lambda one: (-one.num_clips, -one.share, one[:2]))

    @property
    def caveats(self) -> list[str]:
        """What a reader should know before believing the figures."""
        return list(_find_caveats(self))


def describe_sides(rows: Sequence[TensorsRow]) -> list[SideFacts]:
    """Count the clips and groups of every side that has a clip."""
    found = []
    for side in SIDES:
        of_side = [row for row in rows if row.side == side]
        if of_side:
            by_class = Counter(row.label for row in of_side)
            groups = {row.group for row in of_side}
            found.append(SideFacts(side, len(of_side), len(groups), dict(sorted(by_class.items()))))
    return found


def least_sure_hits(
    predictions: Sequence[Mapping[str, str]], *, most: int
) -> list[Mapping[str, str]]:
    """Return the rows of right answers that the model was least sure of, those first."""
    right = [row for row in predictions if row["actual"] == row["predicted"]]
    right.sort(key=lambda row: (float(row["probability"]), row["actual"], row["clip"]))
    return right[:most]


def class_shares(row: Mapping[str, str], labels: Sequence[str]) -> list[tuple[str, float]]:
    """Return the classes of a prediction with their probabilities, the most probable first."""
    shares = [(label, float(row.get(f"p_{label}") or 0)) for label in labels]
    return sorted(shares, key=lambda pair: -pair[1])


def trains_on_mixed_clips(params: Mapping[str, Any]) -> bool:
    """Whether each training clip was two clips, mixed: no figure of training is of a whole one."""
    mixup: float = params.get("augment", {}).get("mixup", 0)
    return mixup > 0


def _differ_by_group(predictions: Sequence[Mapping[str, str]]) -> bool:
    """Whether groups have different accuracies; so it is taken to be where no group is known."""
    groups: dict[str, list[bool]] = {}
    for row in predictions:
        groups.setdefault(row.get("group", ""), []).append(row["actual"] == row["predicted"])
    return "" in groups or len({Fraction(sum(one), len(one)) for one in groups.values()}) > 1


def _find_caveats(report: Report) -> Iterator[str]:
    metrics = report.metrics
    clips, groups = int(metrics["num_clips"]), int(metrics.get("num_groups", 0))
    if clips < 100:
        yield f"With {clips} test clips, one clip is {100 / clips:.1f} percentage points."
    if 1 < groups < FEW_GROUPS and _differ_by_group(report.predictions):  # else it is no bootstrap
        yield (
            f"With only {groups} groups, the interval is too narrow: "
            "it misses the truth in more than 5 of 100 cases."
        )
    if groups == 1:
        yield "All test clips are of one group: it says nothing of others."
    if "accuracy_low" in metrics and metrics["accuracy_low"] <= metrics["majority_accuracy"]:
        yield "The interval holds the score of always naming the largest class."
    watched = report.params.get("train", {}).get("watch", [])
    if "test" in watched:
        yield "The test side was looked at after every epoch."
    if trains_on_mixed_clips(report.params):
        yield "Its training accuracy is of mixed clips (augment.mixup): low however well it goes."
    if report.made.has_changes:
        yield "The commit that trained it had uncommitted changes."
