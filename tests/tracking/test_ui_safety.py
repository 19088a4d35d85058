"""What `kinetrack ui` lets in: this machine's own page, and nothing else (a real server)."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import psutil
import pytest

from kinetrack.tracking import ui
from kinetrack.tracking.runs import training_run
from kinetrack.tracking.store import experiment_id, open_store

from browser import open_browser
from project import environment

pytestmark = pytest.mark.slow

# Each would set a mark that the page then has.
HOSTILE = "<img src=x onerror='window.hostile=1'><script>window.hostile=1</script>"
LINK = "[a](javascript:window.hostile=1)"


class Shown(NamedTuple):
    """A project's page that is open, and its one run."""

    address: str
    run_id: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("ui") / "project"
    folder.mkdir()
    (folder / "dvc.yaml").touch()
    (folder / "secret.txt").write_text("the project's secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        run_id = log_hostile_run()
    command = [sys.executable, "-m", "kinetrack.cli.main", "ui", "--port", str(ui._any_free_port())]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            line = next(line for line in process.stdout if line.startswith("http://"))
            yield Shown(line.split()[0], run_id, process)
        finally:
            process.terminate()


def log_hostile_run() -> str:
    files = {"params.yaml": "seed: 1\n"}
    params = {"dataset": HOSTILE}
    tags = {"git.branch": HOSTILE, "mlflow.note.content": f"{HOSTILE}\n\n{LINK}"}
    with training_run(experiment="e", name=HOSTILE, params=params, tags=tags, files=files) as run:
        run.log_epoch(1, {"train/loss": 1.0})
    client = open_store()
    client.set_experiment_tag(experiment_id(client, "e"), "mlflow.note.content", HOSTILE + LINK)
    client.create_registered_model("net", description=f"{HOSTILE}\n\n{LINK}")
    (output,) = client.search_runs([experiment_id(client, "e")])
    client.create_model_version("net", output.info.artifact_uri, description=HOSTILE)
    return str(run.run_id)


class Answer(NamedTuple):
    status: int
    body: bytes


def ask(shown: Shown, path: str, *, method: str = "GET", body: str = "", **headers: str) -> Answer:
    """One request, with the path exactly as it is given."""
    connection = http.client.HTTPConnection(urlsplit(shown.address).netloc, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, named)
    response = connection.getresponse()
    answer = Answer(response.status, response.read())
    connection.close()
    return answer


def test_u1_page_is_on_loopback_only(shown: Shown) -> None:
    port = urlsplit(shown.address).port
    tree = [psutil.Process(shown.process.pid)]
    tree += tree[0].children(recursive=True)
    listening = {
        one.laddr.ip
        for process in tree
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert port


def test_u2_foreign_host_header_is_refused(shown: Shown) -> None:
    artifact = f"/get-artifact?path=params.yaml&run_uuid={shown.run_id}"
    assert ask(shown, artifact).body == b"seed: 1\n"
    for host in ("evil.example", "evil.example:5000", "127.0.0.1.evil.example"):
        for path in ("/", artifact, "/api/2.0/mlflow/experiments/get?experiment_id=1"):
            answer = ask(shown, path, Host=host)
            assert answer.status == 403
            assert b"seed" not in answer.body


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_u2_page_of_another_site_changes_nothing(shown: Shown, kind: str) -> None:
    body = json.dumps({"name": f"planted {kind}"})
    answer = ask(
        shown,
        "/api/2.0/mlflow/experiments/create",
        method="POST",
        body=body,
        Origin="http://evil.example",
        Content_Type=kind,
    )
    assert answer.status == 403
    found = ask(shown, f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(kind)}")
    assert found.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "../../../../secret.txt",
        "../../../../../secret.txt",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "%252e%252e/%252e%252e/%252e%252e/%252e%252e/secret.txt",
        "..%5c..%5c..%5c..%5csecret.txt",
        "/etc/hostname",
        "file:///etc/hostname",
        "../../../mlflow.db",
        "%00",
    ],
)
def test_u3_artifact_path_does_not_leave_the_run(shown: Shown, path: str) -> None:
    for address in ("/get-artifact", "/ajax-api/2.0/mlflow/get-artifact"):
        answer = ask(shown, f"{address}?path={path}&run_uuid={shown.run_id}")
        assert answer.status >= 400
        assert not shows_what_is_outside(answer)
    for address in (
        f"/api/2.0/mlflow/artifacts/list?run_id={shown.run_id}&path={path}",
        f"/static-files/{path}",
        f"/{path}",
    ):
        assert not shows_what_is_outside(ask(shown, address))


def shows_what_is_outside(answer: Answer) -> bool:
    outside = (b"the project's secret", b"SQLite format", b"mlflow.db")
    return any(text in answer.body for text in outside)


def test_u4_names_and_descriptions_are_text_on_every_page(shown: Shown) -> None:
    pages = {
        "runs": "/#/experiments/1/runs?workflowType=machine_learning",
        "run": f"/#/experiments/1/runs/{shown.run_id}",
        "params": f"/#/experiments/1/runs/{shown.run_id}/model-metrics",
        "models": "/#/models",
        "model": "/#/models/net",
        "version": "/#/models/net/versions/1",
    }
    with open_browser() as browser:
        for name, path in pages.items():
            page = browser.new_page()
            page.goto(shown.address + path)
            seen = "net" if name in ("models", "model", "version") else "<img src=x"
            page.get_by_text(seen).first.wait_for(timeout=60_000)
            page.wait_for_timeout(1000)
            assert page.evaluate("window.hostile") is None, name
            assert page.query_selector("a[href^='javascript:']") is None, name
            page.close()
