"""A project folder with an empty MLflow store; the store is made once and copied."""

import shutil
from pathlib import Path

import pytest

from kinetrack.tracking.store import apply_default_settings, prepare_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    apply_default_settings()
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    prepare_database(path)
    return path


@pytest.fixture
def bare_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has never tracked anything, as working directory."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "dvc.yaml").touch()
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "MLFLOW_LOGGING_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def project(bare_project: Path, empty_database: Path) -> Path:
    (bare_project / "mlruns").mkdir()
    shutil.copy(empty_database, bare_project / "mlruns")
    return bare_project
