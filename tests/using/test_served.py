"""The served model as MLflow's own server and commands have it, with clients that send anything."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
import torch
from mlflow.models import Model

from benchmarks.load import VIDEO_MB, make_requests, put_load, served
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.tracking import model as logging
from kinetrack.using.inference import load_recogniser

from factories import model_card, write_video

pytestmark = pytest.mark.slow

LABELS = ("Jump", "<img src=x onerror=alert(1)>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, the same as MLflow keeps it, and videos."""
    folder = tmp_path_factory.mktemp("served")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(folder / "model", Small3dCnn(num_classes=2), model_card(labels=LABELS))
    logging._save(folder / "logged", folder / "model", description=Model())
    for number in range(4):
        write_video(folder / f"videos/{number}.avi", num_frames=12, start=9 * number)
    (folder / "secret.avi").write_bytes((folder / "videos/0.avi").read_bytes())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    variables = {"KINETRACK_SERVE_ROOT": str(folder / "videos"), "TMPDIR": str(folder / "scratch")}
    (folder / "scratch").mkdir()
    size = {"KINETRACK_SERVE_VIDEO_MB": str(VIDEO_MB), "KINETRACK_SERVE_VIDEOS": "3"}
    with served(str(folder / "logged"), **variables, **size) as started:
        yield started


def post(server: tuple[psutil.Process, str], request: object) -> requests.Response:
    return requests.post(f"{server[1]}/invocations", json=request, timeout=60)


@pytest.mark.parametrize("form", ["records", "split", "inputs", "csv", "path"])
def test_every_form_of_a_table_has_the_answer_of_predict(
    folder: Path, server: tuple[psutil.Process, str], form: str
) -> None:
    path = folder / "videos/1.avi"
    sent = base64.b64encode(path.read_bytes()).decode()
    requested = {
        "records": {"dataframe_records": [{"video": sent}]},
        "split": {"dataframe_split": {"columns": ["video"], "data": [[sent]]}},
        "inputs": {"inputs": {"video": [sent]}},
        "path": {"dataframe_records": [{"path": "1.avi"}]},
    }
    if form == "csv":
        headers, body = {"Content-Type": "text/csv"}, f"video\n{sent}\n"
        address = f"{server[1]}/invocations"
        answer = requests.post(address, data=body, headers=headers, timeout=60)
    else:
        answer = post(server, requested[form])
    (row,) = answer.json()["predictions"]
    expected = load_recogniser(folder / "model").predict(path)
    assert row["labels"] == list(expected.labels)
    assert row["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert answer.headers["content-type"] == "application/json"  # no browser takes it for a page


@pytest.mark.parametrize(
    "request_",
    [
        [],
        {"dataframe_records": []},
        {"dataframe_records": [{"clip": "a"}]},
        {"dataframe_records": [{"video": "YWJj"}] * 4},
        {"dataframe_records": [{"video": "YWJj"}], "params": {"top": 0}},
        {"dataframe_records": [{"video": "YWJj"}], "params": {"views": 2}},
        {"dataframe_split": {"columns": ["video", "video"], "data": [["YWJj", "YWJj"]]}},
    ],
    ids=str,
)
def test_request_that_is_none_is_refused(
    server: tuple[psutil.Process, str], request_: object
) -> None:
    answer = post(server, request_)
    assert answer.status_code == 400
    assert answer.json()["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("path", ["../secret.avi", "/etc/passwd", "a\0b", "%2e%2e/secret.avi"])
def test_path_that_leads_out_is_a_row_with_its_reason(
    server: tuple[psutil.Process, str], path: str
) -> None:
    (row,) = post(server, {"dataframe_records": [{"path": path}]}).json()["predictions"]
    assert row["status"] == "broken"
    assert "does not lead into" in row["reason"] or "No such file" in row["reason"]


def test_another_address_of_this_machine_is_not_served(
    server: tuple[psutil.Process, str],
) -> None:
    port = server[1].rpartition(":")[2]
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.2:{port}/ping", timeout=5)


def test_a_thousand_requests_leave_the_server_as_it_was(
    folder: Path, server: tuple[psutil.Process, str]
) -> None:
    videos = sorted((folder / "videos").iterdir())
    sent = list(make_requests(videos, 1600))
    load = put_load(*server, sent, clients=4, warm_up=600)
    assert load.unexplained == []
    assert sum(reply.outcome != "ok" for reply in load.replies) == 50
    # The allocators of threads settle late; a leak of a body a request would be far more.
    assert load.memory_bytes[-1] < load.memory_bytes[0] + 60e6
    assert list((folder / "scratch").glob("kinetrack-*")) == []


def test_mlflow_models_predict_answers_the_same(folder: Path) -> None:
    path = folder / "videos/2.avi"
    asked, answered = folder / "asked.json", folder / "answered.json"
    sent = base64.b64encode(path.read_bytes()).decode()
    asked.write_text(json.dumps({"dataframe_records": [{"video": sent}], "params": {"top": 1}}))
    command = ["-m", "mlflow", "models", "predict", "--env-manager", "local"]
    files = ["-m", str(folder / "logged"), "-i", str(asked), "-o", str(answered)]
    subprocess.run([sys.executable, *command, *files], check=True, cwd=folder)
    (row,) = json.loads(answered.read_text())["predictions"]
    expected = load_recogniser(folder / "model").predict(path)
    assert row["labels"] == [expected.labels[0]]
    assert row["probabilities"] == pytest.approx(expected.probabilities[:1], abs=1e-6)
