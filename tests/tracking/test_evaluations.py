from pathlib import Path

import numpy as np
import pytest

from kinetrack.tracking.evaluations import Result, add_evaluation
from kinetrack.tracking.journal import DatasetInput
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


def evaluate(tables: tuple[Path, Path], *, accuracy: float) -> int:
    result = Result({"model_sha256": "abc"}, {"accuracy": accuracy}, tables[0], [tables[1]])
    return add_evaluation(result)


def figures(run_id: str) -> dict[str, float]:
    found = open_store().get_run(run_id).data.metrics
    return {key: value for key, value in found.items() if key.startswith("test/")}


def test_every_run_of_the_model_gets_the_result(tables: tuple[Path, Path]) -> None:
    runs = [train("one", "abc"), train("two", "abc")]
    other = train("one", "def")
    assert evaluate(tables, accuracy=0.875) == 2
    client = open_store()
    for run in runs:
        assert figures(run.run_id) == {"test/accuracy": 0.875}
        files = [file.path for file in client.list_artifacts(run.run_id, "evaluation")]
        assert files == [
            "evaluation/confusion.csv",
            "evaluation/confusion.png",
            "evaluation/predictions.csv",
        ]
    assert figures(other.run_id) == {}


def test_second_time_changes_nothing(tables: tuple[Path, Path]) -> None:
    run = train("one", "abc")
    assert evaluate(tables, accuracy=0.875) == 1
    client = open_store()
    client.set_tag(run.run_id, "mlflow.note.content", "my own words")
    before = client.get_run(run.run_id).to_dictionary()
    assert evaluate(tables, accuracy=0.875) == 1
    assert client.get_run(run.run_id).to_dictionary() == before
    assert len(open_store().get_metric_history(run.run_id, "test/accuracy")) == 1


def test_other_result_replaces_the_first(tables: tuple[Path, Path]) -> None:
    run = train("one", "abc")
    evaluate(tables, accuracy=0.875)
    evaluate(tables, accuracy=0.5)
    assert figures(run.run_id) == {"test/accuracy": 0.5}


def test_result_is_in_the_description_unless_a_person_wrote_another(
    tables: tuple[Path, Path],
) -> None:
    first, second = train("one", "abc"), train("one", "abc")
    client = open_store()
    client.set_tag(second.run_id, "mlflow.note.content", "my own words")
    evaluate(tables, accuracy=0.875)
    notes = [client.get_run(run.run_id).data.tags["mlflow.note.content"] for run in (first, second)]
    assert notes[0].startswith("Test: accuracy 0.8750.")
    assert f"`kinetrack reproduce {first.run_id[:8]}`" in notes[0]
    assert notes[1] == "my own words"


def test_result_is_bound_to_the_model_and_the_test_clips(tables: tuple[Path, Path]) -> None:
    clips = DatasetInput("sample-test", "0" * 32 + ".dir", "data/tensors/sample/test", "test")
    with training_run(experiment="e", name="x", params={}, tags={}, datasets=[clips]) as run:
        run.set_tags({"model_sha256": "abc"})
    evaluate(tables, accuracy=0.875)
    client = open_store()
    (output,) = client.get_run(run.run_id).outputs.model_outputs
    (bound,) = client.get_logged_model(output.model_id).metrics
    assert (bound.key, bound.value, bound.dataset_name) == ("test/accuracy", 0.875, "sample-test")


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
    assert add_evaluation(Result(tags, {"accuracy": 0.5}, tables[0])) == 1
    assert [figures(run.run_id) for run in runs] == [{}, {"test/accuracy": 0.5}]


def test_no_run_of_the_model(tables: tuple[Path, Path]) -> None:
    assert evaluate(tables, accuracy=0.5) == 0


def test_server_that_does_not_answer(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert evaluate(tables, accuracy=0.5) == 0
    assert "MLflow at http://127.0.0.1:9 does not take it" in capfd.readouterr().err


def test_examples_of_errors_are_shown(tables: tuple[Path, Path]) -> None:
    run = train("one", "abc")
    frames = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    errors = [(frames, "a taken for $b, c$ (0.90)"), (frames[:2], "short")]
    tags = {"model_sha256": "abc"}
    assert add_evaluation(Result(tags, {"accuracy": 0.5}, tables[0], (), errors)) == 1
    files = [file.path for file in open_store().list_artifacts(run.run_id, "evaluation")]
    assert "evaluation/errors.png" in files
