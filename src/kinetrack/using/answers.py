"""What a model says of a video: of the whole of it, or step by step."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import NamedTuple


class Prediction(NamedTuple):
    """What a model says of a video: classes and their probabilities, the most probable first."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    num_frames: int
    notes: tuple[str, ...] = ()
    """What a person should look at before trusting the video, as frames that are missing."""

    def top(self, number: int) -> list[tuple[str, float]]:
        """The most probable classes, each with its probability."""
        pairs = zip(self.labels, self.probabilities, strict=True)
        return list(islice(pairs, number))

    def only_top(self, number: int) -> "Prediction":
        """The same without the less probable classes."""
        return self._replace(labels=self.labels[:number], probabilities=self.probabilities[:number])


class Step(NamedTuple):
    """The part [start_s, end_s) of a video, in seconds, and what the window around it shows."""

    start_s: float
    end_s: float
    prediction: Prediction | None
    reason: str = ""
    """Why there is none."""


class Passage(NamedTuple):
    """Steps in a row of one label: the part [start_s, end_s), in seconds.

    `probability` is the mean over the steps. Without an answer, `label` is empty and `reason` says
    why.
    """

    start_s: float
    end_s: float
    label: str
    probability: float
    reason: str = ""


class Timeline(NamedTuple):
    """What a model says of a video step by step, from its start to its end."""

    steps: tuple[Step, ...]
    num_frames: int
    duration_s: float
    notes: tuple[str, ...] = ()
    """What a person should look at before trusting the video, as frames that are missing."""

    def passages(self) -> list[Passage]:
        """The steps, those in a row that have one label taken together."""
        return list(merge_steps(self.steps))


def merge_steps(steps: Iterable[Step]) -> Iterator[Passage]:
    """Take steps in a row together that have one most probable label, or one reason for none."""
    for (label, reason), members in groupby(steps, key=_told):
        together = list(members)
        shares = [step.prediction.probabilities[0] for step in together if step.prediction]
        mean = sum(shares) / len(shares) if shares else 0.0
        yield Passage(together[0].start_s, together[-1].end_s, label, mean, reason)


def _told(step: Step) -> tuple[str, str]:
    return (step.prediction.labels[0], "") if step.prediction else ("", step.reason)
