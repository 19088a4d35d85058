"""A Kinetrack project in a temporary folder, in which benchmarks run the real commands."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import Cost, measure
from kinetrack.data.index import INDEX_NAME, FramesRow, read_index
from kinetrack.splitting.splits import write_split

ROOT = Path(__file__).parent.parent
DATASET = "bench"
VIDEOS = Path("data/videos", DATASET)
FRAMES = Path("data/frames", DATASET)
TENSORS = Path("data/tensors", DATASET)
SPLIT = Path("data/splits/split.json")
MODEL = Path("data/model")
TRAIN_REPORTS = Path("reports/train")
_COPIED = (
    "src",
    "presets",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    "data/README.md",
    "mlruns/README.md",
)


class Scratch:
    """This checkout's code and a preset in a folder of its own; the folder is removed by others."""

    def __init__(self, folder: Path, *, preset: str = "lecture") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        _copy_code(folder)
        shutil.copyfile(ROOT / f"presets/{preset}.yaml", folder / "params.yaml")
        self.set_params(dataset=DATASET, frames={"classes": "all"})

    def set_params(self, **sections: Any) -> None:
        """Change values: `train={"epochs": 3}`, `dataset="other"`."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for name, value in sections.items():
            params[name] = {**params[name], **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def stage(
        self,
        name: str,
        *paths: Path,
        workers: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Cost:
        """Run one stage command, as dvc.yaml does; by default with a worker for each core."""
        command: list[str | Path] = [sys.executable, "-m", f"kinetrack.stages.{name}", *paths]
        environ = {**_environment(), "PYTHONPATH": "src", **(environ or {})}
        if workers:
            environ["KINETRACK_WORKERS"] = str(workers)
        return measure(command, folder=self.folder, environ=environ)

    def frames(self, *, workers: int | None = None) -> Cost:
        """Run the stage `frames`."""
        return self.stage("frames", VIDEOS, FRAMES, workers=workers)

    def split_one_sided(self) -> None:
        """Put every clip on the training side: what is compared must be the same clips."""
        rows = read_index(self.folder / FRAMES / INDEX_NAME, FramesRow, remedy="")
        write_split(self.folder / SPLIT, [(row, "train") for row in rows], rule={})

    def tensors(self, *, workers: int | None = None) -> Cost:
        """Run the stage `tensors`."""
        return self.stage("tensors", FRAMES, SPLIT, TENSORS, workers=workers)

    def train(self, *, processes: int = 1) -> Cost:
        """Run the stage `train` on the CPU, with some processes that share its threads."""
        return self.stage(
            "train",
            TENSORS,
            MODEL,
            TRAIN_REPORTS,
            environ={"KINETRACK_DEVICE": "cpu", "KINETRACK_PROCESSES": str(processes)},
        )

    def forget(self) -> None:
        """Remove what the stages made and remember: they start from nothing again."""
        for made in (FRAMES, SPLIT.parent, TENSORS, Path(".kinetrack")):
            shutil.rmtree(self.folder / made, ignore_errors=True)

    def start_dvc(self) -> None:
        """Make it a Git and DVC project."""
        self.run("git", "init", "-q", "-b", "main")
        self.dvc("init", "-q")
        self.dvc("config", "-q", "core.check_update", "false")
        if (ROOT / ".dvc/plots").is_dir():
            shutil.copytree(ROOT / ".dvc/plots", self.folder / ".dvc/plots", dirs_exist_ok=True)
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "start")

    def dvc(self, *arguments: str | Path) -> Cost:
        """Run DVC."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def run(self, *command: str | Path) -> Cost:
        """Run a command in the project."""
        return measure(command, folder=self.folder, environ=_environment())


def _copy_code(folder: Path) -> None:
    for name in _COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def _environment() -> dict[str, str]:
    """This process's variables without those that would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "KINETRACK_", "MLFLOW_", "GIT_")) and name != "PYTHONPATH"
    }
    person = {"NAME": "Benchmark", "EMAIL": "benchmark@example.org"}
    git = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in person.items()
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, **git, "PATH": path, "DVC_NO_ANALYTICS": "1"}


def count_bytes(folder: Path) -> int:
    """Bytes of all the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
