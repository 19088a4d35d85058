"""Which videos are meant: files, folders, patterns, and a list on the standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.clips import VIDEO_SUFFIXES, is_video_name, walk_videos


class Named(NamedTuple):
    """A video to look at; with a `reason`, a name that stands for none."""

    path: Path
    reason: str = ""


def find_videos(names: Iterable[str]) -> Iterator[Named]:
    """Name the videos: of a folder all below it, of a pattern all that match it, sorted.

    A pattern is what no file has for a name, so that brackets in a name need no care. The name `-`
    stands for a list on the standard input, whose lines are no patterns.
    """
    for name in names:
        if name == "-":
            for line in _read_names():
                yield from _at(line)
        elif glob.has_magic(name) and not os.path.lexists(name):
            yield from _matching(name)
        else:
            yield from _at(name)


def _read_names() -> Iterator[str]:
    """The lines of the standard input; bytes, because file names need not be UTF-8."""
    for line in sys.stdin.buffer:
        if line.strip():
            yield os.fsdecode(line.rstrip(b"\r\n"))


def _at(name: str) -> Iterator[Named]:
    if not os.path.isdir(name):  # noqa: PTH112  # that of Path raises on a name that is too long
        yield Named(Path(name))
        return
    found = [Named(path) for path in walk_videos(Path(name))]
    # A folder without a video stands for itself, so that somebody tells.
    yield from found or [Named(Path(name), "holds no video by its name")]


def _matching(pattern: str) -> Iterator[Named]:
    """The videos that a pattern matches, and those of the folders that it matches, each once."""
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path's knows no "a/**"
    if not names:
        yield Named(Path(pattern), "is a pattern that matches nothing")
        return
    found = dict.fromkeys(path for name in names for path in _take(name, pattern))
    if not found:
        reason = f"is a pattern that matches no video by its name ({' '.join(VIDEO_SUFFIXES)})"
        yield Named(Path(pattern), reason)
    yield from map(Named, sorted(found))


def _take(name: str, pattern: str) -> Iterator[Path]:
    if Path(name).is_dir():
        yield from walk_videos(Path(name))
    # `*.flv` asks for what has another ending than videos mostly have; `*` and `**` do not.
    elif is_video_name(Path(name)) or not glob.has_magic(Path(pattern).suffix or "*"):
        yield Path(name)
