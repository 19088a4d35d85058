"""`kinetrack track` in real projects: what MLflow missed is made of files."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from kinetrack.tracking.settings import quiet

from project import Project, make_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`, with a remote; tests leave it as it is."""
    project = make_project(tmp_path_factory.mktemp("track") / "tiny project")
    remote = project.folder.parent / "a remote"
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(remote))
    project.run("dvc", "repro")
    project.commit("repro")
    project.run("dvc", "push")
    return project


def clone(project: Project, folder: Path) -> Project:
    project.run("git", "clone", "-q", str(project.folder), str(folder))
    return Project(folder)


@pytest.fixture
def cloned(done: Project, tmp_path: Path) -> Project:
    return clone(done, tmp_path / "clone")


@pytest.fixture
def copied(done: Project, tmp_path: Path) -> Project:
    """The same project with all that Git does not know, its runs too."""
    return Project(Path(shutil.copytree(done.folder, tmp_path / "copy")))


def track(project: Project) -> str:
    return project.run("python", "-m", "kinetrack.cli.main", "track").stdout


def client_of(project: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")


def runs_of(project: Project) -> list[Run]:
    with quiet():
        client = client_of(project)
        places = [found.experiment_id for found in client.search_experiments()]
        return list(client.search_runs(places, order_by=["start_time ASC"]))


def only_run(project: Project) -> Run:
    [run] = runs_of(project)
    return run


def figures(run: Run) -> dict[str, float]:
    """What both clones can know; the rest is of the machine."""
    sides = ("train/loss", "train/accuracy", "val/", "test/")
    return {
        key: pytest.approx(value, abs=1e-6)
        for key, value in run.data.metrics.items()
        if key.startswith(sides)
    }


def test_colleague_who_pulls_has_the_run_with_its_model(
    done: Project, cloned: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloned.run("dvc", "pull", "train")
    assert track(cloned) == "track: 1 run has its test result; 1 made of committed results\n"
    mine, original = only_run(cloned), only_run(done)
    assert mine.info.status == "FINISHED"
    assert mine.data.params == original.data.params
    assert mine.data.metrics == figures(original)
    for tag in ("train_key", "model_sha256", "model_md5", "code_sha256", "data.tensors_md5"):
        assert mine.data.tags[tag] == original.data.tags[tag]
    head = cloned.run("git", "rev-parse", "HEAD").stdout.strip()
    assert (mine.data.tags["git.commit"], mine.data.tags["git.dirty"]) == (head, "false")
    client = client_of(cloned)
    steps = [one.step for one in client.get_metric_history(mine.info.run_id, "train/loss")]
    assert steps == [1, 2]
    monkeypatch.chdir(cloned.folder)
    paths = [one.path for one in client.list_artifacts(mine.info.run_id)]
    assert paths == ["dvc.lock", "evaluation", "params.yaml", "plots"]
    [output] = mine.outputs.model_outputs
    assert client.get_logged_model(output.model_id).status == "READY"
    assert_model_is_that_of(done, cloned)


def assert_model_is_that_of(done: Project, cloned: Project) -> None:
    [folder] = (cloned.folder / "mlruns/artifacts/models").glob("*/artifacts/artifacts/model")
    for path in (done.folder / "data/model").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_second_time_changes_nothing(cloned: Project) -> None:
    cloned.run("dvc", "pull", "train")
    track(cloned)
    before = only_run(cloned).to_dictionary()
    assert track(cloned) == "track: 1 run has its test result\n"
    assert only_run(cloned).to_dictionary() == before


def test_without_the_model_there_is_no_run(cloned: Project) -> None:
    assert track(cloned) == "track: 0 runs have their test result\n"
    assert runs_of(cloned) == []


def test_run_gets_the_final_lock_and_the_commit_that_has_it(
    copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = only_run(copied)
    assert "dvc.lock_md5" not in first.data.tags
    track(copied)
    run = only_run(copied)
    assert run.info.run_id == first.info.run_id
    monkeypatch.chdir(copied.folder)
    lock = Path(client_of(copied).download_artifacts(run.info.run_id, "dvc.lock"))
    assert lock.read_text() == (copied.folder / "dvc.lock").read_text()


def test_run_that_was_deleted_is_not_made_again(copied: Project) -> None:
    run = only_run(copied)
    client_of(copied).delete_run(run.info.run_id)
    track(copied)
    assert runs_of(copied) == []
    [deleted] = client_of(copied).search_runs(
        [run.info.experiment_id], run_view_type=ViewType.DELETED_ONLY
    )
    assert deleted.info.run_id == run.info.run_id


def test_store_that_was_lost_is_made_again_of_the_journals(copied: Project) -> None:
    lost = only_run(copied)
    shutil.rmtree(copied.folder / "mlruns")
    # Moved as well: MLflow's client in this process still holds the removed database.
    moved = Project(copied.folder.rename(copied.folder.with_name("moved")))
    assert "1 sent from this machine's journals" in track(moved)
    run = only_run(moved)
    assert run.info.run_id != lost.info.run_id
    assert (run.info.run_name, run.info.start_time) == (lost.info.run_name, lost.info.start_time)
    assert run.data.params == lost.data.params
    assert run.data.metrics == {
        key: pytest.approx(value, abs=1e-6) for key, value in lost.data.metrics.items()
    }


def test_training_that_comes_from_the_run_cache_has_a_run(copied: Project) -> None:
    copied.set_params(train={"epochs": 1})
    copied.run("dvc", "repro")
    for made in ("mlruns", ".kinetrack"):
        shutil.rmtree(copied.folder / made)
    copied.set_params(train={"epochs": 2})
    assert "Stage 'train' is cached" in copied.run("dvc", "repro").stdout
    copied.set_params(train={"epochs": 1})
    assert "Stage 'train' is cached" in copied.run("dvc", "repro").stdout
    assert "made of committed results" in track(copied)
    found = {run.data.params["train.epochs"]: run for run in runs_of(copied)}
    assert set(found) == {"1", "2"}
    assert found["1"].data.tags["made_of"] == "results in the workspace"


def test_result_of_another_model_is_not_added(copied: Project) -> None:
    copied.set_params(train={"epochs": 1})
    copied.run("dvc", "repro", "train")
    track(copied)
    found = {run.data.params["train.epochs"]: run.data.metrics for run in runs_of(copied)}
    assert "test/accuracy" in found["2"]
    assert "test/accuracy" not in found["1"]


def test_pushed_experiments_have_runs_in_the_other_clone(
    done: Project, copied: Project, tmp_path: Path
) -> None:
    """Two repetitions and one code change, through DVC's queue, Git and a folder remote."""
    shared = tmp_path / "shared.git"
    copied.run("git", "clone", "-q", "--bare", str(done.folder), str(shared))
    copied.run("git", "remote", "add", "team", str(shared))
    stage = copied.folder / "src/kinetrack/stages/train.py"
    original = stage.read_text()
    for seed in (1, 2):
        name = f"seed-{seed}"
        copied.run("dvc", "exp", "run", "--queue", "--name", name, "-S", f"train.seed={seed}")
    stage.write_text(original + "\n# another one\n")
    copied.run("dvc", "exp", "run", "--queue", "--name", "code", "-S", "train.epochs=1")
    stage.write_text(original)
    copied.run("dvc", "exp", "run", "--run-all")
    track(copied)
    mine = {run.data.tags.get("dvc.exp_name"): run for run in runs_of(copied)}
    assert {"seed-1", "seed-2", "code"} <= set(mine)
    assert mine["code"].data.tags["code_sha256"] != mine["seed-1"].data.tags["code_sha256"]
    assert "test/accuracy" in mine["code"].data.metrics
    [parent] = [run for run in runs_of(copied) if run.data.tags.get("kind") == "group"]
    children = [
        name
        for name, run in mine.items()
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    ]
    assert {"seed-1", "seed-2"} <= set(children)
    assert "code" not in children
    copied.run("dvc", "exp", "push", "team", "--all-commits")
    other = clone(done, tmp_path / "other")
    other.run("git", "remote", "add", "team", str(shared))
    other.run("dvc", "exp", "pull", "team", "--all-commits")
    track(other)
    theirs = {run.data.tags.get("dvc.exp_name"): run for run in runs_of(other)}
    for name in ("seed-1", "seed-2", "code"):
        for tag in ("train_key", "model_sha256", "dvc.exp_baseline_rev", "code_sha256"):
            assert theirs[name].data.tags[tag] == mine[name].data.tags[tag], (name, tag)
        assert theirs[name].data.metrics == figures(mine[name])
    shown = json.loads(copied.run("dvc", "exp", "show", "--json").stdout)
    assert "seed-1" in json.dumps(shown)
