"""The worked example of docs/sharing.md, run as it stands: two people, a remote, a server."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetrack.data.motion import write_motion_clips
from kinetrack.tracking.database import prepare_database

from documented import blocks_of
from mlflow_servers import Server
from project import ROOT, environment, make_project

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/sharing.md"
# Enough groups for the rule of the preset, few enough for a test.
PARAMS = {"split": {"train_groups": 6, "val_groups": 2}, "train": {"epochs": 2}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    prepare_database(folder / "empty.db")
    server = Server(folder, folder / "empty.db")
    try:
        yield server.address
    finally:
        server.end()


class Team:
    """The folders of a team on this machine, and what its people have typed and seen."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.places = {
            "/srv/": f"{folder}/srv/",
            "~/clips": str(folder / "clips"),
            "http://team.example:5000": server,
        }
        self.here = {"team": folder, "Ann": folder / "ann", "Ben": folder / "ben"}
        self.seen = ""

    def type(self, person: str, block: str) -> None:
        """Run the lines of a block in the folder in which the person is, until one fails."""
        for written, real in self.places.items():
            block = block.replace(written, real)
        # A clone's own code, as its own `make install` would have it.
        lines = f"set -e\n{block}\npwd > {self.folder}/pwd\n"
        lines = re.sub(r"(cd actions)\n", r'\1\nexport PYTHONPATH="$PWD/src"\n', lines)
        environ = {**environment(), "PYTHONPATH": f"{self.here[person]}/src"}
        result = subprocess.run(
            ["bash", "-c", lines],
            cwd=self.here[person],
            env=environ,
            text=True,
            capture_output=True,
            check=False,
        )
        self.seen += result.stdout
        assert result.returncode == 0, f"{person}:\n{result.stdout}\n{result.stderr}"
        self.here[person] = Path((self.folder / "pwd").read_text().strip())

    def ask(self, person: str, *command: str) -> str:
        """What a command prints to a person."""
        environ = {**environment(), "PYTHONPATH": f"{self.here[person]}/src"}
        result = subprocess.run(
            command, cwd=self.here[person], env=environ, text=True, capture_output=True, check=True
        )
        return result.stdout


def test_example_of_the_docs_works_as_it_stands(tmp_path: Path, server: str) -> None:
    (tmp_path / "srv").mkdir()
    (tmp_path / "ben").mkdir()
    (tmp_path / "clips").mkdir()
    write_motion_clips(tmp_path / "clips", seed=3, groups=8, clips_per_group=2, num_frames=32)
    project = make_project(tmp_path / "ann")
    project.set_params(**PARAMS)
    project.commit("params")
    project.run("git", "remote", "add", "origin", "https://kinetrack.example/kinetrack.git")
    team = Team(tmp_path, server)
    blocks = blocks_of(PAGE)
    assert [person for person, _ in blocks] == ["team", "Ann", "Ben", "Ann", "Ben"]
    for person, block in blocks:
        team.type(person, block)

    ann, ben = team.here["Ann"], team.here["Ben"]
    runs = json.loads(team.ask("Ben", "kinetrack", "runs", "--json"))
    assert len(runs) == 2
    longer, first = runs
    (model,) = json.loads(team.ask("Ann", "kinetrack", "models", "--json"))[-1:]
    assert longer["metrics"]["test/accuracy"] > first["metrics"]["test/accuracy"]
    assert model["run_id"] == longer["run_id"]
    assert model["aliases"] == ["champion"]
    assert not (ben / "data/frames/actions").exists()  # only what training needs
    pulled = ben / "models/actions@champion/weights.safetensors"
    assert pulled.read_bytes() == (ann / "data/model/weights.safetensors").read_bytes()
    assert team.ask("Ann", "git", "status", "--short") == ""
    assert "up to date" in team.ask("Ann", "dvc", "status")
    assert "doctor: nothing is broken" in team.seen
