"""Hostile files in the places of good ones: a line and exit code 2, at little cost."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from kinetrack.data.index import INDEX_NAME, FramesRow, TensorsRow, read_index, write_index
from kinetrack.data.sampling import ClipGeometry
from kinetrack.files import file_md5
from kinetrack.learning.checkpoint import CARD_NAME, TRAINED_NAME, WEIGHTS_NAME, save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

import hostile_files as hostile
from bounded import Cost, assert_cheap, run_bounded
from factories import frames_row, model_card, write_video
from frame_archives import write_archive
from project import Project, environment, make_project

pytestmark = pytest.mark.slow
_MOST_BYTES = 2**20
LABELS = ("Jump", "Walk")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with frames, a split, packed clips and a model, all of them good."""
    project = make_project(tmp_path_factory.mktemp("hostile") / "project")
    split = {"train_groups": 2, "val_groups": 1, "max_missing": 0}
    pack = {"num_frames": 4, "resize_px": 16, "size_px": 16, "sampling": "random"}
    project.set_params(split=split, pack={**pack, "spare_frames": "all", "spare_px": 0})
    data = project.folder / "good"
    rows = [
        frames_row(f"v_{label}_g{group:02}_c01", label=label, group=f"{group:02}")
        for label in LABELS
        for group in range(1, 5)
    ]
    for row in rows:
        write_archive(data / "frames" / row.label / f"{row.clip}.zip")
    write_index(data / "frames" / INDEX_NAME, FramesRow, rows)
    adopt_frames(data / "frames")
    for stage, *places in (
        ("split", "good/frames/index.csv", "good/splits"),
        ("tensors", "good/frames", "good/splits/split.json", "good/tensors"),
    ):
        done = project.stage(stage, *places)
        assert done.returncode == 0, done.stderr
    clip = ClipGeometry(**project.read_params()["pack"])
    card = model_card(labels=LABELS).model_copy(update={"clip": clip})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(data / "model", Small3dCnn(num_classes=2), card)
    return project


def adopt_frames(frames: Path) -> None:
    """Have the index take the archives for right as they are now."""
    rows = read_index(frames / INDEX_NAME, FramesRow, remedy="")
    paths = [frames / row.label / f"{row.clip}.zip" for row in rows]
    new = [
        row.model_copy(update={"archive_md5": file_md5(path)})
        for row, path in zip(rows, paths, strict=True)
    ]
    write_index(frames / INDEX_NAME, FramesRow, new)


@pytest.fixture(scope="module")
def harmless(made: Project) -> Cost:
    """What a command that loads torch takes for good files."""
    video = write_video(made.folder / "a.avi", num_frames=8)
    return run(made, "kinetrack.cli.main", "predict", video, "--model", "good/model")


def run(made: Project, *module_and_arguments: object) -> Cost:
    """Run a command in the project."""
    environ = {**environment(), "KINETRACK_WORKERS": "1", "PYTHONPATH": "src"}
    command = [sys.executable, "-m", *map(str, module_and_arguments)]
    return run_bounded(command, folder=made.folder, environ=environ)


@pytest.fixture
def data(made: Project, tmp_path: Path) -> Path:
    """A copy of what is in the project, to put something hostile into."""
    return Path(shutil.copytree(made.folder / "good", tmp_path / "data"))


def refused(
    made: Project,
    data: Path,
    hostile_file: Path,
    *module_and_arguments: object,
    name: str,
    harmless: Cost,
) -> None:
    """Run a command that reads a hostile file; it has to say so in a line, and write nothing."""
    before = sorted(data.parent.rglob("*"))
    assert hostile_file.stat().st_size <= _MOST_BYTES
    cost = run(made, *module_and_arguments)
    assert_cheap(cost, name, harmless=harmless, usual_s=3.0)
    assert cost.returncode == 2, cost.stderr[-2000:]
    # On a slow machine, the progress is told before.
    *progress, line = cost.stderr.splitlines()
    assert all(" a second, " in told for told in progress), cost.stderr[-2000:]
    assert line.startswith(f"error: {hostile_file}: "), line
    assert len(line) < 1000 + len(str(hostile_file))
    hidden = [path for path in data.parent.rglob("*") if ".partial" in str(path)]
    assert sorted({*data.parent.rglob("*")} - {*hidden}) == before


def stage(name: str) -> str:
    return f"kinetrack.stages.{name}"


@pytest.mark.parametrize("name", hostile.INDEXES)
def test_index_of_frames(made: Project, harmless: Cost, data: Path, name: str) -> None:
    index = data / "frames" / INDEX_NAME
    hostile.INDEXES[name](index)
    refused(
        made,
        data,
        index,
        stage("split"),
        index,
        data / "new",
        name=f"index.csv, {name}",
        harmless=harmless,
    )


@pytest.mark.parametrize("name", hostile.SPLITS)
def test_split(made: Project, harmless: Cost, data: Path, name: str) -> None:
    split = data / "splits/split.json"
    hostile.SPLITS[name](split)
    places = data / "frames", split, data / "new"
    refused(
        made, data, split, stage("tensors"), *places, name=f"split.json, {name}", harmless=harmless
    )


