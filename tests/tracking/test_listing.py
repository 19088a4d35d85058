from pathlib import Path

import pytest
from mlflow import MlflowClient

from kinetrack.errors import InputError
from kinetrack.tracking import listing, ui
from kinetrack.tracking.listing import list_runs
from kinetrack.tracking.store import open_store

GROUP = {"kind": "group"}


@pytest.fixture
def client(project: Path) -> MlflowClient:
    return open_store()


def add_run(
    client: MlflowClient, name: str, *, at: int, experiment: str = "sample", **tags: str
) -> str:
    """Make a run that began so many seconds after the epoch; tags as `parent` or `kind`."""
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    names = {"parent": "mlflow.parentRunId"}
    tags = {names.get(tag, tag): value for tag, value in tags.items()}
    return client.create_run(place, start_time=1000 * at, run_name=name, tags=tags).info.run_id


def shown(**options: object) -> list[object]:
    """Names as they are listed: of a parent, with the list of its children."""
    return [
        [entry.run.name, *(child.name for child in entry.children)]
        if entry.children
        else entry.run.name
        for entry in list_runs(**options).entries
    ]


def test_runs_of_all_experiments_are_listed_the_newest_first(client: MlflowClient) -> None:
    add_run(client, "second", at=20)
    add_run(client, "third", at=30, experiment="mine")
    add_run(client, "first", at=10)
    assert shown() == ["third", "second", "first"]


def test_a_run_is_listed_with_what_the_store_has_of_it(client: MlflowClient) -> None:
    run_id = add_run(client, "r", at=10, model_md5="abc.dir")
    client.log_param(run_id, "dataset", "sample")
    client.log_metric(run_id, "val/accuracy", 0.25, step=1)
    client.log_metric(run_id, "val/accuracy", 0.5, step=2)
    client.set_terminated(run_id, "KILLED", 20_000)
    [entry] = list_runs().entries
    run = entry.run
    assert (run.run_id, run.name, run.experiment, run.status) == (run_id, "r", "sample", "KILLED")
    assert (run.begun_ms, run.ended_ms) == (10_000, 20_000)
    assert (run.params, run.metrics) == ({"dataset": "sample"}, {"val/accuracy": 0.5})
    assert run.tags["model_md5"] == "abc.dir"


@pytest.mark.parametrize(("most", "has_more"), [(2, True), (5, False), (None, False)])
@pytest.mark.parametrize("page", [1, 2, 1000])
def test_so_many_are_listed_whatever_the_pages_of_the_store(
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    most: int | None,
    has_more: bool,
    page: int,
) -> None:
    monkeypatch.setattr(listing, "_PAGE", page)
    for number in range(5):
        add_run(client, f"r{number}", at=10 + number, experiment=f"e{number % 2}")
    assert shown(most=most) == ["r4", "r3", "r2", "r1", "r0"][:most]
    assert list_runs(most=most).has_more is has_more


def test_repetitions_stand_below_their_parent_where_the_newest_of_them_would(
    client: MlflowClient,
) -> None:
    parent = add_run(client, "parent", at=1, **GROUP)
    for name, at in (("a", 10), ("b", 30)):
        add_run(client, name, at=at, parent=parent)
    add_run(client, "older", at=20)
    add_run(client, "newer", at=40)
    assert shown() == ["newer", ["parent", "b", "a"], "older"]
    names = [run.name for run in list_runs().runs()]
    assert names == ["newer", "parent", "b", "a", "older"]


def test_parents_do_not_count(client: MlflowClient) -> None:
    parent = add_run(client, "parent", at=50, **GROUP)  # made after its children
    for number in range(3):
        add_run(client, f"r{number}", at=10 + number, parent=parent)
    assert shown(most=2) == [["parent", "r2", "r1"]]
    assert list_runs(most=2).has_more
    assert not list_runs(most=3).has_more


@pytest.mark.parametrize("fate", ["deleted", "of another kind", "never there"])
def test_a_training_without_its_parent_stands_alone(client: MlflowClient, fate: str) -> None:
    parent = add_run(client, "p", at=1, **({} if fate == "of another kind" else GROUP))
    if fate == "deleted":
        client.delete_run(parent)
    add_run(client, "child", at=10, parent="0" * 32 if fate == "never there" else parent)
    assert shown()[0] == "child"


def test_what_was_deleted_is_not_listed(client: MlflowClient) -> None:
    client.delete_run(add_run(client, "run", at=10))
    add_run(client, "of an experiment", at=10, experiment="old")
    client.delete_experiment(client.get_experiment_by_name("old").experiment_id)
    assert shown() == []
    with pytest.raises(InputError, match="old: no such experiment in MLflow"):
        list_runs(experiment="old")


def test_one_experiment_can_be_chosen(client: MlflowClient) -> None:
    add_run(client, "x", at=10)
    add_run(client, "y", at=20, experiment="mine")
    assert shown(experiment="mine") == ["y"]
    with pytest.raises(
        InputError, match=r"mein: no such .*, expected one of Default, mine, sample"
    ):
        list_runs(experiment="mein")


def test_a_project_without_a_store_has_no_runs_and_gets_no_store(bare_project: Path) -> None:
    assert shown() == []
    assert not (bare_project / "mlruns").exists()


def test_a_server_that_does_not_answer_is_told(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://me:hidden@{ui.HOST}:{ui._any_free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(InputError, match=r"MLflow at http://\*\*\*@.* does not answer") as caught:
        list_runs()
    assert "hidden" not in str(caught.value)
