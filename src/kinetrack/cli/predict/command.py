"""What `kinetrack predict` does: find videos, decode them ahead, ask the network, print."""

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kinetrack.cli.predict.ahead import map_ahead
from kinetrack.cli.predict.answer import Answer, Form, to_lines
from kinetrack.cli.predict.names import Named, find_videos
from kinetrack.cli.predict.progress import Watch
from kinetrack.data.decoding import Decoding
from kinetrack.errors import EXIT_BAD_INPUT, InputError, WriteError, printable
from kinetrack.files import discard
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.parallel import count_workers
from kinetrack.using.answers import Timeline
from kinetrack.using.inference import Recogniser
from kinetrack.using.loading import load
from kinetrack.using.prediction import Prepared, count_windows, prepare
from kinetrack.using.scratch import scratch_folder
from kinetrack.using.timeline import Footage, decode_footage
from kinetrack.using.windows import check_seconds, count_steps

if TYPE_CHECKING:
    from kinetrack.using.drawing import DrawnForm

# So many videos, and clips of them, are decoded before the network answers for them: the memory
# grows neither with the list nor, beyond the clips of one video, with the views.
_AT_ONCE = 16
_CLIPS_AT_ONCE = 64
_EXIT_SOME_BROKEN = 1
_EXIT_READER_GONE = 141  # as of a process that SIGPIPE ends


class Walk(NamedTuple):
    """How videos are looked at step by step, and where copies with the labels drawn in go."""

    window_s: float
    stride_s: float = 1.0
    draw: Path | None = None
    draw_as: "DrawnForm" = "mp4"


def predict(
    names: Sequence[str],
    *,
    model: str,
    top: int,
    views: int | None,
    form: Form,
    walk: Walk | None = None,
) -> int:
    """Print what videos show; return the exit code.

    Args:
        names: files, folders (all videos below them), patterns, or `-` for a list on the standard
            input.
        top: so many classes of each video or step.
        views: windows of each video whose logits are averaged; None: the model's number.
        walk: tell it step by step.

    Returns:
        0 when every video has an answer, 1 when some have, 2 when none has; 141 when nobody reads
        on.

    Raises:
        InputError: no model, no video is named, what is asked for cannot be done with any video,
            or there is no room.
    """
    if walk:
        _check_walk(walk)
    recogniser = load(model)
    windows = count_windows(recogniser.card.clip, views)
    found = list(find_videos(names))
    if not found:
        raise InputError(", ".join(names), "names no video")
    watch = Watch()
    answers = (
        _walk_all(found, recogniser, walk=walk, top=top, watch=watch)
        if walk
        else _predict_all(found, recogniser, windows=windows)
    )
    counts = {True: 0, False: 0}
    with closing(answers):
        watched = _count(watch.videos(answers, total=len(found)), counts)
        if not _print(to_lines(watched, form=form, top=top, by_steps=walk is not None)):
            return _EXIT_READER_GONE
    if counts[False]:
        sys.stderr.write(f"predict: {counts[False]} of {len(found)} videos have no answer\n")
    return 0 if not counts[False] else _EXIT_SOME_BROKEN if counts[True] else EXIT_BAD_INPUT


def _check_walk(walk: Walk) -> None:
    check_seconds(window_s=walk.window_s, stride_s=walk.stride_s)
    if walk.draw and walk.draw.exists() and not walk.draw.is_dir():
        raise InputError(walk.draw, "is no folder to draw into")


def _count(answers: Iterable[Answer], counts: dict[bool, int]) -> Iterator[Answer]:
    for answer in answers:
        counts[answer.told is not None] += 1
        yield answer


