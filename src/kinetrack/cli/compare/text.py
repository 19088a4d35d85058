"""A comparison as tables for people."""

from collections.abc import Sequence
from statistics import fmean, stdev

from kinetrack.cli.compare.comparison import Compared, Comparison
from kinetrack.cli.compare.results import Result, count_clips
from kinetrack.cli.screen import print_rows
from kinetrack.errors import printable
from kinetrack.using.comparison import (
    Difference,
    JudgedClip,
    accuracy,
    accuracy_interval,
    are_grouped,
    are_repeated,
    macro_f1,
)

_MOST_CLIPS = 20
_MOST_CLASSES = 5
_COLUMNS = ("run", "accuracy", "difference", "p", "won", "lost", "macro F1")
_LEGEND = (
    "in brackets: 95 % interval for clips of other groups; one of a difference that holds 0 leaves"
    " open which is better\n"
    "won, lost: clips that only this one, or only the first one, gets right\n"
    "p: of McNemar's exact test, which takes clips as independent; the intervals do not. There is"
    " none where clips were tested repeatedly"
)


def print_text(comparison: Comparison) -> None:
    """Print a comparison as a table, with its folds and notes."""
    first, *others = comparison.results
    print_rows(_COLUMNS, [_row(one) for one in comparison.results])
    print(f"\n{_tell_clips(first.result.clips)}; differences to the first\n{_LEGEND}")
    _print_folds([one.result for one in comparison.results])
    for note in comparison.notes:
        print(printable(f"note: {note}"))
    for other in others:
        _print_changes(first.result, other)


def _tell_clips(clips: Sequence[JudgedClip]) -> str:
    text = _count(count_clips(clips), "test clip")
    if are_repeated(clips):
        text += f", {len(clips)} tests of them,"
    if are_grouped(clips):
        text += " in " + _count(len({one.group for one in clips}), "group")
    return text


def _print_folds(results: Sequence[Result]) -> None:
    """Print each group's accuracies by fold, and how far its runs lie apart."""
    groups = [result for result in results if result.parts]
    if not groups:
        return
    folds = sorted({part.fold for result in groups for part in result.parts}, key=_by_number)
    rows = [[result.name, *_fold_cells(result, folds)] for result in groups]
    print()
    print_rows(("group", "runs", "mean ± deviation", *(f"fold {one}" for one in folds)), rows)


def _by_number(fold: str) -> tuple[int, str]:
    return len(fold), fold


def _fold_cells(result: Result, folds: Sequence[str]) -> list[str]:
    values = [accuracy(part.clips) for part in result.parts]
    spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    by_fold = [
        [accuracy(part.clips) for part in result.parts if part.fold == fold] for fold in folds
    ]
    means = [f"{fmean(found):.4f}" if found else "" for found in by_fold]
    return [str(len(values)), f"{fmean(values):.4f}{spread}", *means]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _row(compared: Compared) -> list[str]:
    clips, difference = compared.result.clips, compared.difference
    cells = [compared.result.name, f"{accuracy(clips):.4f}{_bounds(accuracy_interval(clips))}"]
    if difference is None:
        return [*cells, "", "", "", "", f"{macro_f1(clips):.4f}"]
    return [
        *cells,
        f"{difference.difference:+.4f}{_bounds(difference.interval, sign='+')}",
        "" if difference.p_value is None else f"{difference.p_value:.2g}",
        str(difference.num_won),
        str(difference.num_lost),
        f"{macro_f1(clips):.4f} ({difference.f1_difference:+.4f})",
    ]


def _bounds(interval: tuple[float, float] | None, *, sign: str = "") -> str:
    if interval is None:
        return ""
    low, high = interval
    return f" ({low:{sign}.3f} to {high:{sign}.3f})"


def _print_changes(first: Result, other: Compared) -> None:
    changed, difference = other.changed or [], other.difference
    print()
    if not changed or not difference:
        print(printable(f"{other.result.name}: gets the same clips right"))
        return
    print(printable(f"{other.result.name}: recall of {_tell_recalls(difference)}"))
    rows = [[one.name, _tell_answer(one), _tell_answer(now)] for one, now in changed[:_MOST_CLIPS]]
    print_rows(("right in one only", first.name, other.result.name), rows)
    if len(changed) > _MOST_CLIPS:
        print(f"... and {len(changed) - _MOST_CLIPS} more: --json lists all")


def _tell_recalls(difference: Difference) -> str:
    """Name the classes that changed most."""
    changed = [(label, value) for label, value in difference.recall_differences.items() if value]
    changed.sort(key=lambda one: -abs(one[1]))
    told = [f"{label} {value:+.3f}" for label, value in changed[:_MOST_CLASSES]]
    return ", ".join([*told, *(["..."] if len(changed) > _MOST_CLASSES else [])])


def _tell_answer(clip: JudgedClip) -> str:
    return f"{'right' if clip.is_right else 'wrong'}: {clip.predicted} {clip.probability:.3f}"
