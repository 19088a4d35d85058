import csv
import json
import math

import pytest
import torch
from torch.utils.data import DataLoader

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import TensorsRow, read_index
from kinetrack.data.tensors import read_sides, save_tensor
from kinetrack.errors import InputError
from kinetrack.files import read_csv
from kinetrack.learning.batches import PackedClips
from kinetrack.learning.checkpoint import load_model, read_trained_on
from kinetrack.stages.train import (
    ModelParams,
    Settings,
    TrainParams,
    describe_epoch,
    train_model,
)

from factories import GEOMETRY, write_packed

SETTINGS = Settings(
    pack=GEOMETRY,
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


WINDOWS = GEOMETRY.model_copy(update={"sampling": "random", "spare_frames": 6})


def train_on_windows(folder, *, pack=WINDOWS, **params):
    tensors = write_packed(folder / "tensors", spare_frames=6)
    return train(folder, changed(**params)._replace(pack=pack), tensors=tensors)


def film_bars(tensors):
    """Put films into packed clips: a bar that goes to the right, or for `Walk` to the left."""
    for side in read_sides(tensors).values():
        for number, row in enumerate(side.rows):
            step = -2 if row.label == "Walk" else 2
            pixels_thwc = torch.zeros(row.packed_frames, 16, 16, 3, dtype=torch.uint8)
            for time, image in enumerate(pixels_thwc):
                image[:, (5 * number + step * time) % 16] = 255
            save_tensor(side.path(row), pixels_thwc.permute(3, 0, 1, 2))
    return tensors


def test_motion_is_learnt_from_windows(tmp_path):
    tensors = film_bars(write_packed(tmp_path / "tensors", clips_per_class=8, spare_frames=6))
    settings = changed(epochs=20, batch_size=8, micro_batch=8)._replace(pack=WINDOWS)
    outcome = train(tmp_path, settings, tensors=tensors)
    assert outcome.card.clip == WINDOWS
    assert outcome.history[-1].scores["val"].accuracy == 1.0


@pytest.fixture
def looked_at(monkeypatch):
    """What a training takes from its clips: pairs of place in the index and start of the window."""
    pairs = []

    class Spy(PackedClips):
        def __getitem__(self, place):
            pairs.append([place])
            return super().__getitem__(place)

        def _choose_start(self, packed_frames):
            pairs[-1].append(super()._choose_start(packed_frames))
            return pairs[-1][1]

    monkeypatch.setattr("kinetrack.stages.train.PackedClips", Spy)

    def take():
        taken = [tuple(pair) for pair in pairs]
        pairs.clear()
        return taken

    return take


def test_windows_are_those_of_the_seed(tmp_path, looked_at):
    drawn, weights = [], []
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        weights.append(train_on_windows(tmp_path / name, seed=seed, watch=[]).card.weights_sha256)
        drawn.append([start for _, start in looked_at()])
    assert drawn[0] == drawn[1] != drawn[2]
    assert weights[0] == weights[1]
    assert len(set(drawn[0])) > 1


@pytest.mark.parametrize("pack", [GEOMETRY, WINDOWS], ids=["whole", "windows"])
def test_the_order_of_clips_is_that_of_the_seed_alone(tmp_path, looked_at, pack):
    spare = 0 if pack is GEOMETRY else 6
    tensors = write_packed(tmp_path / "tensors", spare_frames=spare)
    train(tmp_path, changed(watch=[], seed=7)._replace(pack=pack), tensors=tensors)
    shuffled = DataLoader(
        range(6), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(7)
    )
    places = [int(place) for _epoch in range(2) for batch in shuffled for place in batch]
    assert [place for place, _ in looked_at()] == places


def test_watched_clips_show_their_middle_windows(tmp_path):
    """As they do to `evaluate`; and so a watched side alters no weight."""
    seen = [train_on_windows(tmp_path / side, watch=[side]) for side in ("val", "test")]
    assert seen[0].card.weights_sha256 == seen[1].card.weights_sha256


def test_packed_clips_of_another_geometry_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"was packed by another geometry, found 10 frames"):
        train_on_windows(tmp_path, pack=GEOMETRY)
    assert not (tmp_path / "model").exists()


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
