"""The preset `finetune` as a user takes it, with weights of no merit in the place of real ones."""

import hashlib
import json
import re

import pytest
import torch

from kinetrack.learning.models import build_model

from project import make_project

SAMPLE = {"groups": 3, "clips_per_group": 1, "num_frames": 40}
FEW = {
    "sample": SAMPLE,
    "frames": {"classes": 2},
    "split": {"train_groups": 2, "val_groups": 1},
    "train": {"epochs": 2, "batch_size": 2, "micro_batch": 2},
    "evaluate": {"windows": 2},
}
KINETRACK = ("python", "-m", "kinetrack.cli.main")
WEIGHTS = "data/weights/r2plus1d_18.pth"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_file_of_weights_is_asked_for_checked_and_trained_on(tmp_path):
    project = make_project(tmp_path / "project")
    project.run(*KINETRACK, "preset", "finetune", "--force")
    project.set_params(**FEW)

    absent = project.run(*KINETRACK, "check", check=False)
    assert absent.returncode == 2
    assert f"{WEIGHTS}: does not exist -> put the weights there" in absent.stderr

    # As published: of 400 classes, by the names of torchvision.
    model = build_model("r2plus1d_18", num_classes=400, num_frames=16, size_px=112)
    path = project.folder / WEIGHTS
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    unnamed = project.run(*KINETRACK, "check", check=False)
    assert unnamed.returncode == 2
    told = re.search(r"model\.weights_sha256: ([0-9a-f]{64})", unnamed.stderr)
    assert told, unnamed.stderr
    assert told[1] == hashlib.sha256(path.read_bytes()).hexdigest()

    project.set_params(model={"weights_sha256": told[1]})
    project.run("dvc", "repro", "evaluate")
    card = json.loads((project.folder / "data/model/model.json").read_text())
    assert card["model"] == "r2plus1d_18"
    assert told[1] in card.values()
    metrics = json.loads((project.folder / "reports/evaluate/metrics.json").read_text())
    assert metrics["num_views"] == 2
    assert metrics["num_clips"] == 2
