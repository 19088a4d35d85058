"""What a data set remembers of itself, in the `meta` of its `.dvc` file, where Git shares it.

DVC leaves `meta` to others, and keeps it when the folder is added anew, committed or moved.
"""

from pathlib import Path
from typing import NamedTuple

from kinetrack.errors import InputError
from kinetrack.files import write_text
from kinetrack.versioning.tracked import read_yaml
from kinetrack.yaml_text import quote_value


class DatasetFacts(NamedTuple):
    """What its collector knows of a data set, and no file of it tells."""

    group_pattern: str | None
    """Regular expression for the groups in the file names; None: each clip its own group."""


def remember_facts(described: Path, facts: DatasetFacts) -> None:
    """Write the facts into a `.dvc` file that DVC has just made, without any `meta`.

    Raises:
        WriteError: it cannot be written.
    """
    pattern = quote_value(facts.group_pattern)
    meta = f"meta:\n  kinetrack:\n    group_pattern: {pattern}\n"
    write_text(described, described.read_text(encoding="utf-8") + meta)


def recall_facts(described: Path) -> DatasetFacts | None:
    """Read the facts of a data set's `.dvc` file; None where it has none, or is not there.

    Raises:
        InputError: the file cannot be read, or its pattern is no text.
    """
    if not described.is_file():
        return None
    meta = read_yaml(described, remedy=f"git checkout -- {described}").get("meta")
    ours = meta.get("kinetrack") if isinstance(meta, dict) else None
    if not isinstance(ours, dict) or "group_pattern" not in ours:
        return None
    pattern = ours["group_pattern"]
    if pattern is not None and not isinstance(pattern, str):
        expected = "a regular expression in quotes, or null"
        problem = "meta.kinetrack.group_pattern"
        raise InputError(described, problem, found=pattern, expected=expected, remedy="mend it")
    return DatasetFacts(pattern)
