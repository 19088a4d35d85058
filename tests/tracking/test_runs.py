import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run

from kinetrack.tracking.database import database_path
from kinetrack.tracking.journal import ModelFacts, journal_path, read
from kinetrack.tracking.outage import without_passwords
from kinetrack.tracking.runs import TrainingRun, flatten, training_run
from kinetrack.tracking.store import open_store, tracking_uri
from kinetrack.using.answering import Answer

VIDEOS = pd.DataFrame({"video": ["four", "sixsix"]})
ANSWERS = [[2.0], [3.0]]  # of the stub, whose weight is 0.5


def train(*, name: str = "first", params: Mapping[str, object] | None = None) -> TrainingRun:
    with training_run(experiment="sample", name=name, params=params or {}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 2.0})
    return run


def logged(run: TrainingRun) -> Run:
    assert run.is_sent
    return open_store().get_run(run.run_id)


def artifacts(run: TrainingRun, folder: str = "") -> list[str]:
    return [one.path for one in open_store().list_artifacts(run.run_id, folder)]


def test_flatten_joins_keys_with_dots() -> None:
    params = {"dataset": "sample", "train": {"lr": 1e-4, "clip": {"num_frames": 32}}, "empty": {}}
    assert flatten(params) == {
        "dataset": "sample",
        "train.lr": "0.0001",
        "train.clip.num_frames": "32",
    }


def test_run_has_name_params_tags_and_status(project: Path) -> None:
    with training_run(
        experiment="sample", name="bold-owl", params={"train": {"epochs": 2}}, tags={"a": "b"}
    ) as run:
        run.set_tags({"model_sha256": "abc"})
    found = logged(run)
    assert found.info.run_name == "bold-owl"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"train.epochs": "2"}
    assert found.data.tags["a"] == "b"
    assert found.data.tags["model_sha256"] == "abc"
    assert found.data.tags["mlflow.user"]


def test_more_params_than_a_request_may_have(project: Path) -> None:
    params = {f"p{index}": index for index in range(250)}
    assert len(logged(train(params=params)).data.params) == 250


def test_epochs_are_steps(project: Path) -> None:
    with training_run(experiment="sample", name="x", params={}, tags={}) as run:
        for epoch in (1, 2):
            run.log_epoch(epoch, {"train/loss": 1 / epoch, "train/clips_per_s": 7.0})
    history = open_store().get_metric_history(run.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")],
)
def test_status_tells_how_a_training_ended(
    project: Path, error: type[BaseException], status: str
) -> None:
    with (
        pytest.raises(error),
        training_run(experiment="e", name="x", params={}, tags={}) as run,
    ):
        raise error
    assert logged(run).info.status == status


def test_figures_and_params_file(project: Path) -> None:
    files = {"params.yaml": "seed: 1\n", "changes.diff": "a \udcff"}
    with training_run(experiment="e", name="x", params={}, tags={}, files=files) as run:
        run.log_epoch(1, {"train/loss": 2.0})
    assert artifacts(run) == ["changes.diff", "params.yaml", "plots"]
    assert artifacts(run, "plots") == ["plots/curves.png"]
    downloaded = Path(open_store().download_artifacts(run.run_id, "changes.diff"))
    assert downloaded.read_bytes() == b"a \xff"


def test_use_of_the_machine_is_logged_with_every_epoch(project: Path) -> None:
    found = logged(train()).data.metrics
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert found["system/system_memory_usage_megabytes"] > 10


def test_nothing_is_printed(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train()
    assert capfd.readouterr() == ("", "")


def test_temporary_checkout_logs_to_the_main_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "dvc.yaml").touch()
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(checkout)
    run = train()
    assert logged(run).info.status == "FINISHED"
    assert not (checkout / "mlruns").exists()


