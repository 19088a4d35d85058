"""docs/adding.md: its diffs apply to the project as it is, and what they add works."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kinetrack.data.index import TensorsRow, read_index

from project import ROOT, Project, environment, make_project

RECIPES = sorted((ROOT / "docs/recipes").glob("*.diff"))
PAGE = ROOT / "docs/adding.md"
# What their own tests need beside the code.
TESTED = ("tests", "docs", "README.md", "Makefile", "pyproject.toml", "dvc.lock")


def apply(recipe: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Without the variable, Git would look at the repository in which the folder lies.
    environ = {**environment(), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(
        ["git", "apply", *options, str(recipe)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_diff_applies_to_the_project_as_it_is(recipe: Path, tmp_path: Path) -> None:
    for name in re.findall(r"^--- a/(.+)$", recipe.read_text(), re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    applied = apply(recipe, tmp_path)
    assert applied.returncode == 0, applied.stderr


def test_page_shows_the_diffs_as_they_are() -> None:
    shown = re.findall(r"^```diff\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(shown) == sorted(path.read_text() for path in RECIPES)
    assert [path.stem for path in RECIPES] == ["metric", "model", "sampling", "stage"]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project with all of the diffs, after `dvc repro`."""
    project = make_project(tmp_path_factory.mktemp("recipes") / "project")
    shutil.copyfile(ROOT / "params.yaml", project.folder / "params.yaml")
    for name in TESTED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, project.folder / name)
    for recipe in RECIPES:
        applied = apply(recipe, project.folder)
        assert applied.returncode == 0, applied.stderr
    _complete_presets(project)
    project.set_params(
        sample={"groups": 4, "clips_per_group": 1},
        split={"train_groups": 3, "val_groups": 1},
        pack={"sampling": "start", "resize_px": 32, "size_px": 32},
        model={"name": "frame_2dcnn"},
        train={"epochs": 1},
    )
    project.run("dvc", "repro")
    return project


def _complete_presets(project: Project) -> None:
    """As the page says: the same lines for the other presets."""
    added = re.search(r"\nlengths:\n(  .+\n)+", (project.folder / "params.yaml").read_text())
    assert added
    for path in (project.folder / "presets").glob("*.yaml"):
        if "\nlengths:" not in (text := path.read_text()):
            path.write_text(text + added[0])


@pytest.mark.slow
def test_new_network_trains_and_the_new_metric_is_reported(changed: Project) -> None:
    card = json.loads((changed.folder / "data/model/model.json").read_text())
    metrics = json.loads((changed.folder / "reports/evaluate/metrics.json").read_text())
    assert card["model"] == "frame_2dcnn"
    assert 0 < metrics["mean_reciprocal_rank"] <= 1
    assert "mean_reciprocal_rank" in changed.run("dvc", "metrics", "show").stdout


@pytest.mark.slow
def test_new_stage_ran_and_the_new_strategy_packed(changed: Project) -> None:
    lengths = (changed.folder / "reports/lengths/lengths.csv").read_text().splitlines()
    assert lengths[0] == "from_frames,clips"
    assert sum(int(line.split(",")[1]) for line in lengths[1:]) == 24
    rows = read_index(changed.folder / "data/tensors/sample/index.csv", TensorsRow, remedy="")
    assert {row.packed_frames for row in rows} == {16}
    assert "lengths: 24 clips" in changed.run("dvc", "repro", "-f", "-s", "lengths").stdout


@pytest.mark.slow
def test_their_own_tests_and_those_of_the_house_hold(changed: Project) -> None:
    shutil.copyfile(changed.folder / "presets/sample.yaml", changed.folder / "params.yaml")
    tests = ["learning/models/test_models.py", "using/test_evaluation.py", "test_house.py"]
    tests += ["data/test_sampling.py", "stages/test_lengths.py"]
    # A new stage is named in README's neighbours by hand, and dvc.lock is not of these params.
    chosen = ["-m", "not slow", "-k", "not readme and not page and not dvc_lock"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(f"tests/{name}" for name in tests), *chosen],
        cwd=changed.folder,
        env={**environment(), "PYTHONPATH": str(changed.folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]
