"""Fixtures of all tests; what takes arguments is a function in `factories.py`."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import settings

from kinetrack.tracking import runs

from factories import write_video

# In this process, so that a test is fast and its warnings are seen; `test_parallel` and the
# pipeline tests use real worker processes.
os.environ["KINETRACK_WORKERS"] = "1"

# No test needs a pickle of MLflow's, and one that was loaded would be a fault.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process
# that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Small networks gain nothing from threads, and tests run side by side in processes.
torch.set_num_threads(1)

# The same examples on every run and no deadline: a loaded machine must not fail a test.
settings.register_profile("kinetrack", derandomize=True, deadline=None)
settings.load_profile("kinetrack")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the whole pipeline: the other process would wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AVI of ten frames of 64 x 48; read only."""
    return write_video(tmp_path_factory.mktemp("video") / "v_Walk_g01_c01.avi", num_frames=10)


@pytest.fixture(autouse=True)
def module_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `sys.path` back: MLflow leaves the code of each model that it loads at its front."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True)
def variables() -> Iterator[None]:
    """Put the variables back: a command that reads the machine's file in this process sets some."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def patient_training(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loaded machine take long for MLflow; the slow tests have the limits that users have."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr(runs, "_REQUESTS_S", 120.0)


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Put torch's threads, seed and flags back after a test that sets them."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
