import pickle
import re
import shutil
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kinetrack.errors import InputError
from kinetrack.learning import checkpoint
from kinetrack.tracking import fetching
from kinetrack.tracking.database import database_path
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.journal import ModelFacts
from kinetrack.tracking.runs import training_run
from kinetrack.tracking.store import open_store, tracking_uri

CONTENTS = {
    "weights.safetensors": b"\x00\xff weights",
    "model.json": b"{}\n",
    "trained_on.txt": b"abc\r\n",
}


@pytest.fixture
def model_run(project: Path, serving_package: Path) -> str:
    """The id of a run with a logged model; the folder that was logged is gone."""
    folder = project / "data" / "my model"
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        run.log_model(folder, ModelFacts("0" * 32 + ".dir", (3, 4, 8, 8), 2))
    assert run.is_sent
    shutil.rmtree(folder)
    return run.run_id


def logged_folder(project: Path) -> Path:
    (folder,) = (project / "mlruns/artifacts/models").glob("*/artifacts/artifacts/my model")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def register(source: str, run_id: str, *, name: str = "bowling net") -> MlflowClient:
    client = open_store()
    client.create_registered_model(name)
    client.create_model_version(name, source, run_id=run_id)
    client.set_registered_model_alias(name, "best", "1")
    return client


def logged_location(run_id: str) -> str:
    client = open_store()
    (output,) = client.get_run(run_id).outputs.model_outputs
    return client.get_logged_model(output.model_id).artifact_location


def test_files_are_those_of_a_model_folder() -> None:
    names = {checkpoint.WEIGHTS_NAME, checkpoint.CARD_NAME, checkpoint.TRAINED_NAME}
    assert set(fetching._FILES) == names


@pytest.mark.parametrize("form", ["run:{}", "runs:/{}", "runs:/{}/model"])
def test_model_of_a_run(model_run: str, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "new" / "start"
    assert fetch_model(form.format(model_run), folder) == model_run
    assert contents(folder) == CONTENTS


@pytest.mark.parametrize("address", ["models:/bowling net@best", "models:/bowling net/1"])
@pytest.mark.parametrize("source", [logged_location, "runs:/{}/model".format])
def test_registered_model(
    model_run: str, tmp_path: Path, address: str, source: Callable[[str], str]
) -> None:
    register(source(model_run), model_run)
    assert fetch_model(address, tmp_path / "start") == model_run
    assert contents(tmp_path / "start") == CONTENTS


def test_model_registered_by_its_id(
    model_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output,) = open_store().get_run(model_run).outputs.model_outputs
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())  # MLflow's registry wants it here
    register(f"models:/{output.model_id}", model_run)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert fetch_model("models:/bowling net@best", tmp_path / "start") == model_run
    assert contents(tmp_path / "start") == CONTENTS


def test_alias_that_moves_on_gives_the_other_model(model_run: str, tmp_path: Path) -> None:
    client = register(logged_location(model_run), model_run)
    client.create_model_version("bowling net", "kinetrack:///artifacts/none", run_id="0" * 32)
    fetch_model("models:/bowling net@best", tmp_path / "start")
    client.set_registered_model_alias("bowling net", "best", "2")
    with pytest.raises(InputError, match="holds no model of Kinetrack"):
        fetch_model("models:/bowling net@best", tmp_path / "start")


