"""A training's run, made and brought up to date whatever was sent before."""

import math
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow.entities import Run, ViewType

from kinetrack import files as files_module
from kinetrack.files import write_alone
from kinetrack.tracking import model
from kinetrack.tracking.journal import DatasetInput, Journal, ModelFacts, journal_path
from kinetrack.tracking.replay import Replayed, replay_journals
from kinetrack.tracking.runs import TrainingRun, flatten, training_run, untracked_run
from kinetrack.tracking.store import experiment_id, open_store

DIGEST = "0" * 32 + ".dir"
DATASETS = [
    DatasetInput(f"sample-{side}", DIGEST, f"data/tensors/sample/{side}", side)
    for side in ("train", "val")
]
MODEL = ModelFacts("1" * 32 + ".dir", (3, 4, 8, 8), 2)


def metrics(epoch: int) -> dict[str, float]:
    return {"train/loss": 1 / epoch, "val/accuracy": epoch / 10, "train/clips_per_s": 7.0}


def history(*epochs: int) -> list[tuple[int, dict[str, float]]]:
    return [(epoch, metrics(epoch)) for epoch in epochs]


def killed_training(epochs: Iterable[int] = (), **tags: str) -> str:
    """Leave training `t` as SIGKILL leaves it: MLflow goes on to call its run RUNNING."""
    run = TrainingRun(Journal(journal_path("by-hand"), "t"))
    run.begin(
        experiment="e",
        name="x",
        params=flatten({"train": {"epochs": 4}}),
        tags=tags,
        datasets=[list(dataset) for dataset in DATASETS],
        files={"params.yaml": "seed: 1\n"},
    )
    run.log_history(history(*epochs))
    assert run.is_sent
    return run.run_id


def go_on(*epochs: int, training: str = "t", **tags: str) -> TrainingRun:
    with training_run(
        experiment="e",
        name="x",
        params={"train": {"epochs": 4}},
        tags=tags,
        datasets=DATASETS,
        files={"params.yaml": "seed: 1\n"},
        training=training,
    ) as run:
        run.log_history(history(*epochs))
    assert run.is_sent
    return run


def found(run_id: str) -> Run:
    return open_store().get_run(run_id)


def steps(run_id: str, key: str = "train/loss") -> list[int]:
    return [metric.step for metric in open_store().get_metric_history(run_id, key)]


def all_runs() -> list[Run]:
    client = open_store()
    return list(client.search_runs([experiment_id(client, "e")]))


def forget_journal() -> None:
    journal_path("by-hand").unlink()


