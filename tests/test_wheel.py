"""The source distribution, and its wheel in an environment elsewhere: no repository there."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mlflow.models import Model

from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.tracking import model as logging
from kinetrack.using.inference import load_recogniser

from factories import model_card
from project import ROOT

pytestmark = pytest.mark.slow

ASK_MLFLOW = """
import json, sys, mlflow, pandas
video = open(sys.argv[2], "rb").read()
answers = mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.DataFrame({"video": [video]}))
print(json.dumps(answers.to_dict("records")))
"""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("an older setuptools cannot build the package")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src/kinetrack", source / "src/kinetrack")
    (source / "tests").mkdir()
    (source / "tests/test_it.py").touch()
    build = "from setuptools import build_meta; build_meta.build_sdist('made')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (made,) = (source / "made").iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, sdist: Path) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", folder, sdist]
    subprocess.run(command, check=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """An environment with the wheel; the other packages are those of this environment."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as zipped:
        zipped.extractall(packages)  # what pip does, but for the command
    # Behind our own; files for editable installs do not count there.
    (packages / "others.pth").write_text(f"{package_folder('torch')}\n{package_folder('pip')}\n")
    return folder


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def run_there(elsewhere: Path, *arguments: object) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [elsewhere / "venv/bin/python", *map(str, arguments)],
        cwd=elsewhere,
        env={**kept, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def model(elsewhere: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(elsewhere / "model", Small3dCnn(num_classes=2), model_card())
    logging._save(elsewhere / "logged", elsewhere / "model", description=Model())
    return elsewhere / "model"


def files_of_the_package() -> set[str]:
    there = (path for path in (ROOT / "src/kinetrack").rglob("*") if path.is_file())
    names = {path.relative_to(ROOT / "src").as_posix() for path in there}
    return {name for name in names if "__pycache__" not in name}


def test_sdist_holds_the_package_its_papers_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    papers = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"}
    assert held >= {f"src/{name}" for name in files_of_the_package()} | papers
    assert not any(name.startswith("tests") for name in held)


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as zipped:
        held = {name for name in zipped.namelist() if name.startswith("kinetrack/")}
    assert held == files_of_the_package()


def test_kinetrack_predict_works_without_the_repository(
    elsewhere: Path, model: Path, video: Path
) -> None:
    where = run_there(elsewhere, "-c", "import kinetrack; print(kinetrack.__file__)")
    assert Path(where.strip()).is_relative_to(elsewhere)
    command = ("-m", "kinetrack.cli.main", "predict", video, "--model", model, "--json")
    (line,) = run_there(elsewhere, *command).splitlines()
    expected = load_recogniser(model).predict(video)
    told = json.loads(line)["labels"]
    assert [one["label"] for one in told] == list(expected.labels)
    assert [one["probability"] for one in told] == pytest.approx(expected.probabilities, abs=2e-6)


def test_load_model_works_without_the_repository(elsewhere: Path, model: Path, video: Path) -> None:
    (answer,) = json.loads(run_there(elsewhere, "-c", ASK_MLFLOW, elsewhere / "logged", video))
    expected = load_recogniser(model).predict(video)
    assert answer["labels"] == list(expected.labels)
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)


def test_load_model_needs_no_kinetrack_either(elsewhere: Path, model: Path, video: Path) -> None:
    (packages,) = elsewhere.glob("venv/lib/python*/site-packages")
    hidden = packages / "kinetrack"
    hidden.rename(packages / "hidden")
    try:
        (answer,) = json.loads(run_there(elsewhere, "-c", ASK_MLFLOW, elsewhere / "logged", video))
    finally:
        (packages / "hidden").rename(hidden)
    assert answer["labels"] == list(load_recogniser(model).predict(video).labels)
