"""Fetching a model: from which place, checked, and whole or not at all."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from kinetrack.cli import pull_model as module
from kinetrack.cli.pull_model import pull_model
from kinetrack.cli.scores import Score, to_tags
from kinetrack.errors import InputError, WriteError
from kinetrack.files import file_md5
from kinetrack.learning.checkpoint import load_model, read_card, save_model
from kinetrack.learning.models import build_model
from kinetrack.tracking import fetching
from kinetrack.tracking.records import RunRecord
from kinetrack.tracking.registry import ModelVersion
from kinetrack.versioning import remotes
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.lock import folder_md5

from factories import model_card

RUN_ID, COMMIT = "ab" * 16, "c" * 40
FILES = {"weights.safetensors", "trained_on.txt", "model.json"}
SCORE = Score({"test/accuracy": 0.875}, 40, "0" * 64, 8, (0.75, 0.9625))


class MadeUp:
    """A registered model, whose bytes can be taken away from each place."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.root = folder / "project"
        self.root.mkdir()
        self.model, self.cache = model, folder / "cache"
        md5, sha256 = folder_md5(model), read_card(model).weights_sha256
        self.tags = {"model_md5": md5, "model_sha256": sha256, "git.commit": COMMIT}
        metrics = {"test/accuracy": 0.5, "test/loss": float("inf"), "val/accuracy": 0.25}
        self.run: RunRecord | None = RunRecord(
            RUN_ID, "a run", "FINISHED", dict(self.tags), {}, metrics
        )
        self.version_tags = self.tags | to_tags(SCORE)
        self.artifacts = {"params.yaml": b"dataset: mine\n", "dvc.lock": b"schema: '2.0'\n"}
        self.in_mlflow, self.remote = True, dict[str, bytes]()
        self.name, self.is_connected = "team", True

    def find_model_version(self, name: str, what: str | int) -> ModelVersion:
        assert (name, what) in (("net", "champion"), ("net", 3))
        return ModelVersion("net", 3, ("champion",), RUN_ID, "m-1", 0, self.version_tags)

    def find_record(self, name: str) -> RunRecord:
        if self.run is None:
            raise InputError(name, "no such run")
        assert name in (RUN_ID, "a run")
        return self.run

    def read_artifact(self, record: RunRecord, name: str) -> bytes | None:
        return self.artifacts.get(name)

    def fetch_model(self, source: str, folder: Path) -> None:
        assert source in ("models:/net/3", f"run:{RUN_ID}")
        if not self.in_mlflow:
            raise InputError(source, "lacks files of a model")
        shutil.copytree(self.model, folder)

    def objects(self) -> dict[str, bytes]:
        """What DVC keeps of the model."""
        files = {file_md5(path): path for path in sorted(self.model.iterdir())}
        entries = [{"md5": md5, "relpath": path.name} for md5, path in files.items()]
        entries.sort(key=lambda entry: entry["relpath"])
        listing = json.dumps(entries, sort_keys=True).encode()
        return {
            folder_md5(self.model): listing,
            **{md5: path.read_bytes() for md5, path in files.items()},
        }

    def fill_cache(self) -> None:
        for md5, content in self.objects().items():
            path = object_path(self.cache, md5)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def open_remote(self, root: Path, name: str | None) -> "MadeUp":
        assert (root, name) == (self.root, None)
        if not self.remote:
            raise InputError(".dvc/config", "names no remote")
        return self

    def which_are_there(self, md5s: list[str]) -> set[str]:
        return set(md5s) & set(self.remote)

    def open(self, md5: str) -> BinaryIO:
        if not self.is_connected:
            raise ConnectionResetError("reset by peer")
        return io.BytesIO(self.remote[md5])

    def broken_off(self, error: Exception) -> InputError:
        return InputError(self.name, "broke off", found=error)

    def pull(self, model: str = "net@champion", *, into: Path | None = None) -> Path:
        told = pull_model(model, root=self.root, into=into)
        return Path(told.partition(" is in ")[2].partition(", from")[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    net = build_model("small_3dcnn", num_classes=2, num_frames=4, size_px=16)
    save_model(folder, net, model_card(), trained_on=["a"])
    return folder


@pytest.fixture
def made_up(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    fake = MadeUp(tmp_path, model)
    for name in ("find_model_version", "find_record", "read_artifact", "fetch_model"):
        monkeypatch.setattr(module, name, getattr(fake, name))
    monkeypatch.setattr(module, "find_run_or_hint", fake.find_record)
    monkeypatch.setattr(module, "cache_folder", lambda root: fake.cache)
    monkeypatch.setattr(remotes, "open_remote", fake.open_remote)
    return fake


def source(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "source.json").read_text())
    return content


def test_names_are_those_that_fetching_has():
    assert set(module._MODEL_FILES) == FILES == set(fetching._FILES)


def test_a_folder_has_the_model_the_params_the_lock_and_where_it_is_from(made_up, capsys):
    folder = made_up.pull()
    assert folder == made_up.root / "models/net@champion"
    assert {path.name for path in folder.iterdir()} == FILES | {
        "params.yaml",
        "dvc.lock",
        "source.json",
    }
    assert load_model(folder)[1].labels == ["Jump", "Walk"]
    assert (folder / "params.yaml").read_bytes() == b"dataset: mine\n"
    told = source(folder)
    assert (told["model"], told["version"], told["alias"]) == ("net", 3, "champion")
    assert (told["run_id"], told["git.commit"], told["from"]) == (RUN_ID, COMMIT, "MLflow")
    assert (told["metrics"], told["interval"]) == ({"test/accuracy": 0.875}, [0.75, 0.9625])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ("net@champion", "net@champion"),
        ("models:/net@champion", "net@champion"),
        ("net/3", "net@v3"),
        ("models:/net/3", "net@v3"),
        ("a run", f"run-{RUN_ID[:8]}"),
        (RUN_ID, f"run-{RUN_ID[:8]}"),
        (f"run:{RUN_ID}", f"run-{RUN_ID[:8]}"),
    ],
)
def test_each_way_to_name_a_model_has_its_folder(named, name, made_up):
    assert made_up.pull(named) == made_up.root / "models" / name


