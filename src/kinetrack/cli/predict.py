"""`kinetrack predict`: what videos show, as a table, JSON Lines or CSV."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from kinetrack.data.clips import walk_videos
from kinetrack.errors import EXIT_BAD_INPUT, InputError, WriteError, printable
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.parallel import map_clips
from kinetrack.using.inference import Prediction, Recogniser
from kinetrack.using.loading import load
from kinetrack.using.prediction import Prepared, check_windows, prepare

Form = Literal["text", "json", "csv"]
# So many videos, and clips of them, are decoded before the network answers for them: the memory
# grows neither with the list nor, beyond the clips of one video, with the views.
_AT_ONCE = 16
_CLIPS_AT_ONCE = 64
_EXIT_SOME_BROKEN = 1


class Answer(NamedTuple):
    """What was found of one video: the prediction, or the reason why there is none."""

    path: Path
    prediction: Prediction | None
    reason: str = ""


def predict(names: Sequence[str], *, model: str, top: int, views: int, form: Form) -> int:
    """Print what videos show; return the exit code.

    Args:
        names: files, folders (all videos below them), or `-` for a list on the standard input.
        views: windows of each video whose logits are averaged.

    Returns:
        0 when every video has an answer, 1 when some have, 2 when none has.

    Raises:
        InputError: no model, no video is named, or the model cannot take several views.
    """
    recogniser = load(model)
    check_windows(recogniser.card.clip, views)
    found = list(_find_videos(names))
    if not found:
        raise InputError(", ".join(names), "names no video")
    printer = {"text": _print_text, "json": _print_json, "csv": _print_csv}[form]
    counts = {True: 0, False: 0}

    def counted() -> Iterator[Answer]:
        for answer in _answer(found, recogniser, views=views):
            counts[answer.prediction is not None] += 1
            yield answer

    printer(counted(), top)
    if counts[False]:
        sys.stderr.write(f"predict: {counts[False]} of {len(found)} videos have no answer\n")
    return 0 if not counts[False] else _EXIT_SOME_BROKEN if counts[True] else EXIT_BAD_INPUT


def _find_videos(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        if name == "-":
            yield from _find_videos(_read_names())
        elif os.path.isdir(name):  # noqa: PTH112  # that of Path raises on a name that is too long
            # A folder without a video stands for itself, so that somebody tells.
            yield from list(walk_videos(Path(name))) or [Path(name)]
        else:
            yield Path(name)


def _read_names() -> Iterator[str]:
    """The lines of the standard input; bytes, because file names need not be UTF-8."""
    for line in sys.stdin.buffer:
        if line.strip():
            yield os.fsdecode(line.rstrip(b"\r\n"))


def _answer(paths: Sequence[Path], recogniser: Recogniser, *, views: int) -> Iterator[Answer]:
    left = iter(paths)
    task = partial(_prepare, card=recogniser.card, views=views)
    at_once = min(_AT_ONCE, max(1, _CLIPS_AT_ONCE // views))
    while some := list(islice(left, at_once)):
        prepared = map_clips(task, [path.absolute() for path in some], description="predict")
        for path, one in zip(some, prepared, strict=True):
            if isinstance(one, str):
                yield Answer(path, None, reason=one)
            else:
                yield Answer(path, recogniser.answer(one))


def _prepare(path: Path, *, card: ModelCard, views: int) -> Prepared | str:
    """Prepare a video; the reason where that cannot be done."""
    if os.path.isdir(path):  # noqa: PTH112
        return "holds no video by its name"
    try:
        return prepare(path, decoding=card.decoding, geometry=card.clip, windows=views)
    except WriteError:  # no room for this one is none for the others
        raise
    except InputError as error:
        return str(error).removeprefix(f"{printable(str(path))}: ")


def _print_text(answers: Iterable[Answer], top: int) -> None:
    for answer in answers:
        if answer.prediction is None:
            print(printable(f"{answer.path}: no answer: {answer.reason}"))
        else:
            told = ", ".join(f"{label} {share:.3f}" for label, share in answer.prediction.top(top))
            notes = "".join(f" ({note})" for note in answer.prediction.notes)
            print(printable(f"{answer.path}: {told}{notes}"))


def _print_json(answers: Iterable[Answer], top: int) -> None:
    for answer in answers:
        line: dict[str, object] = {"path": str(answer.path)}
        if answer.prediction is None:
            line |= {"status": "broken", "reason": answer.reason}
        else:
            labels = [
                {"label": label, "probability": round(share, 6)}
                for label, share in answer.prediction.top(top)
            ]
            line |= {"status": "ok", "labels": labels, "num_frames": answer.prediction.num_frames}
            line |= {"notes": answer.prediction.notes}
        print(json.dumps(line), flush=True)


def _print_csv(answers: Iterable[Answer], top: int) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "status", "rank", "label", "probability", "reason", "notes"])
    for answer in answers:
        path = printable(str(answer.path))
        if answer.prediction is None:
            writer.writerow([path, "broken", "", "", "", answer.reason, ""])
            continue
        notes = "; ".join(answer.prediction.notes)
        for rank, (label, share) in enumerate(answer.prediction.top(top), start=1):
            writer.writerow([path, "ok", rank, label, round(share, 6), "", notes])
