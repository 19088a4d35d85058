"""What was found of one video, as text, JSON or CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from kinetrack.errors import printable
from kinetrack.using.answers import Passage, Prediction, Step, Timeline

Form = Literal["text", "json", "csv"]
_COLUMNS = ("rank", "label", "probability", "reason", "notes")
_NO_RANK = ("", "", "")


class Answer(NamedTuple):
    """A video with its prediction or its time line, or with the reason why there is none."""

    path: Path
    told: Prediction | Timeline | None = None
    reason: str = ""
    drawn: Path | None = None
    """The copy that has the labels drawn in."""


def to_lines(
    answers: Iterable[Answer], *, form: Form, top: int, by_steps: bool
) -> Iterator[list[str]]:
    """The lines to print of each answer, of CSV the header first.

    `top` is the number of classes of each video or step; `by_steps` says that time lines come.
    """
    if form == "csv":
        times = ["start_s", "end_s"] if by_steps else []
        yield [_row(["path", "status", *times, *_COLUMNS])]
    for answer in answers:
        if form == "text":
            yield [printable(line) for line in _tell(answer, top)]
        elif form == "json":
            yield [json.dumps({"path": str(answer.path), **_describe(answer, top)})]
        else:
            yield [_row(row) for row in _list_rows(answer, top, by_steps=by_steps)]


def _tell(answer: Answer, top: int) -> Iterator[str]:
    if answer.told is None:
        yield f"{answer.path}: no answer: {answer.reason}"
        return
    notes = "".join(f" ({note})" for note in answer.told.notes)
    if isinstance(answer.told, Prediction):
        told = ", ".join(f"{label} {share:.3f}" for label, share in answer.told.top(top))
        yield f"{answer.path}: {told}{notes}"
        return
    steps = f"{len(answer.told.steps)} step{'s' * (len(answer.told.steps) != 1)}"
    yield f"{answer.path}: {show_time(answer.told.duration_s)} in {steps}{notes}"
    yield from (f"  {_tell_passage(passage)}" for passage in answer.told.passages())
    if answer.drawn:
        yield f"  drawn in {answer.drawn}"


def _tell_passage(passage: Passage) -> str:
    told = f"{passage.label} {passage.probability:.2f} (mean)"
    if passage.reason:
        told = f"no answer: {passage.reason}"
    return f"{show_time(passage.start_s)}-{show_time(passage.end_s)} {told}"


def show_time(seconds: float) -> str:
    """A time as people write it, `1:02:03.5`: no more digits than it has, to the millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    hours, minutes = divmod(whole // 60, 60)
    clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{clock}:{whole % 60:02}" + f".{milliseconds:03}".rstrip("0").rstrip(".")


def _describe(answer: Answer, top: int) -> dict[str, object]:
    told = answer.told
    if told is None:
        return {"status": "broken", "reason": answer.reason}
    facts: dict[str, object] = {"num_frames": told.num_frames, "notes": told.notes}
    if isinstance(told, Prediction):
        return {"status": "ok", "labels": _describe_labels(told, top), **facts}
    if answer.drawn:
        facts["drawn"] = str(answer.drawn)
    return {"status": "ok", **facts, "timeline": [_describe_step(step, top) for step in told.steps]}


def _describe_step(step: Step, top: int) -> dict[str, object]:
    times = {"start_s": round(step.start_s, 3), "end_s": round(step.end_s, 3)}
    if step.prediction is None:
        return {**times, "labels": [], "reason": step.reason}
    return {**times, "labels": _describe_labels(step.prediction, top)}


def _describe_labels(prediction: Prediction, top: int) -> list[dict[str, object]]:
    return [
        {"label": label, "probability": round(share, 6)} for label, share in prediction.top(top)
    ]


def _list_rows(answer: Answer, top: int, *, by_steps: bool) -> Iterator[list[object]]:
    path = printable(str(answer.path))
    if answer.told is None:
        no_times = ("", "") if by_steps else ()
        yield [path, "broken", *no_times, *_NO_RANK, answer.reason, ""]
        return
    notes = "; ".join(answer.told.notes)
    if isinstance(answer.told, Prediction):
        yield from ([path, "ok", *rank, "", notes] for rank in _rank(answer.told, top))
        return
    for step in answer.told.steps:
        times = (round(step.start_s, 3), round(step.end_s, 3))
        ranks = _rank(step.prediction, top) if step.prediction else [_NO_RANK]
        yield from ([path, "ok", *times, *rank, step.reason, notes] for rank in ranks)


def _rank(prediction: Prediction, top: int) -> Iterator[tuple[object, ...]]:
    for rank, (label, share) in enumerate(prediction.top(top), start=1):
        yield (rank, label, round(share, 6))


def _row(values: Sequence[object]) -> str:
    text = io.StringIO()
    # Python 3.11 puts quotes around what is in this line end only.
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n")
