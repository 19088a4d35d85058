"""What a data set is made of: tables from the index of its frames."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from math import ceil, fsum
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from kinetrack.data.index import DroppedRow, FramesRow
from kinetrack.tables import write_csv

_MOST_BINS = 20
# In seconds; steps that people count in.
_BIN_WIDTHS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class ClassFacts(NamedTuple):
    """A class, or all of them: counts of clips, frames and seconds; broken clips hold none."""

    label: str
    clips: int
    broken: int
    flagged: int
    groups: int
    frames_min: int
    frames_median: float
    frames_max: int
    frames_total: int
    seconds_min: float
    seconds_median: float
    seconds_max: float
    seconds_total: float
    sizes: str
    rates: str


class LengthBin(NamedTuple):
    """How many clips last [from_s, to_s) seconds."""

    from_s: float
    to_s: float
    clips: int


class FormatCount(NamedTuple):
    """How many clips have this rate, size and way of storing."""

    fps: float
    width: int
    height: int
    codec: str
    container: str
    clips: int


class GroupCount(NamedTuple):
    """How many clips of a class show this group."""

    label: str
    group: str
    clips: int


class Problem(NamedTuple):
    """A clip that is not as one would expect: broken, flagged, or dropped by the split."""

    clip: str
    label: str
    status: str
    reason: str


class Overview(NamedTuple):
    """The tables of a data set."""

    classes: list[ClassFacts]
    total: ClassFacts
    lengths: list[LengthBin]
    formats: list[FormatCount]
    groups: list[GroupCount]
    problems: list[Problem]


def summarise_clips(rows: Sequence[FramesRow], dropped: Iterable[DroppedRow] = ()) -> Overview:
    """Count what the index rows of a data set tell; `dropped` is what its split left out."""
    by_label = _by_label(rows)
    return Overview(
        classes=[_class_facts(label, members) for label, members in by_label.items()],
        total=_class_facts("total", rows),
        lengths=_count_lengths([duration_s(row) for row in rows if is_whole(row)]),
        formats=_count_formats(rows),
        groups=[
            GroupCount(label, group, clips)
            for (label, group), clips in sorted(
                Counter((row.label, row.group) for row in rows).items()
            )
        ],
        problems=_list_problems(rows, dropped),
    )


def write_overview(folder: Path, overview: Overview) -> None:
    """Write the tables as `classes.csv`, `lengths.csv`, `rates.csv`, `groups.csv`, `problems.csv`.

    The same index gives the same bytes.
    """
    _write_table(folder / "classes.csv", ClassFacts._fields, overview.classes)
    _write_table(folder / "lengths.csv", LengthBin._fields, overview.lengths)
    _write_table(folder / "rates.csv", FormatCount._fields, overview.formats)
    _write_table(folder / "groups.csv", GroupCount._fields, overview.groups)
    _write_table(folder / "problems.csv", Problem._fields, overview.problems)


def is_whole(row: FramesRow) -> bool:
    """Whether the clip has frames to look at."""
    return row.status != "broken" and row.num_frames > 0


def duration_s(row: FramesRow) -> float:
    """How long the frames of a clip last at its rate, in seconds; 0 without a rate."""
    return row.num_frames / row.fps if row.fps > 0 else 0.0


def choose_shown(rows: Sequence[FramesRow], *, most: int) -> list[FramesRow]:
    """Choose at most `most` clips with frames, from as many groups as possible, spread evenly."""
    groups: dict[str, list[FramesRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.group, row.label, row.clip)):
        if is_whole(row):
            groups[row.group].append(row)
    # The first clip of every group, then the second of those that have one, and so on.
    rounds = [[row for row in turn if row is not None] for turn in zip_longest(*groups.values())]
    chosen: list[FramesRow] = []
    for turn in rounds:
        chosen += spread_evenly(turn, most=most - len(chosen))
    return sorted(chosen, key=lambda row: (row.group, row.clip))


Item = TypeVar("Item")


def spread_evenly(items: Sequence[Item], *, most: int) -> list[Item]:
    """Choose at most `most` items, the first and the last among them, evenly apart."""
    if len(items) <= most:
        return list(items)
    if most < 2:
        return list(items[:most])
    return [items[place * (len(items) - 1) // (most - 1)] for place in range(most)]


def _by_label(rows: Iterable[FramesRow]) -> dict[str, list[FramesRow]]:
    by_label: dict[str, list[FramesRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.label, row.clip)):
        by_label[row.label].append(row)
    return by_label


def _class_facts(label: str, rows: Sequence[FramesRow]) -> ClassFacts:
    whole = [row for row in rows if is_whole(row)]
    frames = [row.num_frames for row in whole] or [0]
    seconds = [duration_s(row) for row in whole] or [0.0]
    status = Counter(row.status for row in rows)
    return ClassFacts(
        label=label,
        clips=len(rows),
        broken=status["broken"],
        flagged=status["flagged"],
        # One of several classes counts once, as in `import` and in folds.
        groups=len({row.group for row in rows}),
        frames_min=min(frames),
        frames_median=median(frames),
        frames_max=max(frames),
        frames_total=sum(frames),
        seconds_min=round(min(seconds), 3),
        seconds_median=round(median(seconds), 3),
        seconds_max=round(max(seconds), 3),
        seconds_total=round(fsum(seconds), 3),
        sizes=_most_common_first(f"{row.width}x{row.height}" for row in whole),
        rates=_most_common_first(f"{row.fps:g}" for row in whole),
    )


def _most_common_first(words: Iterable[str]) -> str:
    counts = Counter(words)
    return " ".join(sorted(counts, key=lambda word: (-counts[word], word)))


def _count_lengths(seconds: Sequence[float]) -> list[LengthBin]:
    if not seconds:
        return []
    longest = max(seconds)
    wide_enough = (width for width in _BIN_WIDTHS if longest / width < _MOST_BINS)
    width = next(wide_enough, ceil(longest / (_MOST_BINS - 1)))
    # 3 / 0.1 is a little less than 30: a clip on an edge belongs to the bin that starts there.
    bins = Counter(int(length / width + 1e-6) for length in seconds)
    return [
        LengthBin(round(place * width, 3), round((place + 1) * width, 3), bins[place])
        for place in range(min(bins), max(bins) + 1)
    ]


def _count_formats(rows: Iterable[FramesRow]) -> list[FormatCount]:
    counts = Counter(
        (row.fps, row.width, row.height, row.codec, row.container) for row in rows if is_whole(row)
    )
    common_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [FormatCount(*kind, clips=clips) for kind, clips in common_first]


def _list_problems(rows: Iterable[FramesRow], dropped: Iterable[DroppedRow]) -> list[Problem]:
    found = [
        Problem(row.clip, row.label, row.status, row.reason) for row in rows if row.status != "ok"
    ]
    broken = {(row.label, row.clip) for row in rows if row.status == "broken"}
    found += [
        Problem(row.clip, row.label, "dropped", row.reason)
        for row in dropped
        if (row.label, row.clip) not in broken
    ]
    return sorted(found, key=lambda problem: (problem.label, problem.clip, problem.status))


def _write_table(
    path: Path,
    columns: Sequence[str],
    rows: Sequence[ClassFacts | LengthBin | FormatCount | GroupCount | Problem],
) -> None:
    write_csv(path, columns, [row._asdict() for row in rows])