@pytest.mark.parametrize("name", hostile.FRAME_ARCHIVES)
def test_frame_archive(made: Project, harmless: Cost, data: Path, name: str) -> None:
    [archive] = (data / "frames/Jump").glob("*g01*")
    hostile.FRAME_ARCHIVES[name](archive)
    adopt_frames(data / "frames")
    places = data / "frames", data / "splits/split.json", data / "new"
    refused(
        made,
        data,
        archive,
        stage("tensors"),
        *places,
        name=f"archive of frames, {name}",
        harmless=harmless,
    )


@pytest.mark.parametrize("name", hostile.TENSORS)
def test_packed_clip(made: Project, harmless: Cost, data: Path, name: str) -> None:
    path = min((data / "tensors/test/Jump").iterdir())
    hostile.TENSORS[name](path)
    adopt_tensor(path)
    places = data / "tensors", data / "model", data / "new"
    refused(
        made, data, path, stage("evaluate"), *places, name=f"packed clip, {name}", harmless=harmless
    )


def adopt_tensor(path: Path) -> None:
    index = path.parents[2] / INDEX_NAME
    rows = read_index(index, TensorsRow, remedy="")
    new = [
        row.model_copy(update={"tensor_md5": file_md5(path)}) if row.clip == path.stem else row
        for row in rows
    ]
    write_index(index, TensorsRow, new)


@pytest.mark.parametrize("writer", ["torch", "old torch", "pickle"])
def test_packed_clip_with_code(made: Project, harmless: Cost, data: Path, writer: str) -> None:
    path = min((data / "tensors/test/Jump").iterdir())
    mark = made.folder / "executed"
    hostile.code(mark, writer=writer)(path)
    adopt_tensor(path)
    places = data / "tensors", data / "model", data / "new"
    refused(
        made,
        data,
        path,
        stage("evaluate"),
        *places,
        name=f"packed clip, code by {writer}",
        harmless=harmless,
    )
    assert not mark.exists()


def predict(made: Project, data: Path, hostile_file: Path, *, name: str, harmless: Cost) -> None:
    video = write_video(made.folder / "a.avi", num_frames=8)
    command = "kinetrack.cli.main", "predict", video, "--model", data / "model"
    refused(made, data, hostile_file, *command, name=name, harmless=harmless)


@pytest.mark.parametrize("name", hostile.CARDS)
def test_card(made: Project, harmless: Cost, data: Path, name: str) -> None:
    card = data / "model" / CARD_NAME
    hostile.CARDS[name](card)
    told = data / "model" / WEIGHTS_NAME if name == "many_labels" else card
    predict(made, data, told, name=f"model.json, {name}", harmless=harmless)


@pytest.mark.parametrize("name", hostile.WEIGHTS)
def test_weights(made: Project, harmless: Cost, data: Path, name: str) -> None:
    weights = data / "model" / WEIGHTS_NAME
    hostile.WEIGHTS[name](weights)
    adopt_weights(data / "model")
    predict(made, data, weights, name=f"weights.safetensors, {name}", harmless=harmless)


def adopt_weights(model: Path) -> None:
    card = json.loads((model / CARD_NAME).read_text())
    card["weights_sha256"] = hashlib.sha256((model / WEIGHTS_NAME).read_bytes()).hexdigest()
    (model / CARD_NAME).write_text(json.dumps(card))


@pytest.mark.parametrize("writer", ["torch", "old torch", "pickle"])
def test_weights_with_code(made: Project, harmless: Cost, data: Path, writer: str) -> None:
    mark = made.folder / "executed"
    hostile.code(mark, writer=writer)(data / "model" / WEIGHTS_NAME)
    adopt_weights(data / "model")
    predict(
        made,
        data,
        data / "model" / WEIGHTS_NAME,
        name=f"weights, code by {writer}",
        harmless=harmless,
    )
    assert not mark.exists()


def test_files_beside_the_model_are_not_looked_at(made: Project, data: Path) -> None:
    """As MLflow keeps them: a pickled model, and a module that it would import."""
    mark = made.folder / "executed"
    attack = hostile.code(mark, writer="pickle")
    for name in ("python_model.pkl", "model.pkl", "model.pth", "weights.pt", "data.npy"):
        attack(data / "model" / name)
    (data / "model/MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: evil\n    code: code\n"
    )
    (data / "model/evil.py").write_text(f"import os; os.mkdir({str(mark)!r})")
    (data / "model" / TRAINED_NAME).write_text(f"!!python/object/apply:os.mkdir [{mark}]")
    video = write_video(made.folder / "a.avi", num_frames=8)
    done = made.run("python", "-m", "kinetrack.cli.main", "predict", str(video), "--model",
                    str(data / "model"))  # fmt: skip
    assert done.stdout
    assert not mark.exists()