def test_earlier_folder_is_replaced(model_run: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    fetch_model(f"run:{model_run}", tmp_path)
    assert contents(tmp_path) == CONTENTS


def test_no_other_file_is_taken_and_none_is_run(
    model_run: str, project: Path, tmp_path: Path
) -> None:
    logged = logged_folder(project)
    (logged / "evil.pkl").write_bytes(pickle.dumps(types.SimpleNamespace()))
    for code in logged.parents[1].rglob("*.py"):
        code.write_text("raise SystemExit('was run')")
    (logged.parents[1] / "MLmodel").write_text("!!python/object/apply:os.abort []")
    fetch_model(f"run:{model_run}", tmp_path / "start")
    assert contents(tmp_path / "start") == CONTENTS


@pytest.mark.parametrize(
    "source",
    [
        "",
        "data/model",
        "run:",
        "run:../../x",
        "runs:/abc/other",
        "models:/net",
        "models:/net/latest",
        "models:/net/-1",
        "models:/net/1/../..",
        "models:/net@",
        "models:/a' OR name = 'b/1",
        "models:/../1/x",
        "https://team.example/model",
        "run:abc\n",
    ],
)
def test_other_address_is_refused_before_mlflow_is_asked(
    bare_project: Path, tmp_path: Path, source: str
) -> None:
    with pytest.raises(InputError, match="is not the address of a model in MLflow, expected run:"):
        fetch_model(source, tmp_path / "start")
    assert not (bare_project / "mlruns").exists()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (f"run:{'0' * 32}", "no such run in MLflow at sqlite:.*kinetrack ui"),
        ("run:none", "no such run in MLflow"),
        ("models:/other net@best", "no such registered model, expected one of bowling net$"),
        ("models:/..@best", "no such registered model"),
        ("models:/bowling net@first", "no such alias, expected one of best$"),
        ("models:/bowling net/7", "no such version, expected one of 1, 2$"),
        ("models:/bowling net/0", "no such version"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(
    project: Path, tmp_path: Path, source: str, problem: str
) -> None:
    client = register("kinetrack:///artifacts/x", "0" * 32)
    client.create_model_version("bowling net", "kinetrack:///artifacts/x")
    with pytest.raises(InputError, match=problem):
        fetch_model(source, tmp_path / "start")
    assert not (tmp_path / "start").exists()


def test_nothing_is_registered_yet(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^models:/net/1: no model is registered in MLflow"):
        fetch_model("models:/net/1", tmp_path / "start")


def test_many_names_are_cut_short() -> None:
    assert fetching._one_of(map(str, range(1, 100))).endswith(", 19, 20, ...")


def test_run_without_a_model(project: Path, tmp_path: Path) -> None:
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        pass
    with pytest.raises(InputError, match="this run has no model, found status FINISHED"):
        fetch_model(f"run:{run.run_id}", tmp_path / "start")


def test_half_logged_model(project: Path, tmp_path: Path) -> None:
    with training_run(experiment="e", name="x", params={}, tags={}) as run:
        client = open_store()
        experiment = client.get_run(run.run_id).info.experiment_id
        client.create_logged_model(experiment, "model", source_run_id=run.run_id)
        with pytest.raises(InputError, match="this run has no model, found status RUNNING"):
            fetch_model(f"run:{run.run_id}", tmp_path / "start")


def test_deleted_run(model_run: str, tmp_path: Path) -> None:
    open_store().delete_run(model_run)
    with pytest.raises(InputError, match="no such run"):
        fetch_model(f"run:{model_run}", tmp_path / "start")


@pytest.mark.parametrize("name", CONTENTS)
def test_missing_file_is_named_and_the_earlier_folder_stays(
    model_run: str, project: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "kept.txt").touch()
    (logged_folder(project) / name).unlink()
    with pytest.raises(InputError, match=f"lacks files of a model, found no {re.escape(name)}$"):
        fetch_model(f"run:{model_run}", tmp_path)
    assert (tmp_path / "kept.txt").exists()


def test_artifacts_that_were_deleted(model_run: str, project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / "mlruns" / "artifacts")
    with pytest.raises(InputError, match="holds no model of Kinetrack"):
        fetch_model(f"run:{model_run}", tmp_path / "start")


class LyingStore:
    """Names in its lists lead out of the folder; a download does what it is asked for."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders
        self.asked: list[str] = []

    def list_artifacts(self, path: str) -> list[types.SimpleNamespace]:
        names = self.folders if path == "artifacts" else [f"../../{name}" for name in CONTENTS]
        is_dir = path == "artifacts"
        return [types.SimpleNamespace(path=name, is_dir=is_dir) for name in names]

    def download_artifacts(self, path: str, dst_path: str) -> str:
        self.asked.append(path)
        target = Path(dst_path, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path)
        return str(target)


def fetch_from(store: LyingStore, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    registry = "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository"
    monkeypatch.setattr(registry, lambda *_, **__: store)
    register("kinetrack:///artifacts/x", "0" * 32)
    fetch_model("models:/bowling net/1", folder)


def test_names_of_a_lying_store_lead_nowhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LyingStore(["../../../etc"])
    fetch_from(store, monkeypatch, tmp_path / "start")
    assert sorted(store.asked) == sorted(f"artifacts/etc/{name}" for name in CONTENTS)
    assert set(contents(tmp_path / "start")) == set(CONTENTS)


@pytest.mark.parametrize("folders", [[".."], ["../.."], [], ["a", "b"]])
def test_other_layout_is_no_model(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str]
) -> None:
    store = LyingStore(folders)
    with pytest.raises(InputError, match="holds no model of Kinetrack"):
        fetch_from(store, monkeypatch, tmp_path / "start")
    assert store.asked == []


def test_server_that_does_not_answer(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="Connection refused") as told:
        fetch_model("run:abc", tmp_path / "start")
    assert "cannot be fetched from MLflow at http://***@127.0.0.1:9" in str(told.value)
    assert "secret" not in str(told.value)


def test_database_that_is_none(project: Path, tmp_path: Path) -> None:
    database_path(project).write_text("no database")
    with pytest.raises(InputError, match="not an MLflow database"):
        fetch_model("run:abc", tmp_path / "start")


def test_nothing_is_printed(
    model_run: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    fetch_model(f"run:{model_run}", tmp_path / "start")
    assert capfd.readouterr() == ("", "")
