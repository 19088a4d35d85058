"""Every network through the stages: trained, saved, loaded, evaluated."""

import json
from pathlib import Path

import pytest
import torch

from kinetrack.learning.models import NETWORKS
from kinetrack.learning.processes import alone
from kinetrack.params import load_section
from kinetrack.stages.evaluate import EvaluateParams, evaluate_model
from kinetrack.stages.train import Paths, train_model
from kinetrack.stages.train_params import ModelParams, Settings, TrainParams
from kinetrack.using.inference import load_recogniser

from factories import DECODING, GEOMETRY, NO_AUGMENTATION, PLAIN_INPUT, write_packed

CPU = torch.device("cpu")
PRESET = Path(__file__).parents[2] / "presets/sample.yaml"
_QUICK = {"small_3dcnn", "separable_3dcnn", "residual_3dcnn", "lecture_3dcnn"}
pytestmark = pytest.mark.usefixtures("torch_settings")


def settings_for(name: str, *, precision: str) -> Settings:
    pack = {"num_frames": 32 if name == "lecture_3dcnn" else 16, "size_px": 32, "resize_px": 32}
    params = load_section(TrainParams, "train", PRESET).model_dump()
    changes = {"epochs": 1, "batch_size": 3, "micro_batch": 3, "precision": precision}
    return Settings(
        decoding=DECODING,
        pack=GEOMETRY.model_copy(update=pack),
        input=PLAIN_INPUT.model_copy(update={"normalise": "kinetics"}),
        augment=NO_AUGMENTATION.model_copy(update={"flip": 0.5, "resized_crop": [0.5, 1.0]}),
        model=ModelParams(name=name, weights=None, weights_sha256=None, backbone="trained"),
        train=TrainParams.model_validate({**params, **changes}),
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in NETWORKS],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_network_is_trained_saved_loaded_and_evaluated(
    tmp_path: Path, name: str, precision: str
) -> None:
    settings = settings_for(name, precision=precision)
    pack = settings.pack
    tensors = write_packed(
        tmp_path / "tensors", num_frames=pack.num_frames, size_px=32, clips_per_class=2
    )
    told = []
    outcome = train_model(
        settings,
        Paths(tensors, tmp_path / "model", tmp_path / "train", tmp_path / "resume"),
        device=CPU,
        team=alone(CPU),
        on_start=lambda history: None,
        on_epoch=told.append,
    )
    assert [epoch.number for epoch in told] == [1]
    assert outcome.card.parameters > 10_000
    assert outcome.card.gflop_per_clip > 0
    metrics = evaluate_model(
        EvaluateParams(windows=1, crops=1, shuffle_control=True, top_k=1),
        tensors=tensors,
        model_folder=tmp_path / "model",
        reports=tmp_path / "evaluate",
        device=CPU,
    ).metrics
    assert metrics["num_clips"] == 4
    assert json.loads((tmp_path / "evaluate/metrics.json").read_text()) == metrics
    recogniser = load_recogniser(tmp_path / "model")
    clips = torch.zeros(2, 3, pack.num_frames, 32, 32, dtype=torch.uint8).numpy()
    assert recogniser.probabilities(clips).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
