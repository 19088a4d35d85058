import csv
import json
import math

import pytest
import torch

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import TensorsRow, read_index
from kinetrack.data.sampling import ClipGeometry
from kinetrack.errors import InputError
from kinetrack.files import read_csv
from kinetrack.learning.checkpoint import load_model, read_trained_on
from kinetrack.stages.train import (
    ModelParams,
    Settings,
    TrainParams,
    describe_epoch,
    train_model,
)

from factories import write_packed

SETTINGS = Settings(
    pack=ClipGeometry(
        num_frames=4, sampling="uniform", short_clips="fail", resize_px=16, size_px=16
    ),
    model=ModelParams(name="small_3dcnn"),
    train=TrainParams(
        epochs=2,
        batch_size=4,
        micro_batch=4,
        learning_rate=0.01,
        schedule="constant",
        seed=0,
        threads=1,
        watch=["val"],
    ),
)
pytestmark = pytest.mark.usefixtures("torch_settings")


def changed(**train):
    return SETTINGS._replace(train=SETTINGS.train.model_copy(update=train))


def train(folder, settings=SETTINGS, *, tensors=None, seen=None):
    return train_model(
        settings,
        tensors=tensors or write_packed(folder / "tensors"),
        model_folder=folder / "model",
        reports=folder / "reports",
        device=torch.device("cpu"),
        on_epoch=(seen if seen is not None else []).append,
    )


def test_model_and_reports_are_written(tmp_path):
    seen = []
    outcome = train(tmp_path, seen=seen)
    _, card = load_model(tmp_path / "model")
    assert card == outcome.card
    assert card.labels == ["Jump", "Walk"]
    assert (card.micro_batch, card.threads) == (4, 1)
    assert outcome.history == seen
    assert [row["epoch"] for row in read_csv(tmp_path / "reports/history.csv")] == ["1", "2"]
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert metrics["val_accuracy"] == round(seen[-1].scores["val"].accuracy, 6)
    assert metrics["parameters"] == card.parameters
    assert "test_accuracy" not in metrics


def test_the_model_remembers_its_split(tmp_path):
    card = train(tmp_path).card
    rows = read_index(tmp_path / "tensors/index.csv", TensorsRow, remedy="")
    assert read_trained_on(tmp_path / "model", card) == {
        row.frames_sha256 for row in rows if row.side == "train"
    }
    assert card.split_fingerprint == fingerprint_split((row, row.side) for row in rows)


def test_a_side_that_is_not_watched_is_nan(tmp_path):
    train(tmp_path, changed(watch=[]))
    with (tmp_path / "reports/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(math.isnan(float(row["val_loss"])) for row in rows)
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_equal_settings_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        train(tmp_path / name, tensors=write_packed(tmp_path / "tensors"))
    names = ("weights.safetensors", "model.json", "trained_on.txt")
    for file in (*(f"model/{name}" for name in names), "reports/history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_watched_side_without_clips_is_refused(tmp_path):
    tensors = write_packed(tmp_path / "tensors")
    index = tensors / "index.csv"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if ",val," not in line))
    with pytest.raises(InputError, match="holds no val clip"):
        train(tmp_path, tensors=tensors)
    assert not (tmp_path / "model").exists()


def test_one_class_is_refused(tmp_path):
    tensors = write_packed(tmp_path / "tensors", labels=("Jump",))
    with pytest.raises(InputError, match="holds one class only"):
        train(tmp_path, tensors=tensors)


def test_a_loss_that_is_not_finite_leaves_the_last_model(tmp_path):
    tensors = write_packed(tmp_path / "tensors")
    train(tmp_path, tensors=tensors)
    before = (tmp_path / "model/weights.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"no longer finite.*lower train\.learning_rate"):
        train(tmp_path, changed(learning_rate=1e30, epochs=5), tensors=tensors)
    assert (tmp_path / "model/weights.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "reports", "tensors"]


def test_an_epoch_is_told_in_one_line(tmp_path):
    line = describe_epoch(train(tmp_path).history[0])
    assert line.startswith("epoch 1: train loss ")
    assert "; val loss " in line
    assert line.endswith("clips/s")
