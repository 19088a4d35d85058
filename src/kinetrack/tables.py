"""Tables as CSV: with a header, UTF-8, Unix line ends."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetrack.files import atomic_file


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table with a header; every row has exactly these columns.

    Raises:
        ValueError: a row has a column that is not listed.
    """
    # Python 3.11 leaves a carriage return without quotes, and a reader then ends the row at it.
    has_return = any("\r" in str(value) for row in rows for value in row.values())
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(
            text,
            columns,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL,
        )
        writer.writeheader()
        writer.writerows(rows)
        text.detach()  # it writes what it holds, and leaves the file open


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a header into one mapping a row."""
    return list(iterate_csv(path))


def iterate_csv(path: Path) -> Iterator[dict[str, str]]:
    """Read a table with a header row by row, each into a mapping."""
    with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
        yield from csv.DictReader(file, restkey="(beyond the last)")
