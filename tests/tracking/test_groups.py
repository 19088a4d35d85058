import statistics
from collections.abc import Mapping
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from kinetrack.tracking.groups import summarise, update_groups
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.runs import training_run
from kinetrack.tracking.store import open_store

TAGS = {"git.commit": "c", "code_sha256": "s"}


@pytest.fixture
def client(project: object) -> MlflowClient:
    return open_store()


def train(
    accuracy: float,
    *,
    seed: int = 0,
    fold: int = 1,
    rate: float = 0.1,
    tags: Mapping[str, str] = TAGS,
) -> str:
    params = {"train": {"seed": seed, "learning_rate": rate}, "split": {"fold": fold}}
    with training_run(experiment="e", name=f"s{seed}", params=params, tags=tags) as run:
        run.log_epoch(1, {"train/loss": 1.0, "test/accuracy": accuracy})
    return run.run_id


def update(client: MlflowClient) -> int:
    return update_groups(client, list(all_runs(client, deleted_too=True)))


def parents(client: MlflowClient) -> list[Run]:
    return [run for run in all_runs(client) if run.data.tags.get("kind") == "group"]


def parent_of(client: MlflowClient, run_id: str) -> str | None:
    return client.get_run(run_id).data.tags.get("mlflow.parentRunId")


@pytest.mark.parametrize("repetitions", [{"seed": 1}, {"fold": 2}, {"seed": 1, "fold": 3}])
def test_repetitions_have_a_parent_with_mean_and_deviation(
    client: MlflowClient, repetitions: dict[str, int]
) -> None:
    runs = [train(0.8), train(0.9, **repetitions)]
    assert update(client) == 1
    (parent,) = parents(client)
    assert [parent_of(client, run) for run in runs] == [parent.info.run_id] * 2
    found = parent.data.metrics
    assert found["num_runs"] == 2
    assert found["test/accuracy_mean"] == pytest.approx(0.85)
    assert found["test/accuracy_std"] == pytest.approx(statistics.stdev([0.8, 0.9]))
    assert "test/accuracy 0.8500 ± 0.0707" in parent.data.tags["mlflow.note.content"]
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == f"2 runs by {' and '.join(repetitions)}: s0"


def test_second_time_changes_nothing(client: MlflowClient) -> None:
    for seed in range(2):
        train(0.8, seed=seed)
    update(client)
    before = [run.to_dictionary() for run in all_runs(client)]
    assert update(client) == 1
    assert [run.to_dictionary() for run in all_runs(client)] == before


def test_further_repetition_joins_its_group(client: MlflowClient) -> None:
    for seed, accuracy in enumerate([0.7, 0.8, 0.9]):
        train(accuracy, seed=seed)
        update(client)
    (parent,) = parents(client)
    assert parent.data.metrics["num_runs"] == 3
    assert parent.data.metrics["test/accuracy_mean"] == pytest.approx(0.8)
    assert parent.info.run_name.startswith("3 runs by seed")


@pytest.mark.parametrize(
    "other",
    [
        {"rate": 0.2},
        {"tags": TAGS | {"git.commit": "another"}},
        {"tags": TAGS | {"code_sha256": "another"}},
        {"tags": TAGS | {"dvc.exp_baseline_rev": "another"}},
    ],
)
def test_what_differs_in_more_than_seed_and_fold_is_no_repetition(
    client: MlflowClient, other: dict[str, Any]
) -> None:
    train(0.8)
    train(0.9, seed=1, **other)
    assert update(client) == 0
    assert parents(client) == []


def test_experiments_of_one_baseline_belong_together_whatever_their_commits(
    client: MlflowClient,
) -> None:
    for seed in range(2):
        tags = {"git.commit": str(seed), "code_sha256": "s", "dvc.exp_baseline_rev": "b"}
        train(0.8, seed=seed, tags=tags)
    assert update(client) == 1


def test_same_training_twice_is_no_repetition(client: MlflowClient) -> None:
    train(0.8)
    train(0.8)
    assert update(client) == 0
    train(0.6, seed=1)
    assert update(client) == 1
    (parent,) = parents(client)
    assert parent.data.metrics["num_runs"] == 2
    assert parent.data.metrics["test/accuracy_mean"] == pytest.approx(0.7)


def test_failed_training_does_not_count(client: MlflowClient) -> None:
    train(0.8)
    failed = train(0.1, seed=1)
    client.set_terminated(failed, "FAILED")
    assert update(client) == 0


def test_repetition_without_a_test_result_waits_for_it(client: MlflowClient) -> None:
    for seed in range(2):
        train(0.8, seed=seed)
    params = {"train": {"seed": 2, "learning_rate": 0.1}, "split": {"fold": 1}}
    with training_run(experiment="e", name="s2", params=params, tags=TAGS) as run:
        run.log_epoch(1, {"train/loss": 1.0})
    update(client)
    (parent,) = parents(client)
    assert parent.data.metrics["num_runs"] == 2
    assert parent_of(client, run.run_id) == parent.info.run_id
    client.log_metric(run.run_id, "test/accuracy", 0.5)
    update(client)
    (parent,) = parents(client)
    assert parent.data.metrics["num_runs"] == 3
    assert parent.data.metrics["test/accuracy_mean"] == pytest.approx(0.7)


def test_deleted_repetition_does_not_count(client: MlflowClient) -> None:
    runs = [train(accuracy, seed=seed) for seed, accuracy in enumerate([0.6, 0.8, 0.9])]
    update(client)
    client.delete_run(runs[2])
    for _ in range(2):
        update(client)
        (parent,) = parents(client)
        assert parent.data.metrics["num_runs"] == 2
        assert parent.data.metrics["test/accuracy_mean"] == pytest.approx(0.7)
    assert len(client.get_metric_history(parent.info.run_id, "num_runs")) == 2
    client.delete_run(runs[1])
    assert update(client) == 0
    assert parents(client) == []


def test_metric_that_is_gone_takes_its_mean_along(client: MlflowClient) -> None:
    for seed in range(2):
        train(0.8, seed=seed)
    update(client)
    (first,) = parents(client)
    params = {"train": {"seed": 2, "learning_rate": 0.1}, "split": {"fold": 1}}
    with training_run(experiment="e", name="s2", params=params, tags=TAGS) as run:
        run.log_epoch(1, {"test/accuracy": 0.5})
    update(client)
    (second,) = parents(client)
    assert second.info.run_id != first.info.run_id
    assert "train/loss_mean" not in second.data.metrics
    assert parent_of(client, run.run_id) == second.info.run_id


def test_parent_that_a_person_deleted_stays_deleted(client: MlflowClient) -> None:
    for seed in range(2):
        train(0.8, seed=seed)
    update(client)
    (parent,) = parents(client)
    client.delete_run(parent.info.run_id)
    assert update(client) == 0
    assert parents(client) == []


def test_group_of_another_hand_is_left_alone(client: MlflowClient) -> None:
    with training_run(experiment="e", name="x", params={}, tags={"kind": "group"}) as run:
        pass
    train(0.8)
    update(client)
    assert client.get_run(run.run_id).info.lifecycle_stage == "active"


def test_metric_that_one_run_lacks_has_no_mean() -> None:
    figures = summarise([{"val/loss": 1.0, "test/loss": 1.0}, {"val/loss": 3.0, "other": 1.0}])
    assert figures == {
        "num_runs": 2.0,
        "val/loss_mean": 2.0,
        "val/loss_std": pytest.approx(2**0.5),
    }
