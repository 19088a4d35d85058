from pathlib import Path

import pytest

from kinetrack.tracking.journal import (
    DatasetInput,
    Journal,
    ModelFacts,
    Sent,
    Training,
    journal_path,
    read,
    read_all,
)

TRAIN = DatasetInput("sample-train", "0" * 32 + ".dir", "data/tensors/sample/train", "train")
MODEL = ModelFacts("1" * 32 + ".dir", (3, 4, 8, 8), 5)


def begun(path: Path, name: str = "a1") -> Journal:
    journal = Journal(path, name)
    journal.begin(
        place="mlruns",
        experiment="e",
        name="x",
        params={"train.seed": "0"},
        tags={"git.commit": "c"},
        datasets=[list(TRAIN)],
        files={"params.yaml": "seed: 0\n", "changes.diff": "\udcff"},
    )
    return journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "key.jsonl"


def only(path: Path) -> Training:
    (training,) = read(path)
    return training


def test_what_was_recorded_is_read_again(path: Path) -> None:
    journal = begun(path)
    journal.add_epoch(1, {"train/loss": 0.5, "val/loss": float("inf")})
    journal.add_tags({"model_sha256": "abc"})
    journal.add_model(MODEL)
    journal.end("FINISHED")
    training = only(path)
    assert training == journal.training
    assert training.datasets == [TRAIN]
    assert training.files["changes.diff"] == "\udcff"
    assert training.tags == {"git.commit": "c", "model_sha256": "abc"}
    assert training.epochs[1].metrics == {"train/loss": 0.5, "val/loss": float("inf")}
    assert training.model == MODEL
    assert training.status == "FINISHED"
    assert training.begun_ms <= training.epochs[1].time_ms <= training.ended_ms


def test_an_epoch_is_recorded_once_with_its_first_time(path: Path) -> None:
    journal = begun(path)
    journal.add_epoch(1, {"train/loss": 0.5})
    lines = path.read_bytes()
    Journal(path, "a1").add_epoch(1, {"train/loss": 0.5})
    assert path.read_bytes() == lines


def test_training_that_goes_on_is_running_again_from_where_it_is_now(path: Path) -> None:
    journal = begun(path)
    journal.add_tags({"model": "m"})
    journal.end("KILLED")
    assert only(path).status == "KILLED"
    Journal(path, "a1").begin(
        place="http://team", tags={"device": "cuda"}, files={"params.yaml": "seed: 1\n"}
    )
    training = only(path)
    assert (training.status, training.ended_ms, training.starts) == ("RUNNING", None, 2)
    assert training.tags == {"model": "m", "device": "cuda"}
    assert training.files == {"params.yaml": "seed: 1\n", "changes.diff": ""}
    assert training.places == {"mlruns", "http://team"}


def test_trainings_of_one_key_are_apart(path: Path) -> None:
    first, second = begun(path, "a1"), begun(path, "b2")
    first.add_epoch(1, {"train/loss": 1.0})
    second.end("FAILED")
    assert [(one.id, list(one.epochs), one.status) for one in read(path)] == [
        ("a1", [1], "RUNNING"),
        ("b2", [], "FAILED"),
    ]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_line_that_a_kill_has_torn_costs_that_line_only(path: Path, cut: int) -> None:
    journal = begun(path)
    journal.add_epoch(1, {"train/loss": 1.0})
    whole = path.read_bytes()
    journal.add_epoch(2, {"train/loss": 0.5})
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:cut])
    again = Journal(path, "a1")
    again.add_epoch(2, {"train/loss": 0.5})
    again.add_epoch(3, {"train/loss": 0.25})
    assert sorted(only(path).epochs) == [1, 2, 3]


@pytest.mark.parametrize("line", ["[]", "{}", '{"kind": "epoch", "training": "a1"}', "\0", "NaN"])
def test_line_of_another_kind_is_passed_over(path: Path, line: str) -> None:
    begun(path)
    with path.open("a") as file:
        file.write(line + "\n")
    Journal(path, "a1").end("KILLED")
    assert only(path).status == "KILLED"


def test_each_store_has_its_own_mark(path: Path) -> None:
    journal = begun(path)
    journal.end("FINISHED")
    journal.mark_sent("one", has_model=True)
    journal.mark_sent("two", has_model=False)
    training = only(path)
    assert training.sent["one"] == Sent(2, has_model=True)
    assert [training.is_sent(store) for store in ("one", "two", "three")] == [True, False, False]
    assert training.lacks_only_model("two")
    Journal(path, "a1").begin(place="mlruns", tags={}, files={})
    assert not only(path).is_sent("one")


def test_all_journals_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for key in ("b", "a"):
        begun(journal_path(key), name=key)
    (tmp_path / ".kinetrack/spool/.a1.lock").touch()
    found = read_all(tmp_path / ".kinetrack/spool")
    assert [(path.name, one.id) for path, one in found] == [("a.jsonl", "a"), ("b.jsonl", "b")]
