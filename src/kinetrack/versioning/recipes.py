"""What a stage makes its files by, and where earlier runs with the same recipe are remembered.

Other code, other params or another library would give other bytes. DVC's lock knows code and
params of the last run only, and of the data set of that run; the memory below `.kinetrack/` knows
all runs of this machine.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.versioning.cache import cache_folder, object_path
from kinetrack.versioning.lock import content_md5, locked_stage, stage_code

_MEMORY = Path(".kinetrack/made")


class Recipe:
    """What the files of a stage's output folder depend on beside its data."""

    def __init__(
        self,
        stage: str,
        *,
        section: str,
        settings: Mapping[str, Any],
        libraries: Sequence[str],
        root: Path,
    ) -> None:
        """`settings` are those params of a section that the files depend on."""
        self._stage, self._section, self._settings = stage, section, settings
        self._root = root
        self._code = stage_code(stage, root=root)
        work = _hash([self._code, settings])
        self.sha256 = _hash([work, {name: version(name) for name in libraries}])
        self._folders = (work[:16], self.sha256[:16])

    def memories(self) -> list[Path]:
        """Copies of the indexes that this recipe made, one a data set."""
        return sorted(self._memory_folder.glob("*.csv"))

    def memory(self, dataset: str) -> Path:
        """Where the copy of a data set's index belongs."""
        return self._memory_folder / f"{dataset}.csv"

    @property
    def _memory_folder(self) -> Path:
        # DVC's temporary checkouts vanish; it says there where the project itself is.
        home = Path(os.environ.get("DVC_ROOT", self._root))
        return Path(home, _MEMORY, self._stage, *self._folders)

    def vouches_for(self, folder: Path, files: Mapping[str, str]) -> bool:
        """Whether `dvc.lock` says that this recipe made a folder that holds these files.

        `files` has their MD5s by path; those of the tables at the folder's top are looked up. So it
        is after a clone and a pull. The lock does not know the versions of libraries: where this
        machine remembers that others made the data set's files, it is not believed.
        """
        others = self._memory_folder.parent.glob(f"*/{folder.name}.csv")
        if any(path.parent != self._memory_folder for path in others):
            return False
        tables = {path.name: file_md5(path) for path in folder.glob("*.csv")}
        entry = locked_stage(self._stage, root=self._root)
        code = {dep["path"]: dep.get("md5") for dep in entry.get("deps", ())}
        params = entry.get("params", {}).get("params.yaml", {}).get(self._section, {})
        made = {out["path"]: out.get("md5") for out in entry.get("outs", ())}
        return (
            made.get(folder.as_posix()) == content_md5({**files, **tables})
            and all(code.get(path) == md5 for path, md5 in self._code.items())
            and all(params.get(name) == value for name, value in self._settings.items())
        )

    def find_cached(self, md5: str) -> Path | None:
        """The object of DVC's cache that has this MD5 for a name; None without one."""
        if self._cache is None:
            return None
        path = object_path(self._cache, md5)
        return path if path.is_file() else None

    @cached_property
    def _cache(self) -> Path | None:
        try:
            return cache_folder(self._root)
        except InputError:  # a stage by hand, where there is no DVC
            return None


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
