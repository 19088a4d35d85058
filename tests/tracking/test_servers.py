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

from kinetrack.errors import InputError
from kinetrack.tracking import ui
from kinetrack.tracking.evaluations import Result, add_evaluation
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.journal import ModelFacts
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
    files = {"params.yaml": "seed: 1\n"}
    with training_run(experiment="e", name="x", params={"seed": 1}, tags={}, files=files) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        run.set_tags({"model_sha256": "abc"})
    confusion = bare_project / "confusion.csv"
    confusion.write_text("actual,predicted,num_clips\na,a,1\n")
    assert add_evaluation(Result({"model_sha256": "abc"}, {"accuracy": 1.0}, confusion)) == 1
    found = open_store().get_run(run.run_id)
    assert found.data.metrics.items() >= {"train/loss": 1.0, "test/accuracy": 1.0}.items()
    assert found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert not (bare_project / "mlruns").exists()


def test_model_comes_from_the_team_server(
    team_server: TeamServer,
    bare_project: Path,
    serving_package: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    contents = {
        "weights.safetensors": bytes(range(256)) * 20_000,
        "model.json": b"{}",
        "trained_on.txt": b"",
    }
    logged = bare_project / "model"
    logged.mkdir()
    for name, content in contents.items():
        (logged / name).write_bytes(content)
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        run.log_model(logged, ModelFacts("0" * 32 + ".dir", (3, 4, 8, 8), 2))
    assert run.is_sent
    client = open_store()
    (output,) = client.get_run(run.run_id).outputs.model_outputs
    client.create_registered_model("net")
    client.create_model_version("net", f"runs:/{run.run_id}/model", run_id=run.run_id)
    client.create_model_version("net", f"models:/{output.model_id}", model_id=output.model_id)
    client.set_registered_model_alias("net", "best", "2")
    for source in (f"run:{run.run_id}", "models:/net/1", "models:/net@best"):
        folder = bare_project / "start"
        assert fetch_model(source, folder) == run.run_id
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
        shutil.rmtree(folder)
    for source, problem in {
        f"run:{'0' * 32}": "no such run",
        "models:/other/1": "no such registered model, expected one of net",
        "models:/net@worst": "no such alias, expected one of best",
        "models:/net/3": "no such version, expected one of 1, 2",
    }.items():
        with pytest.raises(InputError, match=problem):
            fetch_model(source, bare_project / "start")
    ui._end_server(team_server.process)
    with pytest.raises(InputError, match=r"cannot be fetched from MLflow at http://127.*refused"):
        fetch_model(f"run:{run.run_id}", bare_project / "start")
    assert not (bare_project / "start").exists()
    assert not (bare_project / "mlruns").exists()


def test_ui_shows_artifacts_to_this_machine_only(project: Path) -> None:
    files = {"params.yaml": "seed: 1\n"}
    with training_run(experiment="e", name="x", params={}, tags={}, files=files) as run:
        pass
    code = "from kinetrack.tracking.ui import serve_ui; raise SystemExit(serve_ui(experiment='e'))"
    below = project / "data"
    below.mkdir()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=below) as shown:
        try:
            address = shown.stdout.readline().decode().split()[0]
            page = f"{address}/#/experiments/1/runs?workflowType=machine_learning"
            assert shown.stdout.readline().decode() == f"runs of e: {page}\n"
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
