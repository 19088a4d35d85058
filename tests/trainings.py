"""Trainings as real processes, in a project of their own with a real MLflow store."""

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.settings import quiet

from factories import write_packed
from project import Project, make_project
from stage_forks import Forks

TENSORS, MODEL, REPORTS = "data/tensors/mine", "data/model", "reports/train"
COMMAND = (sys.executable, "-m", "kinetrack.stages.train", TENSORS, MODEL, REPORTS)
EPOCHS = 8
# Everything with a state takes part: schedule, momenta, augmentation, the best weights so far.
QUICK = {
    "pack": {"num_frames": 4, "resize_px": 16, "size_px": 16},
    "augment": {"flip": 0.5, "brightness": 0.2, "mixup": 0.3},
    "model": {"name": "separable_3dcnn"},
    "train": {
        "epochs": EPOCHS,
        "batch_size": 4,
        "micro_batch": 4,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "keep": "best",
        "threads": 1,
    },
}


def make_training(folder: Path, **sections: dict[str, Any]) -> Project:
    """A project with packed clips, ten a side, and an empty MLflow store: `train` can run."""
    project = make_project(folder)
    write_packed(project.folder / TENSORS, clips_per_class=5)
    project.set_params(dataset="mine", **QUICK)
    project.set_params(**sections)
    prepare_database(project.folder / "mlruns/mlflow.db")
    return project


class Trainer(Forks):
    """Starts trainings in a project, one at a time; a context manager that ends with them."""

    def __init__(self, project: Project, *, prefix: Sequence[str] = ()) -> None:
        super().__init__(project, ("train", TENSORS, MODEL, REPORTS), prefix=prefix)


def checkpoints(project: Project) -> list[Path]:
    """Those of interrupted trainings, sorted by name."""
    return sorted(project.folder.glob(".kinetrack/resume/*/epoch_*.safetensors"))


def is_clean(project: Project) -> bool:
    """Whether nothing is left of a training but what it was to make."""
    places = (".kinetrack/resume", "data", "reports")
    found = [path for place in places for path in (project.folder / place).glob(".*")]
    return not [path for path in found if path.name != ".gitignore"] and not [
        *project.folder.glob(".kinetrack/resume/*")
    ]


def outcome(project: Project) -> dict[str, str]:
    """Sha256 by path of the model and the reports."""
    return {
        path.relative_to(project.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (MODEL, REPORTS)
        for path in sorted((project.folder / folder).rglob("*"))
        if path.is_file()
    }


class TrackedRun(NamedTuple):
    """What MLflow has of a training; `epochs` in the order in which they were logged."""

    run_id: str
    status: str
    epochs: list[int]
    tags: dict[str, str]
    num_models: int


def tracked_runs(project: Project, *, experiment: str = "mine") -> list[TrackedRun]:
    """All trainings of a data set in the project's own store, the first one first."""
    from mlflow import MlflowClient

    with quiet():
        client = MlflowClient(f"sqlite:///{project.folder / 'mlruns/mlflow.db'}")
        found = client.search_experiments(filter_string=f"name = '{experiment}'")
        places = [experiment.experiment_id for experiment in found]
        runs = client.search_runs(places, order_by=["start_time ASC"]) if places else []
        models = [one.source_run_id for one in client.search_logged_models(places)] if runs else []
        return [
            TrackedRun(
                run.info.run_id,
                run.info.status,
                [one.step for one in client.get_metric_history(run.info.run_id, "train/loss")],
                run.data.tags,
                models.count(run.info.run_id),
            )
            for run in runs
        ]


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait_for_end(processes: list[psutil.Process], *, within_s: float = 20) -> None:
    """Wait until none of them lives any more; a busy machine takes seconds."""
    deadline = time.monotonic() + within_s
    while alive := [process for process in processes if is_alive(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
