"""Requests for what videos show: each video gets its answer, or the reason why it has none."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypedDict

from kinetrack.errors import InputError, WriteError
from kinetrack.using.answers import Prediction
from kinetrack.using.inference import Recogniser, load_recogniser
from kinetrack.using.intake import (
    PREFIX,
    Limits,
    find_allowed,
    prepare_within,
    read_limits,
    reason_of,
    stored,
)
from kinetrack.using.prediction import count_windows

_MOST_VIEWS = 100


class Answer(TypedDict):
    """A row of the answer: `labels` with their `probabilities`, the most probable first."""

    status: str
    """ok or broken"""
    reason: str
    """Of a broken one: in one line, what was found and what was expected."""
    labels: list[str]
    probabilities: list[float]
    num_frames: int
    notes: list[str]


class VideoAnswerer:
    """A recogniser with the limits of its server."""

    def __init__(self, recogniser: Recogniser, limits: Limits) -> None:
        self._recogniser, self._limits = recogniser, limits

    def answer(
        self,
        rows: Sequence[tuple[Any, Any]],
        *,
        top: int | None = None,
        views: int | None = None,
    ) -> list[Answer]:
        """Answer for each row: a video (base64 text or bytes) and a path, one of them None.

        Args:
            top: so many classes of each video; None: all.
            views: windows of each video whose logits are averaged; None: the model's number.

        Raises:
            InputError: too many rows, or a `top` or `views` that cannot be.
            WriteError: no room for what was sent, or for its frames.
        """
        self._check(len(rows), top=top, views=views)
        return [self._answer_one(video, path, top=top, views=views) for video, path in rows]

    def _check(self, num_rows: int, *, top: int | None, views: int | None) -> None:
        most = int(self._limits.videos)
        if num_rows > most:
            remedy = f"send several requests, or set {PREFIX}VIDEOS"
            expected = f"at most {most}"
            raise InputError(
                "the request",
                "has too many videos",
                found=num_rows,
                expected=expected,
                remedy=remedy,
            )
        if top is not None and top < 1:
            raise InputError("top", "is no number of classes", found=top, expected="1 or more")
        if views is not None and not 1 <= views <= _MOST_VIEWS:
            expected = f"1 to {_MOST_VIEWS}"
            raise InputError("views", "is no number of views", found=views, expected=expected)
        count_windows(self._recogniser.card.clip, views)

    def _answer_one(self, video: Any, path: Any, *, top: int | None, views: int | None) -> Answer:
        card, limits = self._recogniser.card, self._limits
        try:
            with self._open(video, path) as file:
                prepared = prepare_within(file, card=card, limits=limits, views=views)
        except WriteError:  # no fault of the video, and the next one would meet it too
            raise
        except InputError as error:
            return _without_answer(reason_of(error))
        return _with_answer(self._recogniser.answer(prepared), top=top)

    def _open(self, video: Any, path: Any) -> AbstractContextManager[Path]:
        match video, path:
            case (str() | bytes(), None):
                return stored(video, self._limits)
            case (None, str()):
                return nullcontext(find_allowed(path, self._limits))
            case (None, None) | (str() | bytes(), str()):
                raise InputError("the row", "needs one of the columns video and path")
        raise InputError("the row", "holds no video", expected="base64 text or bytes, or a path")


def load_answerer(folder: Path) -> VideoAnswerer:
    """Load a model folder with the limits that the environment sets.

    Raises:
        InputError: the folder holds no whole model, or a limit is none.
    """
    return VideoAnswerer(load_recogniser(folder), read_limits(os.environ))


def _with_answer(prediction: Prediction, *, top: int | None) -> Answer:
    pairs = prediction.top(top or len(prediction.labels))
    return Answer(
        status="ok",
        reason="",
        labels=[label for label, _ in pairs],
        probabilities=[share for _, share in pairs],
        num_frames=prediction.num_frames,
        notes=list(prediction.notes),
    )


def _without_answer(reason: str) -> Answer:
    return Answer(
        status="broken", reason=reason, labels=[], probabilities=[], num_frames=0, notes=[]
    )
