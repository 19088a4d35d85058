from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.tracking.records import find_latest_of_model, find_record, read_artifact, set_tags
from kinetrack.tracking.store import experiment_id, open_store


@pytest.fixture
def client(project):
    return open_store()


def make_run(client, name, *, experiment="sample"):
    return client.create_run(experiment_id(client, experiment), run_name=name).info.run_id


def test_a_record_has_what_mlflow_has_of_a_run(client):
    run_id = make_run(client, "first")
    client.log_param(run_id, "train.seed", "0")
    client.set_tag(run_id, "git.commit", "abc")
    for step, value in enumerate([0.25, 0.5], start=1):
        client.log_metric(run_id, "val/accuracy", value, step=step)
    client.set_terminated(run_id, "FINISHED")
    record = find_record(run_id)
    assert (record.run_id, record.name, record.status) == (run_id, "first", "FINISHED")
    assert record.params == {"train.seed": "0"}
    assert record.tags["git.commit"] == "abc"
    assert record.metrics == {"val/accuracy": 0.5}


NAMES = ["plain", "with spaces", "it's", 'a "name"', "100%", "50_50", "Ä/ü", "deadbeef"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_found_by_its_name(name, client):
    others = [make_run(client, other) for other in (f"{name}2", f"a{name}", "500_50")]
    run_id = make_run(client, name)
    assert find_record(name).run_id == run_id
    assert run_id not in others


def test_a_run_is_found_by_the_name_of_its_experiment_in_dvc(client):
    run_id, other = make_run(client, "first"), make_run(client, "deep-owl-2")
    client.set_tag(run_id, "dvc.exp_name", "deep-owl")
    client.set_tag(other, "dvc.exp_name", "deep-owl-2")
    assert find_record("deep-owl").run_id == run_id
    assert find_record("deep-owl-2").run_id == other  # by both of its names, once


def test_the_newest_finished_run_of_a_model_is_found(client):
    assert find_latest_of_model("a" * 64) is None
    runs = [make_run(client, name) for name in ("first", "second", "at work", "other")]
    for run_id, weights in zip(runs, "aaab", strict=True):
        client.set_tag(run_id, "model_sha256", weights * 64)
    for run_id in (runs[0], runs[1], runs[3]):
        client.set_terminated(run_id, "FINISHED")
    assert find_latest_of_model("a" * 64).name == "second"
    client.delete_run(runs[1])
    assert find_latest_of_model("a" * 64).name == "first"


def test_a_run_is_found_in_whatever_experiment(client):
    run_id = make_run(client, "mine", experiment="mine")
    make_run(client, "yours", experiment="yours")
    assert find_record("mine").run_id == run_id


def test_a_run_is_found_by_the_beginning_of_its_id(client):
    run_id = make_run(client, "first")
    make_run(client, "second")
    for digits in (6, 8, 31, 32):
        assert find_record(run_id[:digits]).name == "first"


@pytest.mark.parametrize(
    "wanted", ["no such name", "0" * 32, "abcdef", "", "../x", "a'b\"c", "' OR 1=1", "%", "______"]
)
def test_what_names_no_run_is_told(wanted, client):
    make_run(client, "first")
    with pytest.raises(InputError, match=r"no such run in MLflow at .*`kinetrack runs` lists them"):
        find_record(wanted)


def test_five_digits_of_an_id_are_too_few(client):
    run_id = make_run(client, "first")
    with pytest.raises(InputError, match="give 6 or more digits"):
        find_record(run_id[:5])


def test_a_name_of_two_runs_is_told_with_their_ids(client):
    ids = [make_run(client, "twin") for _ in range(2)]
    with pytest.raises(InputError, match="is more than one run, found 2: ") as refused:
        find_record("twin")
    assert all(run_id in str(refused.value) for run_id in ids)


def test_a_deleted_run_does_not_count(client):
    deleted = make_run(client, "first")
    client.delete_run(deleted)
    for wanted in (deleted, deleted[:8], "first"):
        with pytest.raises(InputError, match="no such run"):
            find_record(wanted)
    run_id = make_run(client, "first")
    assert find_record("first").run_id == run_id


def test_a_file_of_a_run_is_read(client, tmp_path: Path):
    record = find_record(make_run(client, "first"))
    (tmp_path / "changes.diff").write_bytes(b"\xff\0\r\n")
    client.log_artifact(record.run_id, str(tmp_path / "changes.diff"))
    client.log_artifact(record.run_id, str(tmp_path / "changes.diff"), "deep/in")
    assert read_artifact(record, "changes.diff") == b"\xff\0\r\n"
    assert read_artifact(record, "deep/in/changes.diff") == b"\xff\0\r\n"


@pytest.mark.parametrize("path", ["changes.diff", "deep/changes.diff", "deep"])
def test_a_file_that_a_run_has_not_is_none(path, client, tmp_path: Path):
    record = find_record(make_run(client, "first"))
    (tmp_path / "other").touch()
    client.log_artifact(record.run_id, str(tmp_path / "other"), "deep")
    assert read_artifact(record, path) is None


def test_tags_are_set(client):
    run_id = make_run(client, "first")
    set_tags(run_id, {"reproduced": "equal", "reproduced.date": "2026-11-23"})
    assert find_record(run_id).tags["reproduced"] == "equal"
    assert find_record(run_id).tags["reproduced.date"] == "2026-11-23"


def test_a_server_that_does_not_answer_is_told_in_one_line(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"cannot be had from MLflow at http://\*") as refused:
        find_record("first")
    assert "secret" not in str(refused.value)