def _predict_all(
    found: Sequence[Named], recogniser: Recogniser, *, windows: int
) -> Generator[Answer]:
    task = partial(_prepare, card=recogniser.card, windows=windows)
    at_once = min(_AT_ONCE, max(1, _CLIPS_AT_ONCE // windows))
    prepared = map_ahead(task, found, workers=count_workers(), at_once=at_once)
    with closing(prepared):
        for named, one in zip(found, prepared, strict=True):
            if isinstance(one, str):
                yield Answer(named.path, reason=one)
            else:
                yield Answer(named.path, recogniser.answer(one))


def _prepare(named: Named, *, card: ModelCard, windows: int) -> Prepared | str:
    """Prepare a video; the reason where that cannot be done."""
    if named.reason:
        return named.reason
    try:
        return prepare(named.path, decoding=card.decoding, geometry=card.clip, windows=windows)
    except WriteError:  # no room for this one is none for the others
        raise
    except InputError as error:
        return _explain(error, named.path)


def _explain(error: InputError, path: Path) -> str:
    return str(error).removeprefix(f"{printable(str(path))}: ")


def _walk_all(
    found: Sequence[Named], recogniser: Recogniser, *, walk: Walk, top: int, watch: Watch
) -> Generator[Answer]:
    workers = count_workers()
    with scratch_folder() as scratch:
        tasks = [(named, scratch / str(number)) for number, named in enumerate(found)]
        task = partial(_decode, decoding=recogniser.card.decoding)
        # The frames of so many videos, and of one more, lie on the disk.
        decoded = map_ahead(task, tasks, workers=workers, at_once=workers + 1)
        with closing(decoded):
            for (named, folder), footage in zip(tasks, decoded, strict=True):
                if isinstance(footage, str):
                    yield Answer(named.path, reason=footage)
                else:
                    yield _walk_through(footage, recogniser, walk=walk, top=top, watch=watch)
                discard(folder)


def _decode(task: tuple[Named, Path], *, decoding: Decoding) -> Footage | str:
    named, folder = task
    if named.reason:
        return named.reason
    try:
        return decode_footage(named.path, folder, decoding=decoding)
    except WriteError:
        raise
    except InputError as error:
        return _explain(error, named.path)


def _walk_through(
    footage: Footage, recogniser: Recogniser, *, walk: Walk, top: int, watch: Watch
) -> Answer:
    """The time line of a video; no more of each step than is printed."""
    path, times = footage.video, footage.times
    try:
        total = count_steps(times.end_s, stride_s=walk.stride_s)
        looked = recogniser.watch(footage, window_s=walk.window_s, stride_s=walk.stride_s)
        steps = tuple(
            step._replace(prediction=step.prediction and step.prediction.only_top(top))
            for step in watch.steps(looked, total=total, name=path.name)
        )
        told = Timeline(steps, footage.num_frames, times.end_s, footage.notes)
        return Answer(path, told, drawn=_draw(footage, told, walk, watch) if walk.draw else None)
    except WriteError:
        raise
    except InputError as error:
        return Answer(path, reason=_explain(error, path))


def _draw(footage: Footage, told: Timeline, walk: Walk, watch: Watch) -> Path:
    # matplotlib, whose font it takes, is a while to import.
    from kinetrack.using.drawing import draw_video, drawn_path

    def tell(frames: Sequence[int]) -> Iterable[int]:
        return watch.steps(frames, total=len(frames), name=f"drawing {footage.video.name}")

    assert walk.draw
    path = drawn_path(walk.draw, footage.video, walk.draw_as)
    draw_video(path, footage, told.steps, form=walk.draw_as, watch=tell)
    return path


def _print(answers: Iterable[Sequence[str]]) -> bool:
    """Print lines, those of an answer at once; whether somebody reads them to the end.

    Raises:
        WriteError: they cannot be written, as on a full disk.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # what its encoding lacks is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    for lines in answers:
        try:
            print("\n".join(lines), flush=True)
        except OSError as error:
            _print_no_more()
            if isinstance(error, BrokenPipeError):
                return False
            raise WriteError("stdout", "cannot be written", found=error.strerror) from None
    return True


def _print_no_more() -> None:
    """Have what is left to print go nowhere: Python tries it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
