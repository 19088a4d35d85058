"""A small project of its own, with this checkout's code, in which tests run the real commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
COPIED = (
    "src",
    "presets",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    "data/README.md",
    "mlruns/README.md",
)
# Enough for every stage to have something to do, in seconds.
TINY = {
    "sample": {"groups": 4, "clips_per_group": 1, "num_frames": 32},
    "split": {"train_groups": 3, "val_groups": 1},
    "pack": {"resize_px": 32, "size_px": 32},
    "train": {"epochs": 2, "batch_size": 6, "micro_batch": 6},
}


class Project:
    """A Git and DVC project in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; `dvc` and `python` are those of this environment."""
        replaced = {"dvc": [sys.executable, "-m", "dvc"], "python": [sys.executable]}
        whole = [*replaced.get(command[0], [command[0]]), *command[1:]]
        result = subprocess.run(
            whole, cwd=self.folder, env=environment(), text=True, capture_output=True, check=False
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{command} gave {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result

    def stage(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one stage command by hand, as dvc.yaml does."""
        module = f"kinetrack.stages.{name}"
        environ = {**environment(), "PYTHONPATH": "src"}
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environ, text=True, capture_output=True, check=False
        )

    def read_params(self) -> dict[str, Any]:
        """The whole of params.yaml."""
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def set_params(self, **sections: Any) -> None:
        """Change values: `train={"epochs": 3}`, `dataset="other"`."""
        params = self.read_params()
        for name, value in sections.items():
            params[name] = {**params[name], **value} if isinstance(value, dict) else value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self, message: str) -> None:
        """Commit everything that Git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)


def make_project(folder: Path) -> Project:
    """A committed project that has run nothing yet, with the tiny params."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    shutil.copyfile(ROOT / "presets/sample.yaml", folder / "params.yaml")
    project = Project(folder)
    project.set_params(**TINY)
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")  # refuses a folder that has .dvc already
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    project.commit("start")
    return project


def environment() -> dict[str, str]:
    """This process's variables without those that would change where runs go."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "KINETRACK_", "MLFLOW_", "GIT_")) and name != "PYTHONPATH"
    }
    person = {"NAME": "Test", "EMAIL": "test@example.org"}
    git = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in person.items()
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    no_pickle = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    return {**kept, **git, **no_pickle, "PATH": path, "DVC_NO_ANALYTICS": "1"}
