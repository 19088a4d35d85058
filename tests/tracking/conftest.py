"""A project folder with an empty MLflow store; the store is made once and copied."""

import shutil
import sys
import types
from pathlib import Path

import pytest

from kinetrack.tracking import model
from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.settings import apply_default_settings

# Stands in for a network and its decoder: the answer depends on the video and the logged weights.
STUB_ANSWERER = """
class StubAnswerer:
    def __init__(self, folder):
        self.weight = float((folder / "weights.safetensors").read_text())

    def answer(self, rows, *, top, views):
        return [{"status": "ok", "probabilities": [len(video) * self.weight]} for video, _ in rows]

def load_answerer(folder):
    return StubAnswerer(folder)
"""


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


@pytest.fixture
def serving_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package that is logged with a model: the real serving code on a stub."""
    package = tmp_path / "kinetrack"
    (package / "using").mkdir(parents=True)
    for name in ("__init__.py", "using/__init__.py"):
        (package / name).touch()
    shutil.copy(model._SERVING_CODE, package / "using")
    shutil.copy(model._PACKAGE / "errors.py", package)
    (package / "using" / "answering.py").write_text(STUB_ANSWERER)
    stub = types.ModuleType("kinetrack.using.answering")
    exec(STUB_ANSWERER, stub.__dict__)
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    monkeypatch.setattr(model, "_PACKAGE", package)
    monkeypatch.setattr(model, "_SERVING_CODE", package / "using" / "serving.py")
    return package
