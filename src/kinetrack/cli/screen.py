"""Tables for people: as wide as the terminal; in a pipe a row stays one line, however long."""

import sys
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kinetrack.errors import printable

# On a narrower terminal the lines of a table are broken by the terminal itself.
_NARROWEST = 80


def table_console(*, soft_wrap: bool = False) -> Console:
    """Return a console as wide as the screen; in a pipe, as wide as what is printed.

    Args:
        soft_wrap: leave it to the terminal to break lines.
    """
    console = Console(highlight=False, soft_wrap=soft_wrap)
    console.width = max(console.width, _NARROWEST) if console.is_terminal else sys.maxsize
    return console


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    shortened: Collection[str] = (),
    folded: Collection[str] = (),
) -> None:
    """Print a table of plain text: no markup and no line breaks, since a name may hold anything.

    Args:
        shortened: columns that are cut first where the screen is too narrow.
        folded: columns that go on in the next line instead.
    """
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="")
    for name in columns:
        is_firm = name not in shortened and name not in folded
        table.add_column(Text(printable(name)), no_wrap=is_firm, overflow="ellipsis")
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(_to_cell(text, is_folded=name in folded) for name, text in cells))
    table_console().print(table)


def _to_cell(text: str, *, is_folded: bool) -> Text:
    if is_folded:
        return Text(printable(text), overflow="fold")
    return Text(printable(text), no_wrap=True, overflow="ellipsis")
