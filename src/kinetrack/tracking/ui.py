"""MLflow's web page over the project's runs, on this machine only."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import ARTIFACT_ROOT, find_root
from kinetrack.tracking.database import database_path, prepare_database, require_usable
from kinetrack.tracking.settings import apply_default_settings, named_tracking_uri, quiet
from kinetrack.tracking.store import local_database, open_store

HOST = "127.0.0.1"
PREFERRED_PORT = 5000
# No workers for scheduled evaluations: a page over runs needs none. The user's own settings win.
_QUIET_SETTINGS = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}


def serve_ui(*, port: int | None = None, experiment: str = "") -> int:
    """Serve MLflow's UI until Ctrl-C and return the exit code.

    With a server in MLFLOW_TRACKING_URI there is nothing to serve: its address is printed.

    Args:
        port: None takes 5000 when it is free, else any free one.
        experiment: the address of its table of runs is printed too; MLflow's own start page shows
            what belongs to language models.

    Raises:
        InputError: there is no run yet, or the port is taken.
    """
    named = named_tracking_uri()
    if named and named.startswith(("http://", "https://")):
        _say(named)
        _say_page(named, experiment)
        return 0
    apply_default_settings()
    environment = {**_QUIET_SETTINGS, **os.environ, **_server_settings(named)}
    port = _choose_port(port)
    server = _start_server(port, environment)
    signal.signal(signal.SIGTERM, _leave)
    try:
        if _wait_for(server, port):
            _say(f"http://{HOST}:{port}  (Ctrl-C ends it)")
            _say_page(f"http://{HOST}:{port}", experiment)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end_server(server)


def _server_settings(named_uri: str | None) -> dict[str, str]:
    if named_uri:
        if path := local_database():
            require_usable(path)  # MLflow would upgrade an old one without a backup
        return {"MLFLOW_BACKEND_STORE_URI": named_uri}
    root = find_root()
    path = database_path(root)
    if not path.exists():
        raise InputError(path, "there is no run yet", remedy="make repro")
    prepare_database(path)
    return {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{path}",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": ARTIFACT_ROOT,
        "DVC_ROOT": str(root),
    }


def _choose_port(port: int | None) -> int:
    if port is None:
        return PREFERRED_PORT if _is_free(PREFERRED_PORT) else _any_free_port()
    if not _is_free(port):
        raise InputError(f"{HOST}:{port}", "this port is taken", remedy="choose another --port")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _start_server(port: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    options = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # Its own session: Ctrl-C reaches only us, and we end the server with all its children.
    return subprocess.Popen(
        [*command, *options],
        env=environment,
        stdout=subprocess.DEVNULL,  # greetings; what goes wrong is on stderr
        start_new_session=True,
    )


def _wait_for(server: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the server answers before it ends."""
    while server.poll() is None:
        if _answers(port):
            return True
        time.sleep(0.2)
    return False


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_server(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, number)
        try:
            server.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _say_page(address: str, experiment: str) -> None:
    """Print where the runs of an experiment are, if there is one."""
    if not experiment:
        return
    with quiet():
        found = open_store().get_experiment_by_name(experiment)
    if found:
        page = f"#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"
        _say(f"runs of {experiment}: {address.rstrip('/')}/{page}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
