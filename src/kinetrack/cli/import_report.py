"""What `kinetrack import` tells about a collection."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kinetrack.cli.screen import table_console
from kinetrack.collecting.collections import Plan
from kinetrack.collecting.gathering import OpenedClip
from kinetrack.collecting.official import Difference
from kinetrack.errors import printable

_MOST_SHOWN = 10


class Imported(NamedTuple):
    """What became of a collection; `difference` is to its list files."""

    clips: list[OpenedClip]
    skipped: list[OpenedClip]
    plan: Plan
    difference: Difference


def print_report(imported: Imported) -> None:
    """Print a table of the classes, then everything that was not taken or is not as listed."""
    console = table_console(soft_wrap=True)
    if imported.plan.top != ".":
        console.print(f"Found in {escape(printable(imported.plan.top))}:")
    console.print(_class_table(imported.clips))
    _print_list(console, "left out, no part of the data set", imported.plan.left_out)
    _print_list(
        console,
        "left out, cannot be opened",
        [f"{one.clip.label}/{one.clip.path.name}: {one.problem}" for one in imported.skipped],
    )
    _print_list(console, "in the lists, but not in the collection", imported.difference.missing)
    _print_list(console, "in the collection, but in no list", imported.difference.extra)


def _class_table(opened: Sequence[OpenedClip]) -> Table:
    table = Table()
    table.add_column("class", overflow="fold")
    for column in ("clips", "groups", "seconds", "MB", "size", "fps", "format"):
        table.add_column(column, justify="right")
    for label in sorted({one.clip.label for one in opened}):
        table.add_row(
            escape(printable(label)), *_cells([one for one in opened if one.clip.label == label])
        )
    table.add_section()
    table.add_row("all", *_cells(opened))
    return table


def _cells(opened: Sequence[OpenedClip]) -> list[str]:
    probes = [one.probe for one in opened if one.probe is not None]
    sizes = {one.clip.path: one.num_bytes for one in opened}
    return [
        str(len(opened)),
        str(len({one.clip.group for one in opened})),
        f"{sum(one.duration_s for one in opened):.1f}",
        f"{sum(sizes.values()) / 1e6:.1f}",
        _most_common(f"{probe.width}x{probe.height}" for probe in probes),
        _most_common(f"{probe.fps:g}" for probe in probes),
        _most_common(f"{probe.codec} {probe.container.split(',')[0]}" for probe in probes),
    ]


def _most_common(values: Iterable[str]) -> str:
    ranked = Counter(values).most_common()
    more = f" +{len(ranked) - 1}" if len(ranked) > 1 else ""
    return (ranked[0][0] if ranked else "") + more


def _print_list(console: Console, title: str, entries: Sequence[str]) -> None:
    if not entries:
        return
    console.print(f"{len(entries)} {title}:")
    for entry in entries[:_MOST_SHOWN]:
        console.print(f"  {escape(printable(entry))}")
    if len(entries) > _MOST_SHOWN:
        console.print(f"  ... and {len(entries) - _MOST_SHOWN} more")