def test_store_that_cannot_be_used_costs_one_line(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database_path(project).write_text("no database")
    run = train()
    assert not run.is_sent
    (line,) = capfd.readouterr().err.splitlines()
    assert "MLflow cannot be used" in line
    assert "not an MLflow database" in line
    assert "`kinetrack track` sends it later" in line
    (training,) = read(journal_path("by-hand"))
    assert (training.status, list(training.epochs)) == ("FINISHED", [1])


def test_server_that_does_not_answer_costs_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    run = train()
    assert not run.is_sent
    assert run.run_id == ""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "MLflow at http://***@127.0.0.1:9 does not take it: " in err
    assert "Connection refused" in err
    assert "secret" not in err


def test_deleted_experiment_costs_one_line(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train()
    client = open_store()
    client.delete_experiment(client.get_experiment_by_name("sample").experiment_id)
    run = train()
    assert not run.is_sent
    assert capfd.readouterr().err.count("this MLflow experiment is deleted") == 1


@pytest.fixture
def model_run(project: Path, serving_package: Path) -> TrainingRun:
    return log_model(project / "data" / "my model")


def log_model(folder: Path) -> TrainingRun:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text("0.5")
    (folder / "model.json").write_text("{}")
    with training_run(experiment="e", name="x", params={"a": 1}, tags={}) as run:
        run.log_model(folder, ModelFacts("0" * 32 + ".dir", (3, 4, 8, 8), 2))
    return run


def test_model_is_loaded_back_by_its_run(
    model_run: TrainingRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    assert logged(model_run).info.status == "FINISHED"
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    loaded = mlflow.pyfunc.load_model(f"runs:/{model_run.run_id}/model")
    assert list(loaded.predict(VIDEOS)["probabilities"]) == ANSWERS
    assert loaded.metadata.signature.inputs.input_names() == ["video", "path"]
    assert loaded.metadata.signature.outputs.input_names() == list(Answer.__annotations__)
    params = {one.name: one.default for one in loaded.metadata.signature.params}
    assert params == {"top": None, "views": None}  # the model's own numbers


def test_model_refuses_what_is_no_table_of_videos(
    model_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    loaded = mlflow.pyfunc.load_model(f"runs:/{model_run.run_id}/model")
    for table in ([[1, 2]], pd.DataFrame({"video": [1]}), pd.DataFrame({"clip": ["a"]})):
        with pytest.raises(mlflow.MlflowException, match=r"Incompatible input|has no column video"):
            loaded.predict(table)


def test_logging_a_model_leaves_no_global_state(model_run: TrainingRun) -> None:
    import os

    import mlflow

    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert mlflow.active_run() is None


def test_moved_project_keeps_artifacts_and_model(
    model_run: TrainingRun, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    moved = project.rename(project.parent / "moved")
    monkeypatch.chdir(moved)
    shutil.rmtree(moved / "data")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    loaded = mlflow.pyfunc.load_model(f"runs:/{model_run.run_id}/model")
    assert list(loaded.predict(VIDEOS)["probabilities"]) == ANSWERS


def test_model_brings_its_own_code(
    model_run: TrainingRun, project: Path, serving_package: Path, tmp_path: Path
) -> None:
    (saved,) = (project / "mlruns").glob("artifacts/models/*/artifacts")
    shutil.move(saved, tmp_path / "alone")
    shutil.rmtree(serving_package)
    code = """
import sys, mlflow, pandas
for name in [name for name in sys.modules if name.split(".")[0] == "kinetrack"]:
    del sys.modules[name]  # as where the package is not installed
answer = mlflow.pyfunc.load_model("alone").predict(pandas.DataFrame({"video": ["four"]}))
assert sys.modules["kinetrack"].__file__.startswith(sys.argv[1]), sys.modules["kinetrack"]
assert list(answer["probabilities"]) == [[2.0]], answer
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    "address",
    [
        "http://me:s3cr@t@host:5000/x",
        "http://me:s3/cr@host",
        "postgresql://host/db?user=me&password=s3cr",
        "https://host?token=s3cr&a=b",
    ],
)
def test_password_is_not_shown(address: str) -> None:
    shown = without_passwords(f"cannot reach {address} now")
    assert "s3" not in shown
    assert "t@" not in shown
    assert shown.startswith("cannot reach ")
    assert shown.endswith(" now")
