"""What a shell offers when a person presses Tab: presets, data sets, runs, clips of this project.

Nothing here may fail or take long: what cannot be read gives no names.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_MOST = 200


def preset_names() -> list[str]:
    """Presets of the project."""
    return _names(lambda root: [path.stem for path in (root / "presets").glob("*.yaml")])


def dataset_names() -> list[str]:
    """Data sets of the project, here or under DVC."""

    def find(root: Path) -> list[str]:
        videos = root / "data/videos"
        here = [path.name for path in videos.glob("[!.]*/")]
        return [*here, *(path.stem for path in videos.glob("*.dvc")), "sample"]

    return _names(find)


def clip_names() -> list[str]:
    """Clips of the data set that `params.yaml` names, as `<Class>/<clip>`."""

    def find(root: Path) -> list[str]:
        from kinetrack.data.index import INDEX_NAME
        from kinetrack.params import PARAMS_FILE, load_params
        from kinetrack.tables import iterate_csv

        dataset = load_params(root / PARAMS_FILE)["dataset"]
        rows = iterate_csv(root / "data/frames" / dataset / INDEX_NAME)
        return [f"{row['label']}/{row['clip']}" for row in rows]

    return _names(find)


def run_names() -> list[str]:
    """Beginnings of the ids of the newest runs; none where they are on a server.

    MLflow itself takes seconds to import.
    """

    def find(root: Path) -> list[str]:
        from kinetrack.tracking.database import database_path, newest_run_ids

        return [run_id[:8] for run_id in newest_run_ids(database_path(root), most=_MOST)]

    return _names(find)


def _names(find: Callable[[Path], list[str]]) -> list[str]:
    from kinetrack.errors import InputError
    from kinetrack.tracking.artifacts import find_root

    with suppress(InputError, OSError, ValueError, KeyError, sqlite3.Error):
        return sorted(set(find(find_root())))
    return []
