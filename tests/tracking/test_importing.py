import contextlib
import math
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType
from mlflow.store.entities import PagedList

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import SCHEME
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.importing import import_store
from kinetrack.tracking.importing_runs import AT_TAG, FROM_TAG, LACKS_TAG, Import
from kinetrack.tracking.store import experiment_id, open_store

from mlflow_servers import Server
from old_stores import make_foreign_store, make_old_database

NO_PAGE: PagedList[Any] = PagedList([], None)


@pytest.fixture(scope="module")
def kept_source(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    return make_foreign_store(tmp_path_factory.mktemp("kept") / "kept", empty_database)


@pytest.fixture
def source(kept_source: Path, tmp_path: Path) -> Path:
    """A store of somebody else, moved since its files were written."""
    return shutil.copytree(kept_source, tmp_path / "theirs")


def bring_in(source: Path | str) -> Import:
    return import_store(str(source), tell=lambda _: None)


def find_run(client: MlflowClient, name: str) -> Any:
    places = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(places, f"attributes.run_name = '{name}'")
    return run


def read_file(client: MlflowClient, run_id: str, path: str) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        return Path(client.download_artifacts(run_id, path, scratch)).read_text()


def open_source(source: Path) -> MlflowClient:
    uri = f"sqlite:///{source}/mlflow.db"
    return MlflowClient(uri, uri)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_run_is_here_with_all_that_it_has(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    here, there = find_run(client, "child"), find_run(open_source(source), "child")
    assert here.data.params == there.data.params
    assert len(here.data.params) == 150
    assert here.info.status == "FINISHED"
    assert (here.info.start_time, here.info.end_time) == (2000, 9000)
    assert here.data.tags["place"] == "course"
    assert here.data.tags[FROM_TAG] == there.info.run_id
    (inputs,) = here.inputs.dataset_inputs
    assert (inputs.dataset.name, inputs.dataset.digest) == ("clips", "abc")
    assert [(tag.key, tag.value) for tag in inputs.tags] == [("mlflow.data.context", "train")]


def test_metrics_keep_their_times_and_steps(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    run_id = find_run(client, "child").info.run_id
    history = client.get_metric_history(run_id, "loss")
    assert sorted((one.step, one.timestamp, one.value) for one in history) == [
        (step, 5000 + step, 1 / step) for step in range(1, 10)
    ]
    (odd,) = client.get_metric_history(run_id, "odd")
    assert math.isnan(odd.value)


def test_history_may_be_longer_than_a_request(project: Path, source: Path) -> None:
    theirs = open_source(source)
    run_id = find_run(theirs, "at work").info.run_id
    metrics = [Metric("loss", 1.0, 5000, step) for step in range(1200)]
    for part in (metrics[:1000], metrics[1000:]):
        theirs.log_batch(run_id, metrics=part)
    bring_in(source)
    client = open_store()
    assert len(client.get_metric_history(find_run(client, "at work").info.run_id, "loss")) == 1200


def test_files_are_found_where_the_store_is_now(project: Path, source: Path) -> None:
    work = bring_in(source)
    client = open_store()
    run = find_run(client, "child")
    assert run.info.artifact_uri.startswith(f"{SCHEME}:/")
    assert read_file(client, run.info.run_id, "notes/a b.txt") == "hello"
    assert len(work.without_files) == 2  # the runs that have logged none


def test_child_has_its_parent_of_here(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    parent = find_run(client, "parent")
    assert parent.info.status == "KILLED"
    child = find_run(client, "child")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_run_at_work_stays_so_and_a_deleted_one_is_left(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    assert find_run(client, "at work").info.status == "RUNNING"
    places = [client.get_experiment_by_name("golf").experiment_id]
    assert len(client.search_runs(places, run_view_type=ViewType.ALL)) == 3


def test_model_is_tied_to_its_runs(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    child = find_run(client, "child")
    (model,) = client.search_logged_models([child.info.experiment_id])
    assert (model.name, model.source_run_id) == ("net", child.info.run_id)
    assert (model.params, model.tags["kind"], model.model_type) == ({"lr": "1"}, "small", "agent")
    assert model.status.value == "READY"
    ((metric,),) = [model.metrics]
    assert (metric.key, metric.value, metric.timestamp, metric.step) == ("acc", 0.5, 7000, 1)
    assert (metric.dataset_name, metric.run_id) == ("clips", child.info.run_id)
    (output,) = child.outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, 4)
    (used,) = client.get_run(find_run(client, "parent").info.run_id).inputs.model_inputs
    assert used.model_id == model.model_id
    folder = project / "mlruns/artifacts/models" / model.model_id / "artifacts"
    assert files_below(folder) == {"weights": b"1 2 3"}


def test_registered_model_points_to_what_is_here(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    child = find_run(client, "child")
    registered = client.get_registered_model("net")
    assert (registered.description, registered.tags) == ("swings", {"team": "golf"})
    assert registered.aliases == {"best": 2}
    first, second = (client.get_model_version("net", number) for number in ("1", "2"))
    assert first.source == f"{child.info.artifact_uri}/old way"
    assert (first.run_id, first.description, first.tags["a"]) == (child.info.run_id, "first", "1")
    (model,) = client.search_logged_models([child.info.experiment_id])
    assert second.source == f"models:/{model.model_id}"


def test_registered_models_of_an_old_server_are_found(
    project: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the search for models that are no prompts, MLflow 2.9 answers that there are none."""
    monkeypatch.setattr(MlflowClient, "search_registered_models", lambda *_, **__: NO_PAGE)
    bring_in(source)
    assert open_store().get_registered_model("net").aliases == {"best": 2}


def test_alias_that_is_here_stays(project: Path, source: Path) -> None:
    client = open_store()
    run = client.create_run(experiment_id(client, "mine"))
    client.create_registered_model("net")
    client.create_model_version("net", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("net", "best", "1")
    bring_in(source)
    assert client.get_registered_model("net").aliases == {"best": 1}
    assert client.get_model_version("net", "3").tags[FROM_TAG].startswith("net/2 of ")


def test_experiments_of_one_name_are_one(project: Path, source: Path) -> None:
    client = open_store()
    place = experiment_id(client, "golf")
    client.set_experiment_tag(place, "club", "wood")
    client.create_run(place, run_name="mine")
    bring_in(source)
    assert find_run(client, "child").info.experiment_id == place
    assert client.get_experiment(place).tags == {"club": "wood"}


def test_source_is_as_it_was(project: Path, source: Path) -> None:
    before = files_below(source)
    bring_in(source)
    assert files_below(source) == before


def describe(client: MlflowClient) -> list[Any]:
    """What is in a store, but for ids and for the time of the import."""
    told: list[Any] = []
    for experiment in sorted(client.search_experiments(), key=lambda one: one.name):
        for run in client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]):
            run_id = run.info.run_id
            tags = {
                k: x for k, x in run.data.tags.items() if k not in (AT_TAG, "mlflow.parentRunId")
            }
            history = [client.get_metric_history(run_id, key) for key in sorted(run.data.metrics)]
            told += [
                (run.info.run_name, run.info.status, run.info.end_time, tags),
                "mlflow.parentRunId" in run.data.tags,
                run.data.params,
                str([(m.key, m.value, m.timestamp, m.step) for one in history for m in one]),
                len(run.inputs.dataset_inputs),
                len(client.get_run(run_id).inputs.model_inputs),
                len(run.outputs.model_outputs),
                files_below(Path("mlruns/artifacts", run_id)),
            ]
        for model in client.search_logged_models([experiment.experiment_id]):
            tags = {key: x for key, x in model.tags.items() if key != AT_TAG}
            told += [model.name, str(model.status), tags, len(model.metrics)]
    for name in client.search_registered_models():
        versions = client.search_model_versions(f"name='{name.name}'")
        told += [name.name, name.aliases, sorted((one.version, one.tags) for one in versions)]
    return told


def test_second_import_adds_nothing(project: Path, source: Path) -> None:
    assert bring_in(source).added == {
        "runs": 3,
        "models": 1,
        "registered models": 1,
        "registered versions": 2,
    }
    client = open_store()
    before = describe(client)
    again = bring_in(source)
    assert again.added == {}
    assert again.known == {"runs": 3, "models": 1, "registered versions": 2}
    assert describe(client) == before


@contextlib.contextmanager
def other_project(folder: Path, empty_database: Path) -> Iterator[Path]:
    """A second project with an empty store, as working directory within the block."""
    (folder / "mlruns").mkdir(parents=True)
    (folder / "dvc.yaml").touch()
    shutil.copy(empty_database, folder / "mlruns")
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, kept_source: Path
) -> list[Any]:
    folder = tmp_path_factory.mktemp("undisturbed") / "project"
    with other_project(folder, empty_database):
        bring_in(kept_source)
        return describe(open_store())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("create_run", 2),
        ("log_batch", 2),
        ("log_batch", 4),
        ("log_inputs", 1),
        ("log_artifacts", 1),
        ("set_terminated", 1),
        ("set_tag", 2),
        ("create_logged_model", 1),
        ("log_model_artifacts", 1),
        ("finalize_logged_model", 1),
        ("log_outputs", 1),
        ("create_registered_model", 1),
        ("create_model_version", 2),
        ("set_registered_model_alias", 1),
    ],
)
@pytest.mark.parametrize("where", ["before", "after"])
def test_import_goes_on_after_an_interruption(
    project: Path, source: Path, undisturbed: list[Any], *, name: str, calls: int, where: str
) -> None:
    """It ends at the n-th call of a method, before or after that does its work."""
    real: Callable[..., Any] = getattr(MlflowClient, name)
    left = [calls]

    def end(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and where == "before":
            raise KeyboardInterrupt
        result = real(*args, **options)
        if left[0] == 0:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(MlflowClient, name, end)
        bring_in(source)
    assert left[0] == 0
    bring_in(source)
    assert describe(open_store()) == undisturbed


def test_run_that_a_person_has_deleted_stays_deleted(project: Path, source: Path) -> None:
    bring_in(source)
    client = open_store()
    child = find_run(client, "child").info.run_id
    client.delete_run(child)
    assert bring_in(source).added == {}
    assert client.get_run(child).info.lifecycle_stage == "deleted"


def test_files_that_come_later_are_brought_in(project: Path, source: Path) -> None:
    (source / "mlruns").rename(source / "elsewhere")
    told = bring_in(source).without_files
    client = open_store()
    child = find_run(client, "child").info.run_id
    assert [line.split(" (")[0] for line in told] == [
        "run parent",
        "run child",
        "run at work",
        "model net",
    ]
    assert client.list_artifacts(child) == []
    (source / "elsewhere").rename(source / "mlruns")
    assert bring_in(source).added == {}
    assert [one.path for one in client.list_artifacts(child)] == ["notes", "old way"]
    assert LACKS_TAG not in client.get_run(child).data.tags


def test_same_training_is_not_brought_in_twice(project: Path, source: Path) -> None:
    theirs = open_source(source)
    theirs.set_tag(find_run(theirs, "child").info.run_id, "training", "t1")
    client = open_store()
    client.create_run(experiment_id(client, "golf"), tags={"training": "t1"}, run_name="mine")
    work = bring_in(source)
    assert (work.added["runs"], work.known["runs"]) == (2, 1)
    assert "models" not in work.added


def test_run_by_way_of_another_store_is_the_same_run(
    project: Path, source: Path, tmp_path: Path
) -> None:
    bring_in(source)
    with other_project(tmp_path / "third", source / "mlflow.db"):
        work = bring_in(project)
    assert (work.added, work.known["runs"]) == ({}, 3)


def test_other_project_of_ours_is_a_source(
    project: Path, source: Path, tmp_path: Path, empty_database: Path
) -> None:
    bring_in(source)
    moved = project.rename(tmp_path / "moved")
    with other_project(tmp_path / "other", empty_database) as other:
        bring_in(moved)
        client = open_store()
        child = find_run(client, "child")
        paths = [one.path for one in client.list_artifacts(child.info.run_id)]
        (model,) = client.search_logged_models([child.info.experiment_id])
    assert paths == ["notes", "old way"]
    folder = other / "mlruns/artifacts/models" / model.model_id / "artifacts"
    assert files_below(folder) == {"weights": b"1 2 3"}


@pytest.mark.parametrize(
    "address",
    ["/secret", "file:///secret", "/secret/../{secret}", "{secret}", "file://{secret}"],
)
def test_store_cannot_have_other_files_of_mine_copied(
    project: Path, source: Path, tmp_path: Path, address: str
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("mine")
    set_address(source, "child", address.format(secret=secret))
    bring_in(source)
    assert open_store().list_artifacts(find_run(open_store(), "child").info.run_id) == []


@pytest.mark.parametrize("name", ["file", "folder"])
def test_link_out_of_the_files_of_a_run_is_not_followed(
    project: Path, source: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("mine")
    folder = next(source.glob("mlruns/1/*/artifacts/notes"))
    (folder / "link").symlink_to(secret / "key" if name == "file" else secret)
    work = bring_in(source)
    assert any(line.startswith("run child") for line in work.without_files)
    assert not any(path.name in ("link", "key") for path in (project / "mlruns").rglob("*"))


class Attack:
    """Makes a folder where the pickle that holds it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


def test_model_that_would_run_code_is_copied_and_not_run(
    project: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle, a module to import, a script and a YAML tag, each of which would leave a mark."""
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")
    mark = tmp_path / "executed"
    script = f"import os; os.mkdir({str(mark)!r})"
    files = {
        "python_model.pkl": pickle.dumps(Attack(mark)),
        "data/model.pth": pickle.dumps(Attack(mark)),
        "code/evil.py": script.encode(),
        "__init__.py": script.encode(),
        "requirements.txt": b"--extra-index-url http://127.0.0.1:1/\nevil\n",
        "MLmodel": f"flavors: {{python_function: {{loader_module: evil, code: code}}}}\n"
        f"x: !!python/object/apply:os.mkdir [{mark}]\n".encode(),
    }
    (weights,) = source.glob("mlruns/1/models/*/artifacts/weights")
    for name, content in files.items():
        path = weights.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    bring_in(source)
    client = open_store()
    (output,) = find_run(client, "child").outputs.model_outputs
    for address in (f"run:{find_run(client, 'child').info.run_id}", "models:/net@best"):
        with pytest.raises(InputError) as told:
            fetch_model(address, tmp_path / "fetched")
        assert "\n" not in str(told.value)
    assert not (tmp_path / "fetched").exists()
    (copied,) = (project / "mlruns").rglob(f"*{output.model_id}/artifacts/python_model.pkl")
    assert copied.read_bytes() == files["python_model.pkl"]
    assert not mark.exists()


def test_links_within_the_files_of_a_run_are_copied(project: Path, source: Path) -> None:
    folder = next(source.glob("mlruns/1/*/artifacts/notes"))
    (folder / "link").symlink_to("a b.txt")
    bring_in(source)
    assert [one.read_text() for one in (project / "mlruns").rglob("link")] == ["hello"]


def set_address(source: Path, name: str, address: str) -> None:
    with contextlib.closing(sqlite3.connect(source / "mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE name = ?", (address, name))
        database.commit()


def test_own_store_is_no_source(project: Path) -> None:
    for path in (project, project / "mlruns", project / "mlruns/mlflow.db"):
        with pytest.raises(InputError, match="is this project's own store, expected another one"):
            bring_in(path)


def test_own_server_is_no_source(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="is this project's own store"):
        bring_in("http://127.0.0.1:1/")


@pytest.mark.parametrize("name", ["missing", "empty", "full of other things"])
def test_place_without_a_store_is_told(project: Path, tmp_path: Path, name: str) -> None:
    if name != "missing":
        (tmp_path / name).mkdir()
    if name == "full of other things":
        (tmp_path / name / "note.txt").touch()
    with pytest.raises(InputError, match=rf"{name}: no MLflow store is here, expected a folder"):
        bring_in(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"), [(b"text " * 100, "not an MLflow database"), (b"", "is empty")]
)
def test_file_that_is_no_database_is_told(
    project: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "some.db").write_bytes(content)
    with pytest.raises(InputError, match=rf"some\.db: {problem}"):
        bring_in(tmp_path / "some.db")


def test_server_that_does_not_answer_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        InputError, match=r"//\*\*\*@127\.0\.0\.1:1: no MLflow store answers"
    ) as told:
        bring_in("http://ann:secret@127.0.0.1:1")
    assert "secret" not in str(told.value)


def test_database_of_a_newer_mlflow_is_told(project: Path, source: Path) -> None:
    with contextlib.closing(sqlite3.connect(source / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'fff0'")
        database.commit()
    with pytest.raises(InputError, match="a newer MLflow made this database"):
        bring_in(source)


@pytest.mark.slow
def test_old_database_is_a_source_and_stays_old(project: Path, tmp_path: Path) -> None:
    old = tmp_path / "theirs" / "runs.db"
    make_old_database(old)
    before = old.read_bytes()
    bring_in(old)
    run = find_run(open_store(), "swing")
    assert (run.data.params, run.data.tags["place"]) == ({"lr": "0.1"}, "course")
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == ["runs.db"]


@pytest.fixture
def file_store(tmp_path: Path) -> Path:
    """A file store with one run, as MLflow wrote it, moved since."""
    written = tmp_path / "written"
    code = (
        f"from mlflow import MlflowClient; client = MlflowClient('file://{written}');"
        "place = client.create_experiment('golf'); run = client.create_run(place, run_name='old');"
        "client.log_metric(run.info.run_id, 'loss', 0.5, timestamp=77, step=3);"
        "client.log_text(run.info.run_id, 'hello', 'note.txt');"
        "client.set_terminated(run.info.run_id)"
    )
    environ = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environ, check=True)
    return written.rename(tmp_path / "mlruns")


@pytest.mark.slow
@pytest.mark.parametrize("above", [False, True])
def test_file_store_is_a_source(project: Path, file_store: Path, above: bool) -> None:
    before = files_below(file_store)
    for _ in range(2):
        work = bring_in(file_store.parent if above else file_store)
    client = open_store()
    run_id = find_run(client, "old").info.run_id
    (metric,) = client.get_metric_history(run_id, "loss")
    assert (metric.value, metric.timestamp, metric.step) == (0.5, 77, 3)
    assert read_file(client, run_id, "note.txt") == "hello"
    assert (work.added, work.left_out) == ({}, [])
    assert files_below(file_store) == before


@pytest.mark.slow
def test_run_of_a_file_store_that_would_run_code_is_left_out(
    project: Path, file_store: Path, tmp_path: Path
) -> None:
    (meta,) = file_store.glob("*/????????????????????????????????/meta.yaml")
    evil = meta.parent.parent / ("0" * 32)
    shutil.copytree(meta.parent, evil)
    tag = f"!!python/object/apply:os.mkdir [{tmp_path / 'executed'}]"
    (evil / "meta.yaml").write_text(f"{meta.read_text()}evil: {tag}\n")
    assert bring_in(file_store).added["runs"] == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_run_of_a_file_store_that_cannot_be_read_is_told(project: Path, file_store: Path) -> None:
    (meta,) = file_store.glob("*/????????????????????????????????/meta.yaml")
    broken = meta.parent.parent / ("0" * 32)
    broken.mkdir()
    (broken / "meta.yaml").write_text("run_id: [")
    work = bring_in(file_store)
    assert work.added["runs"] == 1
    assert work.left_out == ["1 runs that MLflow cannot read"]


@pytest.mark.slow
def test_server_is_a_source(project: Path, tmp_path: Path, source: Path) -> None:
    (tmp_path / "team").mkdir()
    server = Server(tmp_path / "team", source / "mlflow.db")
    try:
        theirs = MlflowClient(server.address, server.address)
        place = theirs.create_experiment("served")
        run = theirs.create_run(place, run_name="far")
        theirs.log_text(run.info.run_id, "hello", "notes/far.txt")
        model = theirs.create_logged_model(place, "far", run.info.run_id)
        theirs.log_model_artifact(model.model_id, str(project / "dvc.yaml"))
        theirs.create_registered_model("far")
        theirs.create_model_version("far", f"models:/{model.model_id}", model_id=model.model_id)
        for _ in range(2):
            work = bring_in(server.address)
    finally:
        server.end()
    assert work.added == {}
    client = open_store()
    run_id = find_run(client, "far").info.run_id
    assert read_file(client, run_id, "notes/far.txt") == "hello"
    (model,) = client.search_logged_models([find_run(client, "far").info.experiment_id])
    assert client.get_model_version("far", "1").source == f"models:/{model.model_id}"
    assert (project / "mlruns/artifacts/models" / model.model_id / "artifacts/dvc.yaml").exists()
    assert len(find_run(client, "child").data.params) == 150


@pytest.mark.slow
def test_server_is_a_target(
    bare_project: Path,
    tmp_path: Path,
    source: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "team").mkdir()
    server = Server(tmp_path / "team", empty_database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    try:
        for _ in range(2):
            work = bring_in(source)
        client = open_store()
        child = find_run(client, "child")
        (model,) = client.search_logged_models([child.info.experiment_id])
        versions = [client.get_model_version("net", number).source for number in ("1", "2")]
        note = read_file(client, child.info.run_id, "notes/a b.txt")
    finally:
        server.end()
    assert work.added == {}
    assert child.info.artifact_uri.startswith("mlflow-artifacts:")
    assert note == "hello"
    assert versions == [f"{child.info.artifact_uri}/old way", f"models:/{model.model_id}"]
    assert not (bare_project / "mlruns").exists()
