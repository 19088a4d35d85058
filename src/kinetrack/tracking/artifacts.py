"""Addresses of run artifacts that stay true when the project is moved, cloned or checked out anew.

No mlflow import at the top: MLflow loads this module while it is itself being imported.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kinetrack.errors import InputError

if TYPE_CHECKING:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

SCHEME = "kinetrack"
# Relative to the project: SQLite would keep absolute paths, which a moved or cloned project breaks.
ARTIFACT_ROOT = f"{SCHEME}:///artifacts"


def find_root() -> Path:
    """Return the project's folder: DVC_ROOT, else the nearest one with a `dvc.yaml` from here up.

    DVC sets DVC_ROOT inside stages; in the temporary checkout of an experiment it names the main
    project, where runs must go since the checkout vanishes.

    Raises:
        InputError: there is no `dvc.yaml` here or above.
    """
    if named := os.environ.get("DVC_ROOT"):
        return Path(named).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise InputError(here, "no dvc.yaml here or above", remedy="run this inside the project")


def project_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> "LocalArtifactRepository":
    """Open the artifacts at `kinetrack:///...`: files below the project's `mlruns/`.

    The entry point in the group `mlflow.artifact_repository`, called by MLflow's client and UI.

    Raises:
        InputError: the address leads out of `mlruns/`.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    folder = artifact_folder(artifact_uri, root=find_root())
    return LocalArtifactRepository(str(folder), tracking_uri, registry_uri)


def artifact_folder(artifact_uri: str, *, root: Path) -> Path:
    """Return the folder of `<root>/mlruns` that an address of our scheme means.

    Raises:
        InputError: the address is not of our scheme, names a host or leads out of `mlruns/`.
    """
    address = urlsplit(artifact_uri)
    if address.scheme != SCHEME or address.netloc or address.query or address.fragment:
        raise InputError(artifact_uri, "not an artifact address", expected=f"{SCHEME}:///PATH")
    # Checked as MLflow's REST layer may have quoted it, too. Links are followed: a person may keep
    # `mlruns/artifacts` on a larger disk.
    if ".." in unquote(address.path).split("/"):
        raise InputError(artifact_uri, "this artifact address leads out of mlruns")
    return root / "mlruns" / address.path.lstrip("/")
