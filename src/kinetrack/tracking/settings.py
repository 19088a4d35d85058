"""Settings of MLflow's by environment variables: the store's address, patience, log lines."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTY_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")
# Ours unless the user set them: MLflow's own would block a training for minutes at every call.
_DEFAULT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def named_tracking_uri() -> str | None:
    """Return MLFLOW_TRACKING_URI, None when it is unset or empty."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def apply_default_settings() -> None:
    """Set those of MLflow's variables that the user left open; call it before `import mlflow`."""
    for name, value in _DEFAULT_SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def http_limits(*, timeout_s: int, retries: int) -> Iterator[None]:
    """Within the block, wait so long for a server, and ask so often again.

    What the user set stays. MLflow reads these variables at every request.
    """
    apply_default_settings()
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
    }
    ours = {name for name in limits if os.environ[name] == _DEFAULT_SETTINGS[name]}
    try:
        os.environ.update({name: limits[name] for name in ours})
        yield
    finally:
        os.environ.update({name: _DEFAULT_SETTINGS[name] for name in ours})


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's log lines out of a stage's output, unless the user set MLFLOW_LOGGING_LEVEL."""
    apply_default_settings()
    import mlflow  # noqa: F401  sets levels, which are overridden here

    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    if os.environ.get("MLFLOW_LOGGING_LEVEL"):
        loggers = []
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
