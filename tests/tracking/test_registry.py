"""Registered models in a real store, here and on a server."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kinetrack.errors import InputError
from kinetrack.tracking import registry
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.journal import ModelFacts
from kinetrack.tracking.records import NoSuchRunError
from kinetrack.tracking.registry import (
    ModelVersion,
    find_model_version,
    find_run_or_hint,
    list_model_versions,
    look_for_files,
    register_model,
    require_alias,
    require_name,
    set_alias,
)
from kinetrack.tracking.runs import training_run
from kinetrack.tracking.store import open_store

from mlflow_servers import Server

CONTENTS = {"weights.safetensors": b"0.5", "model.json": b"{}\n", "trained_on.txt": b""}
CLIP_SHAPE = (3, 4, 8, 8)


def train(project: Path, *, name: str = "x") -> str:
    """The id of a run with a logged model."""
    folder = project / "data/model"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in CONTENTS.items():
        (folder / file).write_bytes(content)
    with training_run(experiment="e", name=name, params={}, tags={}) as run:
        run.log_model(folder, ModelFacts("0" * 32 + ".dir", CLIP_SHAPE, 2))
    assert run.is_sent
    return run.run_id


@pytest.fixture
def run_id(project: Path, serving_package: Path) -> str:
    return train(project)


def register(run_id: str, name: str = "net", *, description: str = "words") -> ModelVersion:
    return register_model(run_id, name, tags={"dataset": "mine"}, description=description)


def test_a_model_is_a_version_with_tags_description_and_alias(run_id: str) -> None:
    version = register(run_id)
    set_alias(version, "champion")
    [found] = list_model_versions()
    assert found == version._replace(aliases=("champion",))
    assert (found.name, found.version, found.run_id) == ("net", 1, run_id)
    assert found.tags == {"dataset": "mine"}
    (output,) = open_store().get_run(run_id).outputs.model_outputs
    assert found.model_id == output.model_id
    shown = open_store().get_model_version("net", "1")
    assert (shown.description, shown.status) == ("words", "READY")


def test_the_page_of_the_logged_model_shows_where_it_is_registered(run_id: str) -> None:
    version = register(run_id)
    register(run_id)
    register(run_id, "other")
    tags = open_store().get_logged_model(version.model_id).tags
    noted = [{"name": "net", "version": 1}, {"name": "other", "version": 1}]
    assert json.loads(tags["mlflow.modelVersions"]) == noted


def test_a_model_is_registered_once_and_a_person_s_words_stay(run_id: str) -> None:
    first = register(run_id)
    open_store().update_model_version("net", "1", description="mine")
    open_store().delete_model_version_tag("net", "1", "dataset")
    assert register(run_id)._replace(tags=first.tags) == first
    [found] = list_model_versions()
    assert found == first
    assert open_store().get_model_version("net", "1").description == "mine"


def test_versions_are_listed_by_name_and_number(project: Path, serving_package: Path) -> None:
    runs = [train(project, name=str(number)) for number in range(2)]
    for name in ("b", "a"):
        for run in runs:
            register(run, name)
    listed = [(one.name, one.version, one.run_id) for one in list_model_versions()]
    first, second = runs
    assert listed == [("a", 1, first), ("a", 2, second), ("b", 1, first), ("b", 2, second)]


def test_an_alias_is_of_one_version(project: Path, serving_package: Path) -> None:
    for number in range(2):
        set_alias(register(train(project, name=str(number))), "champion")
    assert [one.aliases for one in list_model_versions()] == [(), ("champion",)]


def test_no_store_is_made_by_asking(bare_project: Path) -> None:
    assert list_model_versions() == []
    assert not (bare_project / "mlruns").exists()


def test_nothing_is_registered(project: Path) -> None:
    assert list_model_versions() == []


@pytest.mark.parametrize("step", ["create_model_version", "set_logged_model_tags"])
def test_an_interrupted_registration_is_completed_by_the_next(
    run_id: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            register(run_id)
    version = register(run_id)
    assert list_model_versions() == [version]
    assert "net" in open_store().get_logged_model(version.model_id).tags["mlflow.modelVersions"]


def test_several_at_once_make_one_registered_model(project: Path, serving_package: Path) -> None:
    runs = [train(project, name=str(number)) for number in range(3)]
    threads = [threading.Thread(target=register, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = list_model_versions()
    assert sorted(one.run_id for one in versions) == sorted(runs)
    assert [one.version for one in versions] == [1, 2, 3]


def test_a_run_without_a_model_is_refused(project: Path) -> None:
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        pass
    with pytest.raises(InputError, match="has no whole model in MLflow -> kinetrack track"):
        register(run.run_id)
    assert list_model_versions() == []


def test_a_description_is_cut_to_what_databases_hold(run_id: str) -> None:
    register(run_id, description="x" * 6000)
    assert len(open_store().get_model_version("net", "1").description) == 5000


def test_a_version_is_found_by_alias_and_number(run_id: str) -> None:
    set_alias(register(run_id), "champion")
    assert find_model_version("net", "champion") == find_model_version("net", 1)


@pytest.mark.parametrize(
    ("name", "what", "problem"),
    [
        ("other", 1, "no such registered model, expected one of net -> `kinetrack models`"),
        ("net", 2, "has no version 2, expected one of 1, champion"),
        ("net", "challenger", "has no version challenger"),
        ("net", "1", "has no version 1, "),
        ("../net", 1, "cannot be the name"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    project: Path, name: str, what: str | int, problem: str
) -> None:
    client = open_store()
    client.create_registered_model("net")
    client.create_model_version("net", "kinetrack:///artifacts/x")
    client.set_registered_model_alias("net", "champion", "1")
    with pytest.raises(InputError, match=problem):
        find_model_version(name, what)


def test_where_nothing_is_registered_no_name_is_named(project: Path) -> None:
    problem = (
        f"^net: no model is registered in MLflow at sqlite:///{project}/mlruns/mlflow.db -> "
        "a champion is shared by an MLflow server only .*`dvc pull train` brings"
    )
    with pytest.raises(InputError, match=problem):
        find_model_version("net", 1)


def test_a_run_is_found_and_the_name_of_a_registered_model_has_a_hint(run_id: str) -> None:
    assert find_run_or_hint("x").run_id == run_id
    with pytest.raises(NoSuchRunError, match=r"no such run in MLflow .*lists them"):
        find_run_or_hint("net")
    first = register(run_id)
    with pytest.raises(InputError, match=r"a registered model has this name: models:/net/1$"):
        find_run_or_hint("net")
    set_alias(first, "champion")
    open_store().create_model_version("net", "kinetrack:///artifacts/x")
    hint = "^net: no such run .* -> a registered model has this name: models:/net@champion$"
    with pytest.raises(InputError, match=hint):
        find_run_or_hint("net")
    with pytest.raises(NoSuchRunError):
        find_run_or_hint("another")


def test_many_names_are_cut_short(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [ModelVersion(f"net{number:02}", 1, (), "", "", 0, {}) for number in range(30)]
    monkeypatch.setattr(registry, "list_model_versions", lambda: many)
    with pytest.raises(InputError, match=r"net19, \.\.\. -> "):
        find_model_version("net", 1)


@pytest.mark.parametrize(
    "alias", ["", "a b", "a/b", "latest", "Latest", "v1", "V22", "ä", "a\n", "a" * 81, "@a"]
)
def test_what_mlflow_takes_for_no_alias_is_refused(alias: str) -> None:
    with pytest.raises(InputError, match="cannot be an alias"):
        require_alias(alias)


def test_an_alias_that_is_let_through_is_one_for_mlflow(run_id: str) -> None:
    version = register(run_id)
    aliases = ("a_B-9", "a" * 80, "champion", "v1-old", "vx")
    for alias in aliases:
        require_alias(alias)
        set_alias(version, alias)
    assert list_model_versions()[0].aliases == aliases


@pytest.mark.parametrize(
    "name",
    ["", " ", "a/b", "a:b", "a@b", "..", ".a", "a\nb", "a\0", "a'b", 'a"b', "a" * 151, "ä" * 76],
)
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a registered model"):
        require_name(name)


def test_a_name_that_is_let_through_can_be_registered_and_fetched(
    run_id: str, tmp_path: Path
) -> None:
    for name in ("net", "bowling net", "größe <b>", "a" * 150, "1"):
        require_name(name)
        assert fetch_model(register(run_id, name).address, tmp_path / "fetched") == run_id


def test_files_of_a_version_are_looked_for(run_id: str, project: Path) -> None:
    version = register(run_id)
    assert look_for_files([version]) == [True]
    (weights,) = (project / "mlruns/artifacts/models").rglob("weights.safetensors")
    weights.unlink()
    assert look_for_files([version]) == [False]
    shutil.rmtree(project / "mlruns/artifacts")
    assert look_for_files([version]) == [False]
    assert look_for_files([version._replace(model_id="m-" + "0" * 32)]) == [False]


def test_where_files_are_is_not_known_of_a_version_that_is_no_logged_model(project: Path) -> None:
    client = open_store()
    client.create_registered_model("by hand")
    client.create_model_version("by hand", "s3://none/model")
    [version] = list_model_versions()
    assert (version.model_id, version.run_id, version.tags) == ("", "", {})
    assert look_for_files([version]) == [None]


def test_a_store_of_files_that_fails_hinders_no_other(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no such host")

    version = register(run_id)
    monkeypatch.setattr(MlflowClient, "list_logged_model_artifacts", fail)
    assert look_for_files([version]) == [None]


def test_a_note_of_another_kind_on_the_logged_model_is_replaced(run_id: str) -> None:
    (output,) = open_store().get_run(run_id).outputs.model_outputs
    open_store().set_logged_model_tags(output.model_id, {"mlflow.modelVersions": "{"})
    assert register(run_id).version == 1


@pytest.mark.parametrize("ask", [list_model_versions, lambda: register("0" * 32)])
def test_a_server_that_does_not_answer_is_one_line(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, ask: object
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"MLflow at http://\*\*\*@127.*refused") as told:
        ask()  # type: ignore[operator]
    assert "secret" not in str(told.value)


def test_the_weights_are_called_as_fetching_has_them() -> None:
    from kinetrack.tracking import fetching

    assert registry._WEIGHTS in fetching._FILES


@pytest.mark.slow
def test_a_team_s_server_registers_and_gives_back(
    bare_project: Path,
    tmp_path: Path,
    empty_database: Path,
    serving_package: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(tmp_path, empty_database)
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        run_id = train(bare_project)
        version = register(run_id)
        set_alias(version, "champion")
        assert register(run_id) == version._replace(aliases=("champion",))
        assert list_model_versions() == [version._replace(aliases=("champion",))]
        assert look_for_files([version]) == [True]
        logged = open_store().get_logged_model(version.model_id)
        assert len(json.loads(logged.tags["mlflow.modelVersions"])) == 1
        assert fetch_model("models:/net@champion", tmp_path / "fetched") == run_id
        read = {path.name: path.read_bytes() for path in (tmp_path / "fetched").iterdir()}
        assert read == CONTENTS
        threads = [threading.Thread(target=register, args=(run_id, name)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [one.name for one in list_model_versions()] == ["a", "b", "c", "net"]
    finally:
        server.end()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="refused"):
        list_model_versions()
