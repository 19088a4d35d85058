import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from kinetrack.tracking import model
from kinetrack.tracking.runs import DatasetInput, TrainingRun, training_run, untracked_run
from kinetrack.tracking.store import experiment_id, open_store

DATASET = DatasetInput("sample", "0" * 32 + ".dir", "data/tensors/sample")


def metrics(epoch: int) -> dict[str, float]:
    return {"train/loss": 1 / epoch, "val/accuracy": epoch / 10, "train/clips_per_s": 7.0}


def history(*epochs: int) -> list[tuple[int, dict[str, float]]]:
    return [(epoch, metrics(epoch)) for epoch in epochs]


def killed_training(epochs: Iterable[int] = (), **tags: str) -> str:
    """Leave a run as SIGKILL leaves it: MLflow goes on to call it RUNNING."""
    run = TrainingRun()
    run.start(experiment="e", name="x", tags=tags)
    run.log_inputs({"train": {"epochs": 4}}, DATASET)
    run.log_history(history(*epochs))
    assert run.is_tracked
    return run.run_id


def go_on(continues: str, *epochs: int, **tags: str) -> TrainingRun:
    with training_run(
        experiment="e",
        name="x",
        params={"train": {"epochs": 4}},
        tags=tags,
        dataset=DATASET,
        continues=continues,
    ) as run:
        run.log_history(history(*epochs))
    assert run.is_tracked
    return run


def found(run_id: str) -> Run:
    return open_store().get_run(run_id)


def steps(run_id: str, key: str = "train/loss") -> list[int]:
    return [metric.step for metric in open_store().get_metric_history(run_id, key)]


def all_runs() -> list[Run]:
    client = open_store()
    return list(client.search_runs([experiment_id(client, "e")]))


