"""Every stage command: bad input is one line, exit code 2, and no output."""

import shutil
from pathlib import Path

import pytest

from project import Project, make_project

STAGES = {
    "sample": ["out/videos"],
    "frames": ["data/videos/mine", "out/frames"],
    "split": ["data/frames/mine/index.csv", "out/splits"],
    "tensors": ["data/frames/mine", "data/splits/split.json", "out/tensors"],
    "train": ["data/tensors/mine", "out/model", "out/reports"],
    "evaluate": ["data/tensors/mine", "data/model", "out/reports"],
}
BREAK_SECTION = {"tensors": "pack"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("bad") / "project")


def assert_refused(project: Project, stage: str, *, naming: str) -> None:
    result = project.stage(stage, *STAGES[stage])
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert naming in line
    assert not (project.folder / "out").exists()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "sample"])
def test_missing_input_is_named(project, stage):
    missing = "data/model/model.json" if stage == "evaluate" else STAGES[stage][0]
    assert_refused(project, stage, naming=missing)


@pytest.mark.parametrize("stage", STAGES)
def test_unknown_key_is_named(project, stage):
    section = BREAK_SECTION.get(stage, stage)
    original = (project.folder / "params.yaml").read_text()
    project.set_params(**{section: {"surprise": 1}})
    try:
        assert_refused(project, stage, naming=f"unknown key {section}.surprise")
    finally:
        (project.folder / "params.yaml").write_text(original)


def test_nothing_is_written_beside_the_output_either(project, tmp_path):
    shutil.rmtree(project.folder / "out", ignore_errors=True)
    before = snapshot(project.folder)
    project.stage("frames", *STAGES["frames"])
    assert snapshot(project.folder) == before


def snapshot(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
