"""A project with a real run, moved or copied: all that people do with MLflow still works."""

import base64
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from mlflow import MlflowClient

from kinetrack.tracking import ui
from kinetrack.using.inference import load_recogniser

from project import Project, environment
from trainings import MODEL, REPORTS, TENSORS, make_training

pytestmark = pytest.mark.slow


class Moved(NamedTuple):
    """A project in its new place, and the run and model of its training."""

    folder: Path
    run_id: str
    model_id: str

    @property
    def below(self) -> Path:
        """A working directory that is not the project's folder."""
        return self.folder / "data"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlruns/mlflow.db"

    def check(self, answers: list[dict[str, Any]], video: Path) -> None:
        """Hold what MLflow says of one video to what the model in its place says."""
        (answer,) = answers
        expected = load_recogniser(self.folder / MODEL).predict(video)
        assert answer["labels"] == list(expected.labels)
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_training(tmp_path_factory.mktemp("trained"), train={"epochs": 2})
    done = project.stage("train", TENSORS, MODEL, REPORTS)
    assert (done.returncode, done.stderr) == (0, "")
    return project


@pytest.fixture(params=["moved", "copied"])
def moved(
    request: pytest.FixtureRequest,
    trained: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Moved:
    """The project in a folder of another name; where it was, nothing is left."""
    first, second = tmp_path / "first", tmp_path / "another place"
    trained.folder.rename(first)
    try:
        if request.param == "copied":
            shutil.copytree(first, second)
        else:
            first.rename(second)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        monkeypatch.chdir(second / "data")
        client = MlflowClient(f"sqlite:///{second}/mlruns/mlflow.db")
        places = [one.experiment_id for one in client.search_experiments()]
        (run,) = client.search_runs(places)
        (output,) = run.outputs.model_outputs
        yield Moved(second, run.info.run_id, output.model_id)
    finally:
        (first if first.exists() else second).rename(trained.folder)


def test_files_and_model_are_there(
    moved: Moved, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc

    client = MlflowClient(moved.uri)
    listed = {one.path for one in client.list_artifacts(moved.run_id)}
    assert {"params.yaml", "plots"} <= listed
    picture = client.download_artifacts(moved.run_id, "plots/curves.png", str(tmp_path))
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", moved.uri)
    model = mlflow.pyfunc.load_model(f"models:/{moved.model_id}")
    table = pd.DataFrame({"video": [video.read_bytes()]})
    moved.check(model.predict(table).to_dict("records"), video)


def test_ui_shows_pictures_to_this_machine_alone(moved: Moved) -> None:
    command = [sys.executable, "-m", "kinetrack.cli.main", "ui"]
    with started(command, moved) as shown:
        address = shown.stdout.readline().split()[0]
        picture = f"{address}/get-artifact?path=plots/curves.png&run_uuid={moved.run_id}"
        with urllib.request.urlopen(picture, timeout=60) as answer:
            assert answer.read().startswith(b"\x89PNG")
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)  # another of this machine's


def test_mlflow_predicts(moved: Moved, video: Path, tmp_path: Path) -> None:
    asked, answered = tmp_path / "asked.json", tmp_path / "answered.json"
    asked.write_text(request_for(video))
    model = f"models:/{moved.model_id}"
    command = [*["-m", "mlflow", "models", "predict", "--env-manager", "local"], "-m", model]
    files = ["-i", str(asked), "-o", str(answered)]
    subprocess.run(
        [sys.executable, *command, *files], cwd=moved.below, env=variables(moved), check=True
    )
    moved.check(json.loads(answered.read_text())["predictions"], video)


def test_mlflow_serves(moved: Moved, video: Path) -> None:
    port = ui._any_free_port()
    model = f"models:/{moved.model_id}"
    command = [*["-m", "mlflow", "models", "serve", "--env-manager", "local"], "-m", model]
    with started([sys.executable, *command, "-p", str(port)], moved) as server:
        address = f"http://{ui.HOST}:{port}"
        wait_for(f"{address}/ping", server)
        request = urllib.request.Request(
            f"{address}/invocations",
            request_for(video).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            moved.check(json.loads(answer.read())["predictions"], video)


def request_for(video: Path) -> str:
    sent = base64.b64encode(video.read_bytes()).decode()
    return json.dumps({"dataframe_records": [{"video": sent}]})


def variables(moved: Moved) -> dict[str, str]:
    return {
        **environment(),
        "MLFLOW_TRACKING_URI": moved.uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


@contextmanager
def started(command: list[str], moved: Moved) -> Iterator[subprocess.Popen[str]]:
    """A process that runs within the block, in a folder below the project's."""
    environ = variables(moved) if "mlflow" in command else environment()
    with subprocess.Popen(
        command,
        cwd=moved.below,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            finally:
                ui._end_server(process)


def wait_for(address: str, server: subprocess.Popen[str], *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while True:
        assert server.poll() is None
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline
        time.sleep(0.2)
