"""Blocks of the pages that are to be run (`<!-- name -->` before them), in a tiny project.

Those of docs/sharing.md, for two people and a server, are in test_team.py.
"""

import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from kinetrack.data.motion import write_motion_clips

from documented import blocks_of, type_block
from project import ROOT, Project, make_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after `dvc repro`; to be copied, not changed."""
    project = make_project(tmp_path_factory.mktemp("reproduced") / "project")
    project.run("dvc", "repro")
    return project


@pytest.fixture
def tiny(reproduced: Project, tmp_path: Path) -> Project:
    """A project of this page alone, after `dvc repro`."""
    shutil.copytree(reproduced.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def run_page(
    project: Project, name: str, *kinds: str, instead: Mapping[str, str] | None = None
) -> str:
    """Run the blocks of a page of these kinds, in their order; what they printed.

    Args:
        instead: what stands in the blocks, and what is typed for it.
    """
    printed = ""
    for kind, shown in blocks_of(ROOT / "docs" / name):
        if kind in kinds:
            block = shown
            for one, other in (instead or {}).items():
                block = block.replace(one, other)
            result = type_block(block, folder=project.folder, code=project.folder / "src")
            assert result.returncode == 0, f"{block}\n{result.stdout}\n{result.stderr}"
            printed += result.stdout
    return printed


def test_the_first_hour(tiny: Project) -> None:
    printed = run_page(tiny, "getting-started.md", "tiny")
    assert "doctor: nothing is broken" in printed
    assert "v_MoveLeft_g01_c01.avi: " in printed
    assert "slower" in printed
    runs = json.loads(tiny.run("kinetrack", "runs", "--json").stdout)
    assert len(runs) == 2
    assert "up to date" in tiny.run("dvc", "status").stdout  # it went back to the first one


def test_data_that_changes(tiny: Project) -> None:
    assert "verify: " in run_page(tiny, "data.md", "tiny")


def wait_for_queue(project: Project) -> None:
    deadline = time.monotonic() + 1500
    while re.search("Queued|Running", project.run("dvc", "queue", "status").stdout):
        assert time.monotonic() < deadline
        time.sleep(5)


def test_experiments(tiny: Project) -> None:
    run_page(tiny, "experimenting.md", "tiny", "sweep")
    wait_for_queue(tiny)
    printed = run_page(tiny, "experimenting.md", "swept")
    assert "is champion" in printed
    runs = json.loads(tiny.run("kinetrack", "runs", "--json").stdout)
    rates = [run["params"]["train.learning_rate"] for run in runs]
    assert sorted(set(rates)) == ["0.001", "0.003", "0.01"]


def test_the_worked_sweep(tiny: Project) -> None:
    """Two of its rates, two of its seeds, an epoch each."""
    shorter = {"0.0003,0.003,0.01": "0.0003,0.01", "=0,1,2": "=1,2", "epochs=6": "epochs=1"}
    run_page(tiny, "experimenting.md", "worked", instead=shorter)
    wait_for_queue(tiny)
    runs = json.loads(tiny.run("kinetrack", "runs", "--json").stdout)
    groups = [run["run_id"][:8] for run in runs if run["kind"] == "group"]
    assert (len(runs), len(groups)) == (1 + 4 + 2, 2)
    page = (ROOT / "docs/experimenting.md").read_text()
    (told,) = re.findall(r"^kinetrack compare ([\w ]+?) +# groups", page, re.MULTILINE)
    instead = {told: " ".join(groups)}
    printed = run_page(tiny, "experimenting.md", "judged", instead=instead)
    assert printed.count("2 runs by seed") >= 4  # in the list, and compared


def test_your_own_videos(tmp_path: Path) -> None:
    write_motion_clips(tmp_path / "clips", seed=3, groups=8, clips_per_group=2, num_frames=32)
    project = make_project(tmp_path / "project")
    block = dict(blocks_of(ROOT / "docs/own-videos.md"))["clips"]
    block = block.replace("~/clips", str(tmp_path / "clips"))
    result = type_block(block, folder=project.folder, code=project.folder / "src")
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.read_params()["dataset"] == "clips"
    assert project.read_params()["split"]["strategy"] == "ratio"
    assert project.run("git", "status", "--short").stdout == ""
