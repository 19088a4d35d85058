"""MLflow that is away, slow, full or refuses: a real server behind a proxy that plays the trouble.

What a training loses is counted in requests: each waits for 2 s at most, and time is not asserted.
"""

import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from threading import Thread

import pytest

from kinetrack.tracking.database import database_path
from kinetrack.tracking.journal import Journal, ModelFacts, journal_path, read
from kinetrack.tracking.replay import Replayed, replay_journals
from kinetrack.tracking.runs import TrainingRun, training_run
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import open_store

from mlflow_servers import Proxy, Server

pytestmark = pytest.mark.slow

MODEL = ModelFacts("1" * 32 + ".dir", (3, 4, 8, 8), 2)
EPOCHS = [1, 2, 3, 4, 5]


@pytest.fixture
def server(bare_project: Path, tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    server = Server(tmp_path, empty_database)
    yield server
    server.end()


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture
def model(tmp_path: Path, serving_package: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_text("0.5")
    return folder


class Training:
    """Five epochs with something to happen between them."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.between: dict[int, object] = {}
        self.lost_s: list[float] = []

    def run(self) -> TrainingRun:
        begin = time.monotonic()
        self.happen(0)
        with training_run(experiment="e", name="x", params={"a": 1}, tags={"b": "c"}) as run:
            self.lost_s.append(time.monotonic() - begin)
            for epoch in EPOCHS:
                begin = time.monotonic()
                run.log_epoch(epoch, {"train/loss": 1 / epoch, "val/accuracy": epoch / 10})
                self.lost_s.append(time.monotonic() - begin)
                self.happen(epoch)
            run.set_tags({"model_sha256": "abc"})
            run.log_model(self.model, MODEL)
            begin = time.monotonic()
        self.lost_s.append(time.monotonic() - begin)
        sys.stdout.write(f"lost seconds: {[round(seconds, 2) for seconds in self.lost_s]}\n")
        return run

    def happen(self, epoch: int) -> None:
        if epoch in self.between:
            self.between[epoch]()


@pytest.fixture
def training(model: Path) -> Training:
    return Training(model)


def replay(model: Path) -> Replayed:
    with quiet():
        return replay_journals(open_store(), lambda _: nullcontext(model))


def assert_whole(training: Training) -> None:
    """One run with every epoch once, at the time when it was trained."""
    client = open_store()
    place = client.get_experiment_by_name("e").experiment_id
    (run,) = client.search_runs([place])
    (recorded,) = read(journal_path("by-hand"))
    for key in ("train/loss", "val/accuracy", "system/cpu_utilization_percentage"):
        history = client.get_metric_history(run.info.run_id, key)
        assert [(one.step, one.timestamp) for one in history] == [
            (number, epoch.time_ms) for number, epoch in recorded.epochs.items()
        ]
    assert list(recorded.epochs) == EPOCHS
    assert (run.info.status, run.data.params) == ("FINISHED", {"a": "1"})
    assert (run.info.start_time, run.info.end_time) == (recorded.begun_ms, recorded.ended_ms)
    assert run.data.tags["model_sha256"] == "abc"
    (logged,) = client.search_logged_models([place])
    assert logged.status == "READY"
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["plots"]


def test_undisturbed(proxy: Proxy, training: Training) -> None:
    assert training.run().is_sent
    assert_whole(training)
    assert replay(training.model) == Replayed(0, 0)


def test_t1_server_down_from_start_to_end(
    server: Server, proxy: Proxy, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    server.kill()
    assert not training.run().is_sent
    (line,) = capfd.readouterr().err.splitlines()
    assert "`kinetrack track` sends it later" in line
    server.start()
    assert replay(training.model) == Replayed(1, 0)
    assert_whole(training)
    assert replay(training.model) == Replayed(0, 0)
    assert_whole(training)


def test_t4_server_killed_in_epoch_3_and_gone_for_good(
    server: Server, proxy: Proxy, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    training.between = {2: server.kill}
    assert not training.run().is_sent
    assert capfd.readouterr().err.count("\n") == 1
    server.start()
    replay(training.model)
    assert_whole(training)


def test_t2_server_killed_in_epoch_3_that_comes_back(
    server: Server, proxy: Proxy, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    training.between = {2: server.kill, 4: server.start}
    assert training.run().is_sent
    assert "answers again: nothing is lost" in capfd.readouterr().err
    assert_whole(training)
    assert replay(training.model) == Replayed(0, 0)


@pytest.mark.parametrize("epoch", [0, 2])
def test_t3_server_slow_by_30_s(
    server: Server, proxy: Proxy, training: Training, epoch: int
) -> None:
    training.between = {epoch: lambda: setattr(proxy, "trouble", "slow")}
    assert not training.run().is_sent
    # One request each at the first slow moment and at the end; none in the epochs between.
    assert proxy.num_troubled == 2
    proxy.trouble = ""
    replay(training.model)
    assert_whole(training)


def test_t3_server_that_hangs(server: Server, proxy: Proxy, training: Training) -> None:
    training.between = {2: lambda: server.signal(signal.SIGSTOP)}
    assert not training.run().is_sent
    server.signal(signal.SIGCONT)
    replay(training.model)
    assert_whole(training)


@pytest.mark.parametrize("is_to_the_end", [True, False])
def test_t5_database_locked(
    project: Path,
    training: Training,
    is_to_the_end: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with closing(
        sqlite3.connect(database_path(project), check_same_thread=False, isolation_level=None)
    ) as other:
        training.between = {2: lambda: other.execute("BEGIN EXCLUSIVE")}
        if not is_to_the_end:
            training.between[4] = lambda: other.execute("ROLLBACK")
        assert training.run().is_sent != is_to_the_end
        if is_to_the_end:
            other.execute("ROLLBACK")
    assert "is being written by another process" in capfd.readouterr().err
    assert replay(training.model).sent == is_to_the_end
    assert_whole(training)


def test_t6_artifact_store_full(
    proxy: Proxy, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    training.between = {0: lambda: setattr(proxy, "trouble", "full")}
    run = training.run()
    assert not run.is_sent
    assert "507" in capfd.readouterr().err
    client = open_store()
    (found,) = client.search_runs(["1"])
    assert found.info.status == "FINISHED"
    assert found.data.metrics["val/accuracy"] == 0.5
    proxy.trouble = ""
    replay(training.model)
    assert_whole(training)


def test_t7_wrong_credentials(
    proxy: Proxy,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    proxy.trouble = "unauthorised"
    assert not training.run().is_sent
    (line,) = capfd.readouterr().err.splitlines()
    assert "401" in line
    assert "secret" not in line
    proxy.trouble = ""
    replay(training.model)
    assert_whole(training)


def test_training_without_an_end_is_replayed_as_killed(proxy: Proxy, training: Training) -> None:
    proxy.trouble = "unauthorised"
    run = TrainingRun(Journal(journal_path("by-hand"), "t"))
    run.begin(experiment="e", name="x", params={}, tags={}, datasets=[], files={})
    run.log_epoch(1, {"train/loss": 1.0})
    proxy.trouble = ""
    replay(training.model)
    (found,) = open_store().search_runs(["1"])
    assert found.info.status == "KILLED"
