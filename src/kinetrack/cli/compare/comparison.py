"""Results beside the first of them: how large each difference is, and what to know about it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kinetrack.cli.compare.results import Result, read_results
from kinetrack.errors import InputError
from kinetrack.using.comparison import (
    Difference,
    JudgedClip,
    are_grouped,
    changed_sides,
    compare,
)
from kinetrack.using.report import FEW_GROUPS

# By these, clips of one name are known to have one content.
SPLIT_TAG = "data.split_md5"
_CONTENT_TAGS = (SPLIT_TAG, "data.videos_md5")
_NO_GROUPS = "no intervals: the groups of the clips are not known (evaluated by an older version)"


class Compared(NamedTuple):
    """A result beside the first one; both are None for the first one itself."""

    result: Result
    difference: Difference | None = None
    changed: list[tuple[JudgedClip, JudgedClip]] | None = None
    """Clips that only one of the two gets right, as the first one and as this one has them."""


class Comparison(NamedTuple):
    """All that can be shown of a comparison."""

    results: list[Compared]
    notes: list[str]


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
        notes.append(f"with only {num_groups} groups, intervals are too narrow")
    if len(others) > 1:
        notes.append(
            f"of {len(others)} differences, one may look sure by chance: the p-values and"
            " intervals stand each for itself"
        )
    return notes


def _is_other_data(tags: Mapping[str, str], others: Mapping[str, str]) -> bool:
    shared = [name for name in _CONTENT_TAGS if name in tags and name in others]
    return bool(shared) and all(tags[name] != others[name] for name in shared)