def test_the_result_of_a_run_is_that_of_its_metrics(made_up):
    told = source(made_up.pull("a run"))
    assert (told["model"], told["run_name"]) == (None, "a run")
    assert (told["metrics"], told["interval"]) == ({"test/accuracy": 0.5}, None)


def test_a_version_whose_run_was_deleted_comes_without_params(made_up, capsys):
    made_up.run = None
    folder = made_up.pull()
    assert {path.name for path in folder.iterdir()} == FILES | {"source.json"}
    assert source(folder)["run_id"] == RUN_ID
    assert "without params.yaml and dvc.lock: " in capsys.readouterr().err


def test_files_that_a_run_does_not_have_are_left_out(made_up):
    made_up.artifacts = {}
    assert "dvc.lock" not in {path.name for path in made_up.pull().iterdir()}


def test_bytes_that_mlflow_lost_come_from_the_cache(made_up, capsys):
    made_up.in_mlflow = False
    made_up.fill_cache()
    folder = made_up.pull()
    assert source(folder)["from"] == "DVC's cache"
    assert (folder / "weights.safetensors").read_bytes()
    told = capsys.readouterr().err
    assert told == "pull-model: not from MLflow: models:/net/3: lacks files of a model\n"


def test_bytes_that_the_cache_lost_too_come_from_the_remote(made_up):
    made_up.in_mlflow = False
    made_up.remote = made_up.objects()
    folder = made_up.pull()
    assert source(folder)["from"] == "the DVC remote"
    assert load_model(folder)[1] == read_card(made_up.model)


def test_bytes_that_are_nowhere_are_one_line_with_each_place(made_up):
    made_up.in_mlflow = False
    with pytest.raises(InputError) as told:
        made_up.pull()
    line = str(told.value)
    assert "net@champion: its bytes cannot be had, found MLflow: models:/net/3: lacks" in line
    assert "DVC's cache: " in line
    assert "the DVC remote: .dvc/config: names no remote" in line
    assert list((made_up.root / "models").iterdir()) == []


def damage_listing(made_up: MadeUp) -> None:
    made_up.remote[made_up.tags["model_md5"]] = b'[{"md5": "x", "relpath": "../../x"}]'


def damage_file(made_up: MadeUp) -> None:
    made_up.remote[file_md5(made_up.model / "weights.safetensors")] = b"other"


def lose_file(made_up: MadeUp) -> None:
    del made_up.remote[file_md5(made_up.model / "weights.safetensors")]


def disconnect(made_up: MadeUp) -> None:
    made_up.is_connected = False


