"""`kinetrack compare`: results on the same test clips, and how sure their difference is."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kinetrack.cli.packed import find_packed_clips
from kinetrack.cli.results import Part, Result, read_results
from kinetrack.errors import InputError, printable
from kinetrack.tracking.records import run_address
from kinetrack.using.comparison import (
    Difference,
    JudgedClip,
    accuracy,
    accuracy_interval,
    are_grouped,
    are_repeated,
    changed_sides,
    class_recalls,
    compare,
    macro_f1,
)
from kinetrack.using.pages.comparison import Contender, write_comparison_page
from kinetrack.using.report import FEW_GROUPS

# By these, clips of one name are known to have one content.
_SPLIT_TAG = "data.split_md5"
_CONTENT_TAGS = (_SPLIT_TAG, "data.videos_md5")
_MOST_CLIPS = 20
_MOST_CLASSES = 5
_DIGITS = 6
_COLUMNS = ("run", "accuracy", "difference", "p", "won", "lost", "macro F1")
_LEGEND = (
    "in brackets: 95 % interval for clips of other groups; one of a difference that holds 0 leaves"
    " open which is better\n"
    "won, lost: clips that only this one, or only the first one, tells right\n"
    "p: of McNemar's exact test, which takes clips as independent; the intervals do not. There is"
    " none where clips were tested repeatedly"
)
_NO_GROUPS = "no intervals: the groups of the clips are not known (evaluated by an older version)"
_NARROWEST = 80


class Compared(NamedTuple):
    """A result beside the first one; both are None for the first one itself."""

    result: Result
    difference: Difference | None = None
    changed: list[tuple[JudgedClip, JudgedClip]] | None = None
    """Clips that changed sides, as the first one and as this one has them."""


class Comparison(NamedTuple):
    """All that can be shown of a comparison."""

    results: list[Compared]
    notes: list[str]


def print_comparison(
    runs: Sequence[str], *, as_json: bool, page: Path | None = None, root: Path | None = None
) -> None:
    """Print two or more results on the same test clips, each beside the first one.

    Args:
        page: where to write the page too.
        root: the project, for the pictures on the page.

    Raises:
        InputError: as `read_comparison`.
    """
    comparison = read_comparison(runs)
    if page:
        _write_page(page, comparison, root=root)
    if as_json:
        print(json.dumps(describe(comparison), indent=2))
    else:
        _print_text(comparison)
        if page:
            print(f"\npage {page}")


def read_comparison(runs: Sequence[str]) -> Comparison:
    """Read results and compare each with the first one.

    Args:
        runs: as `read_results` takes them.

    Raises:
        InputError: fewer than two, or as `read_results`.
    """
    if len(runs) < 2:
        found = f"{len(runs)} result{'s' * (len(runs) != 1)}"
        raise InputError("compare", "needs two or more results", found=found)
    results = read_results(runs)
    first, *others = results
    compared = [
        Compared(one, compare(first.clips, one.clips), changed_sides(first.clips, one.clips))
        for one in others
    ]
    return Comparison([Compared(first), *compared], _find_notes(results))


def describe(comparison: Comparison) -> dict[str, Any]:
    """Describe a comparison as plain values for JSON."""
    clips = comparison.results[0].result.clips
    groups = {one.group for one in clips}
    return {
        "num_clips": _count_clips(clips),
        "num_tests": len(clips),
        "num_groups": len(groups) if are_grouped(clips) else None,
        "confidence": 0.95,
        "runs": [_describe(one) for one in comparison.results],
        "notes": comparison.notes,
    }


def _write_page(path: Path, comparison: Comparison, *, root: Path | None) -> None:
    records = [one.result.record for one in comparison.results if one.result.record]
    splits = {record.tags[_SPLIT_TAG] for record in records if _SPLIT_TAG in record.tags}
    write_comparison_page(
        path,
        [_to_contender(one) for one in comparison.results],
        notes=comparison.notes,
        packed=find_packed_clips(root, splits) if root else None,
    )


def _to_contender(compared: Compared) -> Contender:
    result = compared.result
    return Contender(
        name=result.name,
        clips=result.clips,
        address=run_address(result.record) if result.record else "",
        difference=compared.difference,
        changed=compared.changed or (),
    )


def _find_notes(results: Sequence[Result]) -> list[str]:
    first, *others = results
    notes = [
        f"{other.name} was made of other data than {first.name}: clips of one name need not be"
        " the same clips"
        for other in others
        if first.record and other.record and _is_other_data(first.record.tags, other.record.tags)
    ]
    num_groups = len({one.group for one in first.clips})
    if not are_grouped(first.clips):
        notes.append(_NO_GROUPS)
    elif 1 < num_groups < FEW_GROUPS:
        notes.append(f"with only {num_groups} groups, intervals are narrower than they should be")
    if len(others) > 1:
        notes.append(
            f"of {len(others)} differences, one may look sure by chance: the p-values and"
            " intervals stand each for itself"
        )
    return notes


def _is_other_data(tags: Mapping[str, str], others: Mapping[str, str]) -> bool:
    shared = [name for name in _CONTENT_TAGS if name in tags and name in others]
    return bool(shared) and all(tags[name] != others[name] for name in shared)


def _describe(compared: Compared) -> dict[str, Any]:
    result, difference = compared.result, compared.difference
    return {
        "name": result.record.name if result.record else result.name,
        "run_id": result.record.run_id if result.record else None,
        "accuracy": round(accuracy(result.clips), _DIGITS),
        "interval": _round_pair(accuracy_interval(result.clips)),
        "f1_macro": round(macro_f1(result.clips), _DIGITS),
        "recalls": _round_values(class_recalls(result.clips)),
        "parts": [_describe_part(part) for part in result.parts],
        "difference": _describe_difference(difference) if difference else None,
        "changed_sides": [_describe_pair(*pair) for pair in compared.changed or ()],
    }


def _describe_part(part: Part) -> dict[str, Any]:
    return {
        "run_id": part.run_id,
        "fold": part.fold or None,
        "repetition": part.repetition or None,
        "accuracy": round(accuracy(part.clips), _DIGITS),
        "num_clips": len(part.clips),
    }


def _describe_difference(difference: Difference) -> dict[str, Any]:
    return {
        "accuracy": round(difference.difference, _DIGITS),
        "interval": _round_pair(difference.interval),
        "p_value": difference.p_value,
        "num_lost": difference.num_lost,
        "num_won": difference.num_won,
        "f1_macro": round(difference.f1_difference, _DIGITS),
        "recalls": _round_values(difference.recall_differences),
    }


def _describe_pair(one: JudgedClip, other: JudgedClip) -> dict[str, Any]:
    return {
        "clip": one.clip,
        "repetition": one.repetition or None,
        "label": one.label,
        "group": one.group or None,
        "is_right": [one.is_right, other.is_right],
        "predicted": [one.predicted, other.predicted],
        "probability": [one.probability, other.probability],
        "actual_probability": [one.actual_probability, other.actual_probability],
    }


def _round_pair(pair: tuple[float, float] | None) -> list[float] | None:
    return [round(bound, _DIGITS) for bound in pair] if pair else None


def _round_values(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}


def _print_text(comparison: Comparison) -> None:
    first, *others = comparison.results
    _print_table(_COLUMNS, [_row(one) for one in comparison.results])
    print(f"\n{_tell_clips(first.result.clips)}; differences to the first\n{_LEGEND}")
    _print_folds([one.result for one in comparison.results])
    for note in comparison.notes:
        print(printable(f"note: {note}"))
    for other in others:
        _print_changes(first.result, other)


def _tell_clips(clips: Sequence[JudgedClip]) -> str:
    text = _count(_count_clips(clips), "test clip")
    if are_repeated(clips):
        text += f", {len(clips)} tests of them,"
    if are_grouped(clips):
        text += " in " + _count(len({one.group for one in clips}), "group")
    return text


def _count_clips(clips: Sequence[JudgedClip]) -> int:
    return len({(one.label, one.clip) for one in clips})


def _print_folds(results: Sequence[Result]) -> None:
    """Print each group's accuracies by fold, and how far its runs lie apart."""
    groups = [result for result in results if result.parts]
    if not groups:
        return
    folds = sorted({part.fold for result in groups for part in result.parts}, key=_by_number)
    rows = [[result.name, *_fold_cells(result, folds)] for result in groups]
    print()
    _print_table(("group", "runs", "mean ± deviation", *(f"fold {one}" for one in folds)), rows)


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
        print(printable(f"{other.result.name}: no clip changed sides"))
        return
    print(printable(f"{other.result.name}: recall of {_tell_recalls(difference)}"))
    rows = [[one.name, _tell_answer(one), _tell_answer(now)] for one, now in changed[:_MOST_CLIPS]]
    _print_table(("changed sides", first.name, other.result.name), rows)
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


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="")
    for name in columns:
        # No markup, and no line breaks: a name may hold anything.
        table.add_column(Text(printable(name)), no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(printable(cell), no_wrap=True, overflow="ellipsis") for cell in row))
    console = Console(highlight=False)
    # As wide as the screen; in a pipe, as wide as the table.
    console.width = max(console.width, _NARROWEST) if console.is_terminal else sys.maxsize
    console.print(table)
