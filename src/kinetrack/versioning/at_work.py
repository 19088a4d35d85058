"""Whether a DVC works in a project right now: by the file in which it says who reads and writes."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_FILE = ".dvc/tmp/rwlock"


def find_command_at_work(root: Path) -> str | None:
    """The command of a DVC that runs a stage; its other lock is free meanwhile.

    "unknown" where the file cannot be read.
    """
    try:
        workers = _read_workers(root)
    except (OSError, ValueError):
        return "unknown"
    return next((str(one.get("cmd")) for one in workers if _is_alive(one.get("pid"))), None)


def is_left_alone(root: Path) -> bool:
    """Whether all that say they are at work have died: DVC was killed while a stage of it ran."""
    try:
        workers = _read_workers(root)
    except (OSError, ValueError):
        return False
    return bool(workers) and not any(_is_alive(one.get("pid")) for one in workers)


def _read_workers(root: Path) -> list[Mapping[str, Any]]:
    """A process id and a command each, as DVC 3 writes them.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON of that kind.
    """
    try:
        locked = json.loads((root / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    try:
        return list(_infos(locked))
    except AttributeError as error:
        raise ValueError(f"{_FILE} is of another kind") from error


def _infos(locked: Any) -> Iterator[Mapping[str, Any]]:
    for kind in locked.values():
        for held in kind.values():
            for info in held if isinstance(held, list) else [held]:
                info.get("pid")  # else no mapping
                yield info


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another person's
        return True
    return True