def test_killed_training_that_goes_on_is_one_run(project: Path) -> None:
    killed = killed_training([1, 2])
    assert found(killed).info.status == "RUNNING"
    run = go_on(killed, 1, 2, 3, 4)
    assert [one.info.run_id for one in all_runs()] == [killed] == [run.run_id]
    assert all_runs()[0].info.status == "FINISHED"
    assert {key: steps(killed, key) for key in metrics(1)} == {
        key: [1, 2, 3, 4] for key in metrics(1)
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_ended_run_is_running_again_and_then_finished(
    project: Path, error: type[BaseException]
) -> None:
    with (
        pytest.raises(error),
        training_run(experiment="e", name="x", params={}, tags={}) as first,
    ):
        raise error
    with training_run(
        experiment="e", name="x", params={}, tags={}, continues=first.run_id
    ) as second:
        assert found(first.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert found(first.run_id).info.status == "FINISHED"


def test_end_of_a_continued_run_is_its_last_end(project: Path) -> None:
    killed = killed_training()
    open_store().set_terminated(killed, "KILLED", end_time=1)
    go_on(killed)
    info = found(killed).info
    assert info.end_time > info.start_time


def test_new_tags_win_and_find_the_run(project: Path) -> None:
    killed = killed_training(**{"git.commit": "old", "train_key": "k"})
    go_on(killed, **{"git.commit": "new"})
    client = open_store()
    tags = "tags.`git.commit` = 'new' and tags.train_key = 'k' and tags.resumed = '1'"
    (run,) = client.search_runs([experiment_id(client, "e")], tags)
    assert run.info.run_id == killed


@pytest.mark.parametrize(("tag", "expected"), [(None, "1"), ("1", "2"), ("9", "10"), ("x", "1")])
def test_tag_counts_how_often_a_run_was_gone_on_with(
    project: Path, tag: str | None, expected: str
) -> None:
    killed = killed_training()
    if tag:
        open_store().set_tag(killed, "resumed", tag)
    go_on(killed)
    assert found(killed).data.tags["resumed"] == expected


def test_undisturbed_run_was_never_gone_on_with(project: Path) -> None:
    assert "resumed" not in found(go_on("").run_id).data.tags


def test_run_whose_id_was_never_saved_is_found_by_the_name_of_its_training(project: Path) -> None:
    killed = killed_training([1], training="a1b2")
    with training_run(
        experiment="e", name="x", params={}, tags={"training": "a1b2"}, continues=None
    ) as run:
        run.log_history(history(1, 2))
    assert run.run_id == killed
    assert steps(killed) == [1, 2]
    assert len(all_runs()) == 1


def test_run_keeps_its_params(project: Path) -> None:
    killed = killed_training()
    params = {"train": {"epochs": 8, "new": 1}}  # MLflow refuses to change a value
    with training_run(experiment="e", name="x", params=params, tags={}, continues=killed) as run:
        pass
    assert run.is_tracked
    assert found(killed).data.params == {"train.epochs": "4", "train.new": "1"}


def test_dataset_is_not_doubled(project: Path) -> None:
    killed = killed_training()
    go_on(killed)
    (logged,) = found(killed).inputs.dataset_inputs
    assert len(logged.tags) == 1


def test_run_killed_before_its_inputs_were_logged_gets_them(project: Path) -> None:
    run = TrainingRun()
    run.start(experiment="e", name="x", tags={})
    go_on(run.run_id)
    assert found(run.run_id).data.params == {"train.epochs": "4"}
    assert len(found(run.run_id).inputs.dataset_inputs) == 1


def in_other_experiment(client: MlflowClient) -> str:
    return client.create_run(experiment_id(client, "other")).info.run_id


def deleted(client: MlflowClient) -> str:
    run_id = client.create_run(experiment_id(client, "e")).info.run_id
    client.delete_run(run_id)
    return run_id


@pytest.mark.parametrize(
    "lose",
    [in_other_experiment, deleted, lambda _: "0" * 32, lambda _: "../no id", lambda _: "x" * 999],
)
def test_lost_run_is_replaced_by_a_whole_one(
    project: Path, lose: Callable[[MlflowClient], str]
) -> None:
    lost = lose(open_store())
    run = go_on(lost, 1, 2, 3)
    (new,) = all_runs()
    assert new.info.run_id == run.run_id != lost
    assert new.info.status == "FINISHED"
    assert "resumed" not in new.data.tags
    assert steps(run.run_id) == [1, 2, 3]


@pytest.mark.parametrize("logged", [[], [1, 3], [2]])
def test_history_fills_gaps_and_doubles_nothing(project: Path, logged: list[int]) -> None:
    killed = killed_training(logged)
    for _ in range(2):
        go_on(killed, 1, 2, 3)
    assert sorted(steps(killed)) == [1, 2, 3]
    assert found(killed).data.metrics == metrics(3)


def test_epoch_that_is_trained_again_is_not_doubled(project: Path) -> None:
    killed = killed_training([1, 2])  # and its last checkpoint was of epoch 1
    with training_run(experiment="e", name="x", params={}, tags={}, continues=killed) as run:
        run.log_history(history(1))
        for epoch in (2, 3):
            run.log_epoch(epoch, metrics(epoch))
    assert steps(killed) == [1, 2, 3]


def test_loss_that_is_not_a_number_counts_as_logged(project: Path) -> None:
    run = TrainingRun()
    run.start(experiment="e", name="x", tags={})
    run.log_epoch(1, {"train/loss": math.nan})
    go_on(run.run_id, 1)
    assert len(steps(run.run_id)) == 1


def test_server_that_does_not_answer_costs_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    killed = killed_training([1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with training_run(experiment="e", name="x", params={}, tags={}, continues=killed) as run:
        run.log_history(history(1, 2))
    assert capfd.readouterr().err.count("\n") == 1
    assert run.run_id == killed  # to be tried again the next time
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    go_on(run.run_id, 1, 2, 3)
    assert steps(killed) == [1, 2, 3]


def log_model(run: TrainingRun, project: Path) -> None:
    folder = project / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_text("0.5")
    run.log_model(folder, num_frames=4, size_px=8, num_classes=2)


def log_everything(run: TrainingRun, project: Path) -> None:
    table, params = project / "history.csv", project / "params.yaml"
    table.write_text("epoch,train_loss\n1,2.0\n")
    params.write_text("seed: 1\n")
    run.log_figures(table)
    run.log_params_file(params)
    log_model(run, project)


def files(run_id: str, folder: str = "") -> list[str]:
    return [one.path for one in open_store().list_artifacts(run_id, folder)]


def test_run_that_went_on_twice_has_each_artifact_once(
    project: Path, serving_package: Path
) -> None:
    run_id = killed_training()
    for _ in range(2):
        with training_run(experiment="e", name="x", params={}, tags={}, continues=run_id) as run:
            log_everything(run, project)
        assert run.is_tracked
    assert files(run_id) == ["params.yaml", "plots"]
    assert files(run_id, "plots") == ["plots/curves.png"]
    client, run = open_store(), found(run_id)
    (logged,) = client.search_logged_models([run.info.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    assert logged.status == "READY"
    assert len(list((project / "mlruns/artifacts/models").iterdir())) == 1


@pytest.mark.parametrize("step", ["_link_model", "_save"])
def test_model_that_was_begun_is_finished(
    project: Path, serving_package: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def be_killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = TrainingRun()
    run.start(experiment="e", name="x", tags={})
    with monkeypatch.context() as patch:
        patch.setattr(model, step, be_killed)
        with pytest.raises(KeyboardInterrupt):
            log_model(run, project)
    with training_run(experiment="e", name="x", params={}, tags={}, continues=run.run_id) as run:
        log_model(run, project)
    (logged,) = open_store().search_logged_models([found(run.run_id).info.experiment_id])
    (output,) = found(run.run_id).outputs.model_outputs
    assert (logged.model_id, logged.status) == (output.model_id, "READY")


def test_untracked_run_records_nothing(
    bare_project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with untracked_run() as run:
        run.log_history(history(1))
        run.log_epoch(2, metrics(2))
        run.set_tags({"a": "b"})
        log_everything(run, bare_project)
    assert run.run_id == ""
    assert not (bare_project / "mlruns").exists()
    assert capfd.readouterr() == ("", "")


def test_untracked_run_passes_errors_on() -> None:
    with pytest.raises(KeyboardInterrupt), untracked_run():
        raise KeyboardInterrupt


# A training that saves after every epoch, first its checkpoint and then the metrics.
TRAINING = """
import sys, time
from pathlib import Path
from kinetrack.tracking.runs import training_run

name, last = sys.argv[1], int(sys.argv[2])
saved = Path(name)
done, run_id = (saved.read_text().split() if saved.exists() else ("0", None))
with training_run(
    experiment="e", name=name, params={"a": 1}, tags={"name": name}, continues=run_id
) as run:
    epochs = [(epoch, {"train/loss": 1 / epoch, "b": 2.0}) for epoch in range(1, last + 1)]
    run.log_history(epochs[: int(done)])
    for epoch, metrics in epochs[int(done) :]:
        partial = Path(name + ".partial")
        partial.write_text(f"{epoch} {run.run_id}")
        partial.replace(saved)
        run.log_epoch(epoch, metrics)
        print(epoch, flush=True)
assert run.is_tracked
"""


def start_training(name: str, *, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAINING, name, str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_training_killed_again_and_again_is_one_finished_run(project: Path) -> None:
    for epochs_before_kill in (1, 7, 2):
        with start_training("x", last=1000) as training:
            for _ in range(epochs_before_kill):
                assert training.stdout.readline()
            training.kill()
    done = int(Path("x").read_text().split()[0])
    with start_training("x", last=done + 3) as training:
        training.communicate()
    assert training.returncode == 0
    (run,) = all_runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed"] == "3"
    for key in ("train/loss", "b"):
        assert steps(run.info.run_id, key) == list(range(1, done + 4))


@pytest.mark.slow
def test_c3_two_trainings_at_once_into_one_database(project: Path) -> None:
    earlier = killed_training([1])
    Path("x").write_text(f"1 {earlier}")
    trainings = [start_training(name, last=60) for name in ("x", "y")]
    assert [(training.communicate(), training.returncode)[1] for training in trainings] == [0, 0]
    runs = {run.data.tags["name"]: run for run in all_runs()}
    assert runs["x"].info.run_id == earlier
    assert {name: steps(run.info.run_id) for name, run in runs.items()} == {
        name: list(range(1, 61)) for name in ("x", "y")
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