@pytest.mark.parametrize(
    ("hurt", "problem"),
    [
        (damage_listing, "is not whole there"),
        (damage_file, "is not whole there"),
        (lose_file, "is not in the remote team -> dvc push"),
        (disconnect, "team: broke off"),
    ],
)
def test_a_remote_in_disorder_gives_nothing(
    hurt: Callable[[MadeUp], None], problem: str, made_up: MadeUp
) -> None:
    made_up.in_mlflow = False
    made_up.remote = made_up.objects()
    hurt(made_up)
    with pytest.raises(InputError, match=f"the DVC remote: .*{problem}"):
        made_up.pull()
    assert [path.name for path in made_up.root.rglob("*")] == ["models"]


@pytest.mark.parametrize("name", ["model_sha256", "model_md5"])
def test_other_bytes_than_the_recorded_ones_are_not_taken(name, made_up):
    right = made_up.version_tags[name]
    made_up.version_tags[name] = "0" * len(right.removesuffix(".dir")) + right[32:36] * (
        name == "model_md5"
    )
    with pytest.raises(InputError, match=f"is not the recorded model, found {right}"):
        made_up.pull()


def test_a_damaged_copy_in_mlflow_is_passed_over(made_up, tmp_path, capsys):
    made_up.fill_cache()
    made_up.model = shutil.copytree(made_up.model, tmp_path / "damaged")
    (made_up.model / "weights.safetensors").write_bytes(b"half")
    assert source(made_up.pull())["from"] == "DVC's cache"
    assert "not from MLflow: " in capsys.readouterr().err


def test_a_version_without_a_record_is_checked_by_its_own_card(made_up, tmp_path):
    made_up.version_tags, made_up.run = {}, None
    assert source(made_up.pull())["model_sha256"] is None
    made_up.model = shutil.copytree(made_up.model, tmp_path / "damaged")
    (made_up.model / "weights.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"weights\.safetensors: is damaged"):
        made_up.pull()


def test_outside_of_a_project_there_is_mlflow_alone(made_up, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = pull_model("net@champion", root=None)
    assert told == f"pull-model: net@champion is in {tmp_path}/models/net@champion, from MLflow"
    made_up.in_mlflow = False
    made_up.fill_cache()
    with pytest.raises(InputError, match="-> in a clone of its project, DVC's cache and remote"):
        pull_model("net@champion", root=None)


def test_an_earlier_pull_is_replaced(made_up):
    made_up.pull()
    made_up.artifacts = {}
    folder = made_up.pull()
    assert "params.yaml" not in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["notes.txt", "model.json", ".git"])
def test_a_folder_that_no_pull_has_made_stays_as_it_is(name, made_up, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(InputError, match="holds what no pull has put there, found"):
        made_up.pull(into=tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text() == "mine"


def test_a_file_that_was_put_beside_a_pull_stops_the_next(made_up):
    folder = made_up.pull()
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match=r"found notes\.txt -> name another with --into"):
        made_up.pull()


def test_a_file_in_the_place_of_the_folder_stays(made_up, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="is no folder"):
        made_up.pull(into=tmp_path / "mine")


def test_what_is_put_there_meanwhile_stays(made_up, tmp_path, monkeypatch):
    def fetch(source: str, folder: Path) -> None:
        made_up.fetch_model(source, folder)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/notes.txt").write_text("mine")

    monkeypatch.setattr(module, "fetch_model", fetch)
    with pytest.raises(InputError, match=r"found notes\.txt"):
        made_up.pull(into=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_mount_point_is_refused_before_anything_is_fetched(made_up, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(InputError, match=r"is a mount point, .* -> --into .*disk/model"):
        made_up.pull(into=tmp_path / "disk")
    made_up.pull(into=tmp_path / "disk/model")


def test_an_empty_folder_is_filled(made_up, tmp_path):
    (tmp_path / "mine").mkdir()
    assert source(made_up.pull(into=tmp_path / "mine"))["model"] == "net"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WriteError("x", "cannot be written")])
def test_what_dies_half_way_leaves_the_earlier_pull(error, made_up, monkeypatch):
    folder = made_up.pull()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def die(source: str, target: Path) -> None:
        target.mkdir(parents=True)
        (target / "weights.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(module, "fetch_model", die)
    with pytest.raises(type(error)):
        made_up.pull()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["..@x", "../a@x", "a b/../c@x", "/etc/passwd", ""])
def test_a_name_leads_to_no_other_folder(name, made_up, monkeypatch):
    def refuse(name: str, *_: object) -> None:
        raise InputError(name, "no such thing")

    monkeypatch.setattr(module, "find_record", refuse)
    monkeypatch.setattr(module, "find_run_or_hint", refuse)
    monkeypatch.setattr(module, "find_model_version", refuse)
    with pytest.raises(InputError, match="no such thing"):
        made_up.pull(name)
    assert not (made_up.root / "models").exists()
