"""What a check of `kinetrack doctor` says."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

# What is broken hinders the commands; a note is for a person to judge.
State = Literal["ok", "note", "broken"]


class Finding(NamedTuple):
    """What one check saw, and what a person can do about it."""

    state: State
    told: str
    remedy: str = ""


# It gets the project's folder, which is the working directory too.
Check = Callable[[Path], Iterator[Finding]]