def test_killed_training_that_goes_on_is_one_run(project: Path) -> None:
    killed = killed_training([1, 2])
    assert found(killed).info.status == "RUNNING"
    run = go_on(1, 2, 3, 4)
    assert [one.info.run_id for one in all_runs()] == [killed] == [run.run_id]
    assert all_runs()[0].info.status == "FINISHED"
    assert {key: steps(killed, key) for key in metrics(1)} == {
        key: [1, 2, 3, 4] for key in metrics(1)
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_ended_run_is_running_again_and_then_finished(
    project: Path, error: type[BaseException]
) -> None:
    arguments = {"experiment": "e", "name": "x", "params": {}, "tags": {}, "training": "t"}
    with pytest.raises(error), training_run(**arguments) as first:
        raise error
    with training_run(**arguments) as second:
        assert found(second.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert found(first.run_id).info.status == "FINISHED"


def test_end_of_a_continued_run_is_its_last_end(project: Path) -> None:
    killed = killed_training()
    open_store().set_terminated(killed, "KILLED", end_time=1)
    go_on()
    info = found(killed).info
    assert info.end_time > info.start_time


def test_new_tags_win_and_find_the_run(project: Path) -> None:
    killed = killed_training(**{"git.commit": "old", "train_key": "k"})
    go_on(**{"git.commit": "new"})
    client = open_store()
    tags = "tags.`git.commit` = 'new' and tags.train_key = 'k' and tags.resumed = '1'"
    (run,) = client.search_runs([experiment_id(client, "e")], tags)
    assert run.info.run_id == killed


def test_training_that_goes_on_at_another_commit_is_of_that_one(project: Path) -> None:
    arguments = {"experiment": "e", "name": "x", "params": {}, "training": "t"}
    old = {"git.commit": "old", "git.diff_sha256": "d", "dvc.exp_name": "n", "device": "cpu"}
    files = {"params.yaml": "seed: 1\n", "changes.diff": "patch"}
    with training_run(**arguments, tags=old, files=files) as run:
        run.log_epoch(1, metrics(1))
    files = {"params.yaml": "seed: 2\n"}
    with training_run(**arguments, tags={"git.commit": "new"}, files=files) as run:
        run.log_epoch(2, metrics(2))
    tags = found(run.run_id).data.tags
    assert (tags["git.commit"], tags["device"]) == ("new", "cpu")
    assert {"git.diff_sha256", "dvc.exp_name"}.isdisjoint(tags)
    folder = Path(open_store().download_artifacts(run.run_id, ""))
    assert (folder / "params.yaml").read_text() == "seed: 2\n"
    assert (folder / "changes.diff").read_text() == ""


def test_renamed_experiment_keeps_the_run_of_a_training_that_goes_on(project: Path) -> None:
    killed = killed_training([1])
    client = open_store()
    client.rename_experiment(experiment_id(client, "e"), "renamed")
    assert go_on(1, 2).run_id == killed
    assert steps(killed) == [1, 2]


def test_training_that_was_begun_by_hand_goes_on_in_its_journal(project: Path) -> None:
    killed_training([1])
    arguments = {"experiment": "e", "name": "x", "params": {}, "tags": {}, "training": "t"}
    with training_run(**arguments, key="k") as run:
        run.log_epoch(2, metrics(2))
    assert not journal_path("k").exists()
    assert replay_journals(open_store(), lambda _: nullcontext(None)) == Replayed(0, 0)
    assert found(run.run_id).info.status == "FINISHED"


def test_training_goes_on_while_another_process_tells_mlflow_of_it(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "_PATIENCE_S", 0.1)
    with write_alone(journal_path("by-hand").with_name("t")):
        with training_run(experiment="e", name="x", params={}, tags={}, training="t") as run:
            run.log_epoch(1, metrics(1))
        assert not run.is_sent
    assert capfd.readouterr().err.count("`kinetrack track` tells the rest later") == 1
    assert replay_journals(open_store(), lambda _: nullcontext(None)) == Replayed(1, 0)
    (sent,) = all_runs()
    assert (sent.info.status, steps(sent.info.run_id)) == ("FINISHED", [1])


def test_curves_of_a_training_that_went_on_are_of_all_epochs(project: Path) -> None:
    killed = killed_training([1, 2])
    TrainingRun(Journal(journal_path("by-hand"), "t")).end("KILLED")
    (run,) = all_runs()
    assert run.info.run_id == killed
    before = Path(open_store().download_artifacts(run.info.run_id, "plots/curves.png")).read_bytes()
    go_on(1, 2, 3)
    after = Path(open_store().download_artifacts(run.info.run_id, "plots/curves.png")).read_bytes()
    assert after != before


def test_tag_counts_how_often_a_run_was_gone_on_with(project: Path) -> None:
    killed_training()
    for expected in ("1", "2"):
        assert found(go_on().run_id).data.tags["resumed"] == expected


def test_undisturbed_run_was_never_gone_on_with(project: Path) -> None:
    assert "resumed" not in found(go_on().run_id).data.tags


def test_run_keeps_its_params(project: Path) -> None:
    killed = killed_training()
    params = {"train": {"epochs": 8}}  # MLflow refuses to change a value
    with training_run(experiment="e", name="x", params=params, tags={}, training="t") as run:
        pass
    assert run.is_sent
    assert found(killed).data.params == {"train.epochs": "4"}


def test_metrics_are_bound_to_the_model_and_to_the_clips_of_their_side(project: Path) -> None:
    run = found(go_on(1, 2).run_id)
    sides = {one.dataset.name: one.tags[0].value for one in run.inputs.dataset_inputs}
    assert sides == {"sample-train": "train", "sample-val": "val"}
    (output,) = run.outputs.model_outputs
    bound = open_store().get_logged_model(output.model_id).metrics
    assert {
        (one.key, one.step, one.dataset_name)
        for one in bound
        if one.key in ("train/loss", "val/accuracy")
    } == {
        (key, step, f"sample-{key.partition('/')[0]}")
        for key in ("train/loss", "val/accuracy")
        for step in (1, 2)
    }


def test_second_sending_doubles_nothing(project: Path) -> None:
    killed = killed_training([1])
    forget_journal()
    killed_training([1])  # as one whose journal came from elsewhere
    run = found(killed)
    assert len(all_runs()) == 1
    assert [len(one.tags) for one in run.inputs.dataset_inputs] == [1, 1]
    assert len(run.outputs.model_outputs) == 1


def test_run_without_inputs_gets_them(project: Path) -> None:
    client = open_store()
    run = client.create_run(experiment_id(client, "e"), tags={"training": "t"})
    assert go_on().run_id == run.info.run_id
    assert found(run.info.run_id).data.params == {"train.epochs": "4"}
    assert len(found(run.info.run_id).inputs.dataset_inputs) == 2


def test_training_that_goes_on_brings_its_deleted_run_back(project: Path) -> None:
    killed = killed_training([1])
    open_store().delete_run(killed)
    assert go_on(1, 2).run_id == killed
    assert steps(killed) == [1, 2]
    assert found(killed).info.lifecycle_stage == "active"


def test_lost_run_is_replaced_by_a_whole_one(project: Path) -> None:
    killed = killed_training([1, 2])
    client = open_store()
    client.set_tag(killed, "training", "another")
    run = go_on(1, 2, 3)
    assert run.run_id != killed
    assert found(run.run_id).info.status == "FINISHED"
    assert steps(run.run_id) == [1, 2, 3]


@pytest.mark.parametrize("logged", [[], [1, 3], [2]])
def test_history_fills_gaps_and_doubles_nothing(project: Path, logged: list[int]) -> None:
    killed = killed_training(logged)
    for _ in range(2):
        go_on(1, 2, 3)
    assert sorted(steps(killed)) == [1, 2, 3]
    assert {key: found(killed).data.metrics[key] for key in metrics(3)} == metrics(3)


def test_epoch_that_is_trained_again_is_not_doubled(project: Path) -> None:
    killed = killed_training([1, 2])  # and its last checkpoint was of epoch 1
    with training_run(experiment="e", name="x", params={}, tags={}, training="t") as run:
        run.log_history(history(1))
        for epoch in (2, 3):
            run.log_epoch(epoch, metrics(epoch))
    assert steps(killed) == [1, 2, 3]


def test_loss_that_is_not_a_number_counts_as_logged(project: Path) -> None:
    with training_run(experiment="e", name="x", params={}, tags={}, training="t") as run:
        run.log_epoch(1, {"train/loss": math.nan})
    go_on(1)
    assert len(steps(run.run_id)) == 1


def test_more_epochs_than_a_call_may_have(project: Path) -> None:
    run = go_on(*range(1, 602))
    assert steps(run.run_id) == list(range(1, 602))


def log_model(run: TrainingRun, project: Path) -> None:
    folder = project / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_text("0.5")
    run.log_model(folder, MODEL)


def files(run_id: str, folder: str = "") -> list[str]:
    return [one.path for one in open_store().list_artifacts(run_id, folder)]


def test_run_that_went_on_twice_has_each_artifact_once(
    project: Path, serving_package: Path
) -> None:
    run_id = killed_training()
    for _ in range(2):
        with training_run(experiment="e", name="x", params={}, tags={}, training="t") as run:
            run.log_epoch(1, metrics(1))
            log_model(run, project)
        assert run.is_sent
    assert files(run_id) == ["params.yaml", "plots"]
    assert files(run_id, "plots") == ["plots/curves.png"]
    client, logged_run = open_store(), found(run_id)
    (logged,) = client.search_logged_models([logged_run.info.experiment_id])
    assert [output.model_id for output in logged_run.outputs.model_outputs] == [logged.model_id]
    assert logged.status == "READY"
    assert len(list((project / "mlruns/artifacts/models").iterdir())) == 1


@pytest.mark.parametrize("step", ["_signature", "_save"])
def test_model_that_was_begun_is_finished(
    project: Path, serving_package: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def be_killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = {"experiment": "e", "name": "x", "params": {}, "tags": {}, "training": "t"}

    def train() -> None:
        with training_run(**arguments) as run:
            log_model(run, project)

    usual = getattr(model, step)
    monkeypatch.setattr(model, step, be_killed)
    with pytest.raises(KeyboardInterrupt):
        train()
    monkeypatch.setattr(model, step, usual)
    train()
    (run,) = all_runs()
    (logged,) = open_store().search_logged_models([run.info.experiment_id])
    (output,) = run.outputs.model_outputs
    assert (logged.model_id, logged.status) == (output.model_id, "READY")
    assert run.info.status == "FINISHED"


def test_deleted_run_of_an_ended_training_stays_deleted(project: Path) -> None:
    run_id = go_on(1).run_id
    client = open_store()
    client.delete_run(run_id)
    text = journal_path("by-hand").read_text()
    journal_path("by-hand").write_text(text.replace('"kind": "sent"', '"kind": "other"'))
    replay_journals(client, lambda _: nullcontext(None))
    found_runs = client.search_runs(["1"], run_view_type=ViewType.ALL)
    assert [(one.info.run_id, one.info.lifecycle_stage) for one in found_runs] == [
        (run_id, "deleted")
    ]


def test_training_that_was_meant_for_another_store_is_sent_on_request_only(
    project: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on(1)
    other = shutil.copy(empty_database, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    client = open_store()
    assert replay_journals(client, lambda _: nullcontext(None)) == Replayed(0, 0)
    assert client.get_experiment_by_name("e") is None
    every = replay_journals(client, lambda _: nullcontext(None), of_other_stores=True)
    assert every == Replayed(1, 0)
    (run,) = all_runs()
    assert steps(run.info.run_id) == [1]


def test_training_that_mlflow_does_not_take_hinders_no_other(project: Path) -> None:
    client = open_store()
    for name, training in (("", "a"), ("e", "b")):
        journal = Journal(journal_path(training), training)
        facts = {"name": training, "params": {}, "tags": {}, "datasets": [], "files": {}}
        journal.begin(place="mlruns", experiment=name, **facts)
        journal.end("FINISHED")
    replayed = replay_journals(client, lambda _: nullcontext(None))
    assert replayed.sent == 1
    (line,) = replayed.failed
    assert line.startswith("a (a.jsonl): ")
    assert [run.info.run_name for run in all_runs()] == ["b"]


def test_training_of_a_deleted_experiment_is_sent_when_that_is_back(project: Path) -> None:
    client = open_store()
    client.delete_experiment(place := experiment_id(client, "e"))
    with training_run(experiment="e", name="x", params={}, tags={}):
        pass
    replayed = replay_journals(client, lambda _: nullcontext(None))
    assert "this MLflow experiment is deleted" in replayed.failed[0]
    client.restore_experiment(place)
    assert replay_journals(client, lambda _: nullcontext(None)).sent == 1
    (run,) = all_runs()
    assert run.info.status == "FINISHED"


def test_untracked_run_records_nothing(
    bare_project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with untracked_run() as run:
        run.log_history(history(1))
        run.log_epoch(2, metrics(2))
        run.set_tags({"a": "b"})
        log_model(run, bare_project)
    assert run.run_id == ""
    assert not (bare_project / "mlruns").exists()
    assert not (bare_project / ".kinetrack").exists()
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
done = int(saved.read_text()) if saved.exists() else 0
with training_run(
    experiment="e", name=name, params={"a": 1}, tags={"name": name}, training=name
) as run:
    epochs = [(epoch, {"train/loss": 1 / epoch, "b": 2.0}) for epoch in range(1, last + 1)]
    run.log_history(epochs[:done])
    for epoch, metrics in epochs[done:]:
        partial = Path(name + ".partial")
        partial.write_text(str(epoch))
        partial.replace(saved)
        run.log_epoch(epoch, metrics)
        print(epoch, flush=True)
assert run.is_sent
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
    done = int(Path("x").read_text())
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
    trainings = [start_training(name, last=60) for name in ("x", "y")]
    assert [(training.communicate(), training.returncode)[1] for training in trainings] == [0, 0]
    runs = {run.data.tags["name"]: run for run in all_runs()}
    assert {name: steps(run.info.run_id) for name, run in runs.items()} == {
        name: list(range(1, 61)) for name in ("x", "y")
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
