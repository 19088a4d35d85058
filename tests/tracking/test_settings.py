import contextlib
import os
import socket

import pytest
from mlflow.exceptions import MlflowException

from kinetrack.tracking.settings import apply_default_settings, http_limits
from kinetrack.tracking.store import (
    open_store,
)

LIMITS = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")


def read_limits() -> list[str | None]:
    return [os.environ.get(name) for name in LIMITS]


@pytest.fixture
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.setenv(name, "")  # put back after the test
        monkeypatch.delenv(name)


def test_http_limits_end_with_the_block(no_limits: None) -> None:
    apply_default_settings()
    before = read_limits()
    with contextlib.suppress(ValueError), http_limits(timeout_s=2, retries=0):
        assert read_limits() == ["2", "0"]
        raise ValueError
    assert read_limits() == before


def test_without_settings_ours_hold_after_the_block(no_limits: None) -> None:
    with http_limits(timeout_s=2, retries=0):
        pass
    assert read_limits() == ["10", "1"]


def test_http_limits_of_the_user_stay(no_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMITS[0], "77")
    with http_limits(timeout_s=2, retries=0):
        assert read_limits() == ["77", "0"]
    assert read_limits() == ["77", "1"]


def test_mlflow_keeps_to_the_limits(no_limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.05)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(MlflowException), http_limits(timeout_s=1, retries=0):
            open_store()
        silent.accept()[0].close()  # asked once
        with pytest.raises(TimeoutError):
            silent.accept()
