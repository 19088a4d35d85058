"""A tracking store of somebody else that is read: its client, and where its files are now.

Nothing is written there: MLflow would upgrade an old database in place and add folders to a file
store, so both are read as a copy.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import SCHEME
from kinetrack.tracking.database import check_database, describe_trouble
from kinetrack.tracking.schema import installed_revision, require_past_schema
from kinetrack.tracking.upgrading import copy_database, migrate

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
# Where MLflow, its server and Kinetrack keep artifacts, below the folder with the database.
_ARTIFACT_FOLDERS = (".", "mlruns", "mlartifacts", "mlruns/artifacts")


class Foreign(NamedTuple):
    """A store that is read."""

    client: "MlflowClient"
    uri: str
    folders: tuple[Path, ...]  # where files may be; none for a server
    num_unreadable: int  # runs of a file store whose description cannot be read

    @property
    def is_server(self) -> bool:
        """Whether it hands out files itself."""
        return not self.folders


@contextmanager
def open_foreign(source: str) -> Iterator[Foreign]:
    """Open a file store, a database, a folder with one, or the address of a tracking server.

    Raises:
        InputError: it is none of these, or cannot be read.
    """
    from mlflow import MlflowClient

    if source.startswith(("http://", "https://")):
        yield Foreign(MlflowClient(source, source), source, (), 0)
        return
    path, num_unreadable = Path(source), 0
    database = find_database(path)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, DATABASE)
        if database:
            _copy_database(database, copy)
            folders = _artifact_folders(database.parent)
        else:
            store = _find_file_store(path)
            num_unreadable = _convert_file_store(store, copy)
            folders = (store, store.parent)
        uri = f"sqlite:///{copy}"
        yield Foreign(MlflowClient(uri, uri), uri, folders, num_unreadable)


def find_database(path: Path) -> Path | None:
    """Return the database that a path means: a file, or one in this folder or its `mlruns`."""
    if path.is_file():
        return path
    places = (path / DATABASE, path / "mlruns" / DATABASE)
    return next((place for place in places if place.is_file()), None)


@contextmanager
def files_of(foreign: Foreign, address: str, owner: str) -> Iterator[Path | None]:
    """Yield the folder with the files of a run or a model, None where there are none to be had.

    Args:
        address: where the store says that they are. A folder is looked for below the source too,
            since it may have been moved.
        owner: id of the run or model. On this machine only folders `.../<owner>/artifacts` are
            read, whatever a store says.
    """
    from mlflow.artifacts import download_artifacts

    scheme = urlsplit(address).scheme
    if scheme in ("", "file", SCHEME) or (scheme == "mlflow-artifacts" and not foreign.is_server):
        folder = _find_folder(foreign.folders, address, owner)
        yield folder if folder and is_self_contained(folder) else None
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = Path(download_artifacts(address, dst_path=scratch, tracking_uri=foreign.uri))
        except Exception:  # no credentials, no such files, a library that is not installed
            folder = None
        yield folder


def is_self_contained(folder: Path) -> bool:
    """Whether there are only files and folders in it, and no link leads out of it."""
    root = folder.resolve()
    for place, folders, files in os.walk(root):
        for path in (Path(place, name) for name in (*folders, *files)):
            if not (path.is_file() or path.is_dir()) or not path.resolve().is_relative_to(root):
                return False
    return True


def _find_folder(roots: tuple[Path, ...], address: str, owner: str) -> Path | None:
    is_plain = not urlsplit(address).scheme
    path = Path(address if is_plain else unquote(urlsplit(address).path))
    parts = [part for part in path.parts if part != path.anchor]
    if ".." in parts or parts[-2:] != [owner, "artifacts"]:
        return None
    tails = [Path(*parts[start:]) for start in range(len(parts) - 1)]
    candidates = [root / tail for root in roots for tail in tails]
    return next((one for one in [*candidates, path] if one.is_absolute() and one.is_dir()), None)


def _artifact_folders(folder: Path) -> tuple[Path, ...]:
    return tuple((folder / name).absolute() for name in _ARTIFACT_FOLDERS)


def _copy_database(path: Path, copy: Path) -> None:
    revision = check_database(path)
    if revision is None:
        raise InputError(path, "is empty")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            copy_database(database, copy)
    except sqlite3.DatabaseError as error:
        raise describe_trouble(path, error) from error
    if revision != installed_revision():
        require_past_schema(path, revision)
        migrate(copy)


def _find_file_store(path: Path) -> Path:
    for folder in (path, path / "mlruns"):
        if any(folder.glob("*/meta.yaml")):
            return folder.absolute()
    raise InputError(
        path,
        "no MLflow store is here",
        expected=f"a folder with {DATABASE}, a file store (mlruns), a database, or http(s)://",
    )


def _convert_file_store(folder: Path, database: Path) -> int:
    """Make a database of a file store; return how many runs MLflow could not read."""
    options = ["--source", str(folder), "--target", f"sqlite:///{database}", "--no-progress"]
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "migrate-filestore", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(folder, "MLflow cannot read this file store", found=last)
    with closing(sqlite3.connect(database)) as converted:
        [num_runs] = converted.execute("SELECT count(*) FROM runs").fetchone()
    # `<experiment>/<run>/meta.yaml`, also below `.trash`; models and data sets lie deeper.
    described = [*folder.glob("[0-9]*/*/meta.yaml"), *folder.glob(".trash/[0-9]*/*/meta.yaml")]
    return len(described) - int(num_runs)
