"""The stage `train` while a real MLflow server dies, comes back, hangs or stays away."""

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.settings import apply_default_settings

from mlflow_servers import Server
from project import Project, environment
from trainings import Trainer, make_training, outcome

pytestmark = pytest.mark.slow

EPOCHS = [1, 2, 3, 4, 5]
# Time for a server to go and to come back.
SLOWER = """
from kinetrack.stages import train
import time
describe = train.describe_epoch
train.describe_epoch = lambda epoch: (time.sleep(0.5), describe(epoch))[1]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("outage") / "a project"
    project = make_training(folder, train={"epochs": len(EPOCHS)})
    project.run("dvc", "config", "core.analytics", "false")
    return project


@pytest.fixture(scope="module")
def trainer(project: Project) -> Iterator[Trainer]:
    with Trainer(project) as trainer:
        yield trainer


@pytest.fixture(scope="module")
def clean(trainer: Trainer, project: Project) -> dict[str, str]:
    """Model and reports of a training whose store answers."""
    trainer.finish()
    return outcome(project)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    apply_default_settings()
    database = tmp_path / "empty.db"
    prepare_database(database)
    server = Server(tmp_path, database)
    yield server
    server.end()


def track(project: Project, server: Server) -> str:
    command = [sys.executable, "-m", "kinetrack.cli.main", "track"]
    return subprocess.run(
        command,
        cwd=project.folder,
        env={**environment(), "MLFLOW_TRACKING_URI": server.address},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def assert_whole(
    server: Server, *, status: str = "FINISHED", may_lack: Collection[int] = ()
) -> None:
    """All epochs are there, and the host's figures of all but those that `may_lack` them."""
    client = MlflowClient(server.address)
    place = client.get_experiment_by_name("mine").experiment_id
    [run] = client.search_runs([place])
    steps = {
        key: [one.step for one in client.get_metric_history(run.info.run_id, key)]
        for key in ("train/loss", "val/accuracy", "system/cpu_utilization_percentage")
    }
    assert steps["train/loss"] == steps["val/accuracy"] == EPOCHS
    measured = steps["system/cpu_utilization_percentage"]
    assert sorted({*measured, *may_lack}) == EPOCHS
    assert measured == sorted(set(measured))
    assert run.info.status == status
    [logged] = client.search_logged_models([place])
    assert logged.status == "READY"


def test_server_dies_in_epoch_3_and_comes_back(
    server: Server, trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    trainer.start(before=SLOWER, MLFLOW_TRACKING_URI=server.address)
    trainer.wait_for("epoch 2:")
    server.kill()
    trainer.wait_for("epoch 5:")
    server.start()
    ended = trainer.wait()
    assert ended.exit_code == 0
    assert ended.epochs == EPOCHS
    assert outcome(project) == clean
    track(project, server)
    assert_whole(server)
    track(project, server)
    assert_whole(server)


def test_server_is_away_from_start_to_end(
    server: Server, trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    server.kill()
    ended = trainer.finish(MLFLOW_TRACKING_URI=server.address)
    assert ended.stderr.count("`kinetrack track` sends it later") == 1
    assert outcome(project) == clean
    server.start()
    assert "sent from this machine's journals" in track(project, server)
    assert_whole(server)


def test_server_hangs(
    server: Server, trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    trainer.start(before=SLOWER, MLFLOW_TRACKING_URI=server.address)
    trainer.wait_for("epoch 2:")
    server.signal(signal.SIGSTOP)
    ended = trainer.wait()
    server.signal(signal.SIGCONT)
    assert ended.exit_code == 0
    assert outcome(project) == clean
    track(project, server)
    assert_whole(server)


def test_training_killed_while_the_server_is_away_goes_on_as_one_run(
    server: Server, trainer: Trainer, project: Project, clean: dict[str, str]
) -> None:
    pid = trainer.start(before=SLOWER, MLFLOW_TRACKING_URI=server.address)
    trainer.wait_for("epoch 2:")
    server.kill()
    trainer.wait_for("epoch 3:")
    os.killpg(pid, signal.SIGKILL)
    trainer.wait()
    server.start()
    ended = trainer.finish(MLFLOW_TRACKING_URI=server.address)
    assert ended.epochs != EPOCHS
    assert outcome(project) == clean
    # What the host did in an epoch is no result: a kill right after the epoch may cost it.
    assert_whole(server, may_lack={3, 4})
