from pathlib import Path

import pytest

from kinetrack.cli.repetition import Figure, differing_facts, judge, print_figures, read_figures
from kinetrack.files import write_json
from kinetrack.tables import write_csv
from kinetrack.tracking.records import RunRecord

HERE = {
    "host.capability": "AVX512",
    "device": "cpu",
    "processes": "1",
    "version.torch": "2.14.1",
    "host.processor": "a processor",
}
OTHER_KIND = {**HERE, "host.capability": "AVX2"}


def record(*, tags=HERE, metrics=None) -> RunRecord:
    tags = {"model_sha256": "abc", **tags}
    return RunRecord("1" * 32, "a run", "FINISHED", tags, {}, metrics or {})


def figures(**differences: float) -> list[Figure]:
    return [Figure(name.replace("__", "/"), 0.5, 0.5 + by) for name, by in differences.items()]


def test_the_same_weights_and_figures_are_equal():
    outcome = judge(record(), figures(val__loss=0), weights_sha256="abc", here=HERE)
    assert outcome.verdict == "equal"


def test_equal_is_equal_on_another_machine_kind_too():
    outcome = judge(record(tags=OTHER_KIND), figures(), weights_sha256="abc", here=HERE)
    assert outcome.verdict == "equal"


def test_rounding_is_no_difference():
    outcome = judge(record(), figures(val__loss=5e-7), weights_sha256="abc", here=HERE)
    assert outcome.verdict == "equal"


def test_other_weights_are_different_on_the_same_machine_kind():
    outcome = judge(record(), figures(val__loss=0), weights_sha256="def", here=HERE)
    assert outcome == ("different", "different, on the same machine kind: the weights")


def test_another_figure_is_different_on_the_same_machine_kind():
    found = figures(test__accuracy=0.00001, val__loss=0)
    outcome = judge(record(), found, weights_sha256="abc", here=HERE)
    assert outcome == ("different", "different, on the same machine kind: test/accuracy")


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ({"val__accuracy": 0.02}, "within tolerance"),
        ({"val__accuracy": -0.02}, "within tolerance"),
        ({"val__accuracy": 0.021}, "different"),
        ({"val__accuracy": -0.021}, "different"),
        ({"train__loss": 0.05}, "within tolerance"),
        ({"train__loss": 0.051}, "different"),
        ({"test__f1_macro": 0.019}, "within tolerance"),
        ({"test__num_clips": 0.001}, "different"),
        ({"test__num_clips": 0, "val__loss": 0.01}, "within tolerance"),
        ({"val__accuracy": 0, "val__loss": 0.2}, "different"),
        ({}, "within tolerance"),
    ],
)
def test_another_machine_kind_has_tolerances(differences, verdict):
    found = figures(**differences)
    outcome = judge(record(tags=OTHER_KIND), found, weights_sha256="def", here=HERE)
    assert outcome.verdict == verdict
    assert "host.capability AVX2, here AVX512" in outcome.line
    assert "accuracies may differ by 0.02, losses by 0.05" in outcome.line


def test_what_is_beyond_tolerance_is_named():
    found = figures(val__accuracy=0.1, val__loss=0.01)
    outcome = judge(record(tags=OTHER_KIND), found, weights_sha256="def", here=HERE)
    assert outcome.line.endswith(": val/accuracy")


@pytest.mark.parametrize("name", ["host.capability", "device", "processes", "version.torch"])
def test_each_fact_makes_another_machine_kind(name):
    assert differing_facts({**HERE, name: "other"}, HERE) == [f"{name} other, here {HERE[name]}"]


def test_another_processor_alone_is_the_same_machine_kind():
    assert differing_facts({**HERE, "host.processor": "other"}, HERE) == []


def test_a_fact_that_a_run_has_not_leaves_the_machine_kind_open():
    tags = {name: fact for name, fact in HERE.items() if name != "processes"}
    assert differing_facts(tags, HERE) == ["processes not recorded, here 1"]


def test_on_cuda_the_gpu_counts_too():
    cuda = {**HERE, "device": "cuda"}
    assert differing_facts(cuda, cuda) == ["host.gpu not recorded, here unknown"]
    assert differing_facts({**cuda, "host.gpu": "X"}, {**cuda, "host.gpu": "X"}) == []
    assert differing_facts({**cuda, "host.gpu": "X"}, {**cuda, "host.gpu": "Y"}) != []


HISTORY = [
    {"epoch": 1, "train_loss": 2.0, "val_loss": 2.1, "test_loss": "nan"},
    {"epoch": 2, "train_loss": 1.0, "val_loss": 1.1, "test_loss": "nan"},
]


def write_reports(folder: Path, history, tested=None) -> None:
    write_csv(folder / "reports/train/history.csv", list(history[0]), history)
    if tested is not None:
        write_json(folder / "reports/evaluate/metrics.json", tested)


def test_figures_are_those_of_the_last_epoch_and_of_the_test(tmp_path):
    write_reports(tmp_path, HISTORY, {"accuracy": 0.75, "top_2_accuracy": 1, "num_clips": 4})
    metrics = {
        "val/loss": 1.2,
        "train/loss": 1.0,
        "test/accuracy": 0.5,
        "test/top_2_accuracy": 1.0,
        "train/seconds": 3.0,
        "system/disk": 1.0,
    }
    assert read_figures(record(metrics=metrics), tmp_path) == [
        ("test/accuracy", 0.5, 0.75),
        ("test/top_2_accuracy", 1.0, 1.0),
        ("train/loss", 1.0, 1.0),
        ("val/loss", 1.2, 1.1),
    ]


def test_a_watched_test_side_has_the_figure_of_the_evaluation(tmp_path):
    write_reports(tmp_path, [{"epoch": 1, "test_loss": 9.0}], {"loss": 2.0})
    assert read_figures(record(metrics={"test/loss": 2.0}), tmp_path) == [("test/loss", 2.0, 2.0)]


def test_without_an_evaluation_a_watched_test_side_has_its_last_epoch(tmp_path):
    write_reports(tmp_path, [{"epoch": 1, "test_loss": 9.0}])
    assert read_figures(record(metrics={"test/loss": 2.0}), tmp_path) == [("test/loss", 2.0, 9.0)]


def test_a_side_that_was_not_watched_is_no_figure(tmp_path):
    write_reports(tmp_path, HISTORY)
    assert read_figures(record(metrics={"test/loss": 2.0}), tmp_path) == []


def test_a_figure_that_is_no_number_is_no_equal(tmp_path):
    write_reports(tmp_path, HISTORY)
    [figure] = read_figures(record(metrics={"val/loss": float("nan")}), tmp_path)
    assert not figure.is_equal


def test_the_table_has_run_repetition_and_difference(capsys):
    print_figures([Figure("val/[loss]", 1.5, 1.25), Figure("val/b", 1.0, 1.0 - 1e-9)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["val/[loss]", "1.500000", "1.250000", "-0.250000"]
    assert lines[2].split() == ["val/b", "1.000000", "1.000000", "0.000000"]
