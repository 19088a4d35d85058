"""`kinetrack data` and `kinetrack frames show`: look at what the data set holds."""

import hashlib
import json
import os
import re
import sys
import webbrowser
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from kinetrack.cli.screen import table_console
from kinetrack.data.index import INDEX_NAME, DroppedRow, FramesRow, read_index
from kinetrack.data.overview import (
    ClassFacts,
    Overview,
    Problem,
    summarise_clips,
    write_overview,
)
from kinetrack.errors import InputError, printable
from kinetrack.params import PARAMS_FILE, load_params
from kinetrack.splitting.splits import clip_id
from kinetrack.using.pages.clip import write_clip_page
from kinetrack.using.pages.data import write_data_page
from kinetrack.versioning.lock import locked_inputs

TABLES_FOLDER = Path("reports/data")
# Ignored by Git: people's pictures do not go into it.
PAGES_FOLDER = Path(".kinetrack/pages")
_MOST_PROBLEMS = 20
_REMEDY = "kinetrack frames"
_NUMBERS = ("clips", "groups", "min frames", "median", "max", "seconds")
_WORDS = ("sizes", "fps", "problems")


class _Frames(NamedTuple):
    """The frames of the data set that params.yaml names."""

    dataset: str
    folder: Path
    rows: list[FramesRow]


def print_data(root: Path, *, open_page: bool, as_json: bool = False) -> None:
    """Print the data set's tables, write them to `reports/data/`, and make its page.

    Raises:
        InputError: its frames were not extracted yet.
    """
    frames = _read_frames(root)
    overview = summarise_clips(frames.rows, _read_dropped(root, frames.dataset))
    write_overview(root / TABLES_FOLDER, overview)
    page = root / PAGES_FOLDER / "data.html"
    write_data_page(
        page, dataset=frames.dataset, rows=frames.rows, overview=overview, frames=frames.folder
    )
    if as_json:
        print(json.dumps(_to_json(frames.dataset, overview, page), indent=2))
    else:
        _print_overview(frames.dataset, overview)
        print(f"\ntables in {TABLES_FOLDER}, pictures in {page}")
    if open_page:
        open_browser(page)


def show_clip(root: Path, name: str, *, open_page: bool) -> None:
    """Make the page of one clip, `<Class>/<clip>` or a bare name, and open it.

    Raises:
        InputError: no such clip, more than one, or its frames cannot be read.
    """
    frames = _read_frames(root)
    row = find_clip(frames.rows, name)
    page = root / PAGES_FOLDER / "frames" / page_name(row)
    archive = frames.folder / row.label / f"{row.clip}.zip"
    write_clip_page(page, dataset=frames.dataset, row=row, archive=archive)
    print(page)
    if open_page and _has_screen():
        open_browser(page)


def find_clip(rows: Sequence[FramesRow], name: str) -> FramesRow:
    """Find a clip by `<Class>/<clip>`, or by its bare name when only one class has it.

    Raises:
        InputError: none, or more than one; the nearest names or the candidates are listed.
    """
    found = [row for row in rows if name in (clip_id(row), row.clip)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            name,
            f"is a clip of {len(found)} classes",
            expected=_first_few([clip_id(row) for row in found]),
        )
    names = {clip_id(row) if "/" in name else row.clip: clip_id(row) for row in rows}
    near = [names[match] for match in get_close_matches(name, names, n=3)]
    remedy = f"the clips are listed in data/frames/<dataset>/{INDEX_NAME}"
    raise InputError(
        name, "is no clip of this data set", expected=" or ".join(near) or None, remedy=remedy
    )


def page_name(row: FramesRow) -> str:
    """File name for a clip's page: readable, short, and another one for every clip."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{row.label}-{row.clip}")[:80]
    return f"{readable}-{hashlib.sha256(clip_id(row).encode()).hexdigest()[:8]}.html"


def _read_frames(root: Path) -> _Frames:
    dataset = load_params(root / PARAMS_FILE)["dataset"]
    folder = root / "data/frames" / dataset
    if not (folder / INDEX_NAME).exists():
        raise InputError(folder / INDEX_NAME, "does not exist yet", remedy=_REMEDY)
    return _Frames(dataset, folder, read_index(folder / INDEX_NAME, FramesRow, remedy=_REMEDY))


def _read_dropped(root: Path, dataset: str) -> list[DroppedRow]:
    """What the split left out, if it was made of this very index."""
    index = f"data/frames/{dataset}/{INDEX_NAME}"
    md5 = hashlib.md5((root / index).read_bytes(), usedforsecurity=False).hexdigest()
    path = root / "data/splits/dropped.csv"
    if locked_inputs("split", root=root).get(index) != md5 or not path.exists():
        return []
    return read_index(path, DroppedRow, remedy="dvc repro split")


def _to_json(dataset: str, overview: Overview, page: Path) -> dict[str, object]:
    tables = {
        name: [row._asdict() for row in rows]
        for name, rows in overview._asdict().items()
        if name != "total"
    }
    return {
        "dataset": dataset,
        "total": overview.total._asdict(),
        **tables,
        "tables": str(TABLES_FOLDER),
        "page": str(page),
    }


def _print_overview(dataset: str, overview: Overview) -> None:
    console = table_console(soft_wrap=True)
    total = overview.total
    console.print(
        f"\nData set [bold]{escape(dataset)}[/]: {len(overview.classes)} classes, "
        f"{total.clips:,} clips, {total.frames_total:,} frames\n"
    )
    console.print(_class_table(overview))
    for line in _describe_problems(overview.problems):
        console.print(escape(line))


def _class_table(overview: Overview) -> Table:
    table = Table(box=None, show_footer=True)
    total = _cells(overview.total)
    table.add_column("class", footer="total")
    for name, footer in zip(_NUMBERS, total, strict=False):
        table.add_column(name, footer=footer, justify="right")
    for name, footer in zip(_WORDS, total[len(_NUMBERS) :], strict=True):
        table.add_column(name, footer=footer)
    for facts in overview.classes:
        table.add_row(escape(printable(facts.label)), *_cells(facts))
    return table


def _cells(facts: ClassFacts) -> list[str]:
    problems = {"broken": facts.broken, "flagged": facts.flagged}
    return [
        f"{facts.clips}",
        f"{facts.groups}",
        f"{facts.frames_min}",
        f"{facts.frames_median:g}",
        f"{facts.frames_max}",
        f"{facts.seconds_total:.1f}",
        _first_words(facts.sizes),
        _first_words(facts.rates),
        ", ".join(f"{count} {kind}" for kind, count in problems.items() if count),
    ]


def _first_words(words: str) -> str:
    first, *others = words.split() or [""]
    return f"{first} +{len(others)}" if others else first


def _describe_problems(problems: Sequence[Problem]) -> list[str]:
    lines = [
        f"  {problem.status} {problem.label}/{problem.clip}: {problem.reason}"
        for problem in problems[:_MOST_PROBLEMS]
    ]
    more = len(problems) - len(lines)
    if more:
        lines.append(f"  ... and {more} more, in {TABLES_FOLDER}/problems.csv")
    return ["", *map(printable, lines)] if lines else []


def _first_few(names: Sequence[str]) -> str:
    more = len(names) - 5
    return " or ".join(names[:5]) + (f" or {more} more" if more > 0 else "")


def _has_screen() -> bool:
    """Whether a person sits before this: a terminal, and on Linux a display too."""
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and (has_display or sys.platform != "linux")


def open_browser(page: Path) -> None:
    """Open a page in the person's browser."""
    if not webbrowser.open(page.absolute().as_uri()):
        print("no browser found: open the page by hand")
