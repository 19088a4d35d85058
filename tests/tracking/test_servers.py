"""Real MLflow servers on loopback: a team's server, and our own UI over the project's store."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kinetrack.tracking import ui
from kinetrack.tracking.evaluations import add_evaluation
from kinetrack.tracking.runs import training_run
from kinetrack.tracking.store import open_store

pytestmark = pytest.mark.slow


class TeamServer(NamedTuple):
    address: str
    process: subprocess.Popen[bytes]


@pytest.fixture
def team_server(
    bare_project: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TeamServer]:
    """A server with its own database and files, named in MLFLOW_TRACKING_URI."""
    database = shutil.copy(empty_database, tmp_path / "team.db")
    stores = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "team artifacts"),
    }
    port = ui._any_free_port()
    process = ui._start_server(port, {**os.environ, **stores})
    try:
        assert ui._wait_for(process, port)
        address = f"http://{ui.HOST}:{port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield TeamServer(address, process)
    finally:
        ui._end_server(process)


def test_run_goes_to_the_team_server(team_server: TeamServer, bare_project: Path) -> None:
    params = bare_project / "params.yaml"
    params.write_text("seed: 1\n")
    with training_run(experiment="e", name="x", params={"seed": 1}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        run.set_tags({"model_sha256": "abc"})
        run.log_params_file(params)
    confusion = bare_project / "confusion.csv"
    confusion.write_text("actual,predicted,num_clips\na,a,1\n")
    assert (
        add_evaluation(tags={"model_sha256": "abc"}, metrics={"accuracy": 1.0}, confusion=confusion)
        == 1
    )
    found = open_store().get_run(run.run_id)
    assert found.data.metrics == {"train/loss": 1.0, "test/accuracy": 1.0}
    assert found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert not (bare_project / "mlruns").exists()


def test_server_that_dies_does_not_end_the_training(
    team_server: TeamServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        capfd.readouterr()
        ui._end_server(team_server.process)
        run.log_epoch(2, {"train/loss": 0.5})
        run.log_epoch(3, {"train/loss": 0.25})
    assert run.is_lost
    assert "does not answer; this run is not tracked" in capfd.readouterr().err


def test_ui_shows_artifacts_to_this_machine_only(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text("seed: 1\n")
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        run.log_params_file(params)
    code = "import sys; from kinetrack.tracking.ui import serve_ui; sys.exit(serve_ui())"
    below = project / "data"
    below.mkdir()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=below) as shown:
        try:
            address = shown.stdout.readline().decode().split()[0]
            artifact = f"/get-artifact?path=params.yaml&run_uuid={run.run_id}"
            with urllib.request.urlopen(address + artifact, timeout=20) as answer:
                assert answer.read() == b"seed: 1\n"
            assert status_for_host(address, artifact, host="evil.example") == 403
        finally:
            shown.send_signal(signal.SIGINT)
            assert shown.wait(timeout=20) == 0
    assert ui._is_free(int(address.rpartition(":")[2]))


def status_for_host(address: str, path: str, *, host: str) -> int:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    connection.request("GET", path, headers={"Host": host})
    status = connection.getresponse().status
    connection.close()
    return status
