"""The MLflow run of a training: what names it, what it starts from and what it ends with."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.processes import Team
from kinetrack.params import PARAMS_FILE
from kinetrack.stages.train_resume import Resume
from kinetrack.versioning.lock import data_md5, stage_key

if TYPE_CHECKING:
    from kinetrack.tracking.runs import TrainingRun


@contextmanager
def open_run(
    values: dict[str, Any], *, tensors: Path, device: torch.device, team: Team, resume: Resume
) -> Iterator["TrainingRun"]:
    """Open the MLflow run of this training, or go on with that of the interrupted one.

    `values` is the whole of params.yaml. Of several processes, the first one is tracked.
    """
    from kinetrack.tracking.runs import untracked_run

    if not team.is_first:
        with untracked_run() as run:
            yield run
        return
    with _tracked_run(values, tensors=tensors, device=device, resume=resume) as run:
        resume.remember_run(run.run_id)
        yield run


def _tracked_run(
    values: dict[str, Any], *, tensors: Path, device: torch.device, resume: Resume
) -> AbstractContextManager["TrainingRun"]:
    from kinetrack.tracking.continuing import TRAINING_TAG
    from kinetrack.tracking.lineage import experiment_facts, git_facts
    from kinetrack.tracking.runs import DatasetInput, training_run

    root, dataset = Path.cwd(), values["dataset"]
    tensors_md5 = data_md5(tensors.as_posix(), root=root)
    tags = {
        **git_facts(root, environ=os.environ),
        **experiment_facts(os.environ),
        "train_key": stage_key("train", values, root=root),
        "data.videos_md5": data_md5(f"data/videos/{dataset}", root=root),
        "data.split_md5": data_md5("data/splits/split.json", root=root),
        "data.tensors_md5": tensors_md5,
        "device": str(device),
        TRAINING_TAG: resume.name_training(),
    }
    origin = tags.get("dvc.exp_name") or str(tags["git.commit"])[:7]
    return training_run(
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", dataset),
        name=f"{values['model']['name']}-{origin}",
        params=values,
        tags={name: value for name, value in tags.items() if value},
        dataset=DatasetInput(dataset, tensors_md5, tensors.as_posix()) if tensors_md5 else None,
        continues=resume.run_id,
    )


def log_outcome(run: "TrainingRun", card: ModelCard, *, model_folder: Path, reports: Path) -> None:
    """Add to a run what is known at the end of its training."""
    run.set_tags(
        {
            "model_sha256": card.weights_sha256,
            "model.parameters": str(card.parameters),
            "model.gflop_per_clip": str(card.gflop_per_clip),
            "model.epoch": str(card.epoch),
            "comparable": "false" if card.halvings else "true",
        }
    )
    run.log_figures(reports / "history.csv")
    run.log_params_file(PARAMS_FILE)
    run.log_model(
        model_folder,
        num_frames=card.clip.num_frames,
        size_px=card.clip.size_px,
        num_classes=len(card.labels),
    )
