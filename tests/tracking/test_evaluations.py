from pathlib import Path

import pytest

from kinetrack.tracking.evaluations import add_evaluation
from kinetrack.tracking.runs import TrainingRun, training_run
from kinetrack.tracking.store import open_store


@pytest.fixture
def tables(project: Path) -> tuple[Path, Path]:
    confusion, predictions = project / "confusion.csv", project / "predictions.csv"
    confusion.write_text(
        'actual,predicted,num_clips\na,a,3\na,"b, c",1\n"b, c",a,0\n"b, c","b, c",4\n'
    )
    predictions.write_text("clip,label\nv_a,a\n")
    return confusion, predictions


def train(experiment: str, sha256: str) -> TrainingRun:
    with training_run(experiment=experiment, name="x", params={}, tags={}) as run:
        run.set_tags({"model_sha256": sha256})
    return run


def evaluate(tables: tuple[Path, Path], *, accuracy: float, experiment: str | None = None) -> int:
    return add_evaluation(
        tags={"model_sha256": "abc"},
        metrics={"accuracy": accuracy},
        confusion=tables[0],
        files=[tables[1]],
        experiment=experiment,
    )


def test_every_run_of_the_model_gets_the_result(tables: tuple[Path, Path]) -> None:
    runs = [train("one", "abc"), train("two", "abc")]
    other = train("one", "def")
    assert evaluate(tables, accuracy=0.875) == 2
    client = open_store()
    for run in runs:
        assert client.get_run(run.run_id).data.metrics == {"test/accuracy": 0.875}
        files = [file.path for file in client.list_artifacts(run.run_id, "evaluation")]
        assert files == [
            "evaluation/confusion.csv",
            "evaluation/confusion.png",
            "evaluation/predictions.csv",
        ]
    assert client.get_run(other.run_id).data.metrics == {}


def test_one_experiment_only(tables: tuple[Path, Path]) -> None:
    train("one", "abc")
    train("two", "abc")
    assert evaluate(tables, accuracy=0.5, experiment="two") == 1
    assert evaluate(tables, accuracy=0.5, experiment="three") == 0


def test_second_time_changes_nothing(tables: tuple[Path, Path]) -> None:
    run = train("one", "abc")
    assert [evaluate(tables, accuracy=0.875) for _ in range(2)] == [1, 1]
    assert len(open_store().get_metric_history(run.run_id, "test/accuracy")) == 1


def test_other_result_replaces_the_first(tables: tuple[Path, Path]) -> None:
    run = train("one", "abc")
    evaluate(tables, accuracy=0.875)
    evaluate(tables, accuracy=0.5)
    assert open_store().get_run(run.run_id).data.metrics == {"test/accuracy": 0.5}


def test_result_stands_at_the_last_epoch_where_the_test_side_was_watched(
    tables: tuple[Path, Path],
) -> None:
    with training_run(experiment="one", name="x", params={}, tags={}) as run:
        for epoch in (1, 2):
            run.log_epoch(epoch, {"train/loss": 1.0, "test/accuracy": 0.1 * epoch})
        run.set_tags({"model_sha256": "abc"})
    for _ in range(2):
        evaluate(tables, accuracy=0.9)
    history = open_store().get_metric_history(run.run_id, "test/accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2), (2, 0.9)]
    assert open_store().get_run(run.run_id).data.metrics["test/accuracy"] == 0.9


def test_the_same_model_from_other_data_is_another_matter(tables: tuple[Path, Path]) -> None:
    runs = [train("one", "abc") for _ in range(2)]
    client = open_store()
    for run, md5 in zip(runs, ("old.dir", "new.dir"), strict=True):
        client.set_tag(run.run_id, "data.tensors_md5", md5)
    tags = {"model_sha256": "abc", "data.tensors_md5": "new.dir"}
    assert add_evaluation(tags=tags, metrics={"accuracy": 0.5}, confusion=tables[0]) == 1
    assert client.get_run(runs[0].run_id).data.metrics == {}


def test_no_run_of_the_model(tables: tuple[Path, Path]) -> None:
    assert evaluate(tables, accuracy=0.5) == 0


def test_server_that_does_not_answer(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert evaluate(tables, accuracy=0.5) == 0
    assert "MLflow at http://127.0.0.1:9 does not answer" in capfd.readouterr().err
