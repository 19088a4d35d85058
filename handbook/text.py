"""Words of the code as Markdown."""

import re
from collections.abc import Iterable, Sequence

_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", "*": r"\*", "_": r"\_", "|": r"\|"})


def plain(text: str) -> str:
    """Text on one line that nothing is markup in but `code`."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part[:1] == "`" else part.translate(_MARKUP) for part in parts)


def paragraphs(text: str) -> str:
    """Several paragraphs of such text."""
    return "\n\n".join(plain(part) for part in re.split(r"\n\s*\n", text.strip()))


def code(text: str) -> str:
    """Text as code, in a cell of a table too."""
    return f"`{text}`".replace("|", r"\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table whose cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
