"""What earlier runs of a stage made, so that it is not made again."""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from kinetrack.data.incremental import Known
from kinetrack.data.index import INDEX_NAME, read_index
from kinetrack.data.index import Row as IndexRow
from kinetrack.data.staging import Record
from kinetrack.errors import InputError
from kinetrack.files import remove_partials_of
from kinetrack.versioning.recipes import Recipe

Row = TypeVar("Row", bound=IndexRow)


class Earlier(NamedTuple, Generic[Row]):
    """What one recipe made in earlier runs, and where this run is to be remembered.

    `rows` are those of this data set's indexes, `others` those of other data sets.
    """

    recipe: str
    rows: Sequence[Row]
    others: Sequence[Row]
    memory: Path | None
    find_cached: Callable[[str], Path | None]

    @classmethod
    def none(cls) -> "Earlier[Row]":
        """Nothing is known, what a killed run left neither; nothing is to be remembered."""
        return cls(uuid.uuid4().hex, (), (), None, lambda _: None)


@dataclass(frozen=True)
class Reading(Generic[Row]):
    """What a row tells of its file: key, path below the output, record."""

    key: Callable[[Row], str]
    path: Callable[[Row], str]
    record: Callable[[Row], Record]

    def learn(self, earlier: Earlier[Row]) -> Known:
        """What the rows tell of files; a row without file tells nothing."""
        known = Known({}, {})
        for row in (*earlier.others, *earlier.rows):
            record = self.record(row)
            if record.md5:
                known.add(self.key(row), record, self.path(row))
        return known

    def files(self, rows: Iterable[Row]) -> dict[str, str]:
        """MD5 by path of the files that rows tell of."""
        return {self.path(row): self.record(row).md5 for row in rows if self.record(row).md5}

    def merge(self, earlier: Earlier[Row], rows: Sequence[Row]) -> list[Row]:
        """What to remember: these rows, and older ones, whose clips or places may come back."""
        now = {(self.key(row), self.path(row)) for row in rows}
        before = (row for row in earlier.rows if self.record(row).md5)
        return [*rows, *(row for row in before if (self.key(row), self.path(row)) not in now)]


def read_earlier(
    recipe: Recipe, output: Path, kind: type[Row], reading: Reading[Row]
) -> Earlier[Row]:
    """Read what this machine remembers of a recipe, or else what `dvc.lock` vouches for."""
    memory = recipe.memory(output.name)
    remove_partials_of(memory)
    rows = _read_rows(memory, kind) if memory.exists() else []
    if not rows:
        here = _read_rows(output / INDEX_NAME, kind)
        if here and recipe.vouches_for(output, reading.files(here)):
            rows = here
    others = [path for path in recipe.memories() if path != memory]
    return Earlier(
        recipe=recipe.sha256,
        rows=rows,
        others=[row for path in others for row in _read_rows(path, kind)],
        memory=memory,
        find_cached=recipe.find_cached,
    )


def _read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of an index; none when it cannot be read, as then everything is made anew."""
    try:
        return list(read_index(path, kind, remedy=""))
    except InputError:
        return []


def make_key(recipe: str, *facts: str | float | None) -> str:
    """Name what the bytes of a file depend on."""
    return hashlib.sha256(json.dumps([recipe, *facts]).encode()).hexdigest()
