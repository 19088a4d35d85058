"""Commands that README and docs show, as a person would type them."""

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from project import ROOT, environment

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SHELLS = {"sh", "bash", "console"}
_ENDS = {";", "&&", "||", "|", "&", "(", ")"}
_MOVES = {">", ">>", "<", "2>"}


class Command(NamedTuple):
    """One simple command of a page."""

    page: str
    line: int
    words: tuple[str, ...]


def commands_of(page: Path) -> Iterator[Command]:
    """Every simple command of the shell blocks of a page."""
    text = page.read_text()
    name = page.relative_to(ROOT).as_posix()
    for fence in _FENCE.finditer(text):
        if fence[2] in _SHELLS:
            first = text.count("\n", 0, fence.start(3)) + 1
            yield from _commands_of_block(fence[3], page=name, first=first)


def _commands_of_block(block: str, *, page: str, first: int) -> Iterator[Command]:
    number = first
    for line in re.split(r"(?<!\\)\n", block):
        for words in split_line(line.replace("\\\n", " ")):
            yield Command(page, number, words)
        number += line.count("\n") + 1


def split_line(line: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a line of shell, without variables before them and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    tokens = iter(lexer)
    for token in tokens:
        if token in _ENDS:
            yield from _simple(words)
            words = []
        elif token in _MOVES:
            next(tokens)
        else:
            words.append(token)
    yield from _simple(words)


def _simple(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    start = next((i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    if words[start:]:
        yield tuple(words[start:])


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """The blocks that are for somebody, or to be run somewhere, in their order: who, and what."""
    return re.findall(r"<!-- (\w+) -->\n```sh\n(.*?)```", page.read_text(), re.DOTALL)


def type_block(block: str, *, folder: Path, code: Path) -> subprocess.CompletedProcess[str]:
    """Run the lines of a block in a folder until one fails; stages and commands are of `code`."""
    environ = {**environment(), "PYTHONPATH": str(code)}
    return subprocess.run(
        ["bash", "-c", f"set -e\n{block}"],
        cwd=folder,
        env=environ,
        text=True,
        capture_output=True,
        check=False,
    )
