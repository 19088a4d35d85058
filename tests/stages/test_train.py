import csv
import json
import math
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import TensorsRow, read_index
from kinetrack.data.tensors import read_sides, save_tensor
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import load_model, read_trained_on
from kinetrack.learning.packed_clips import PackedClips
from kinetrack.learning.processes import alone
from kinetrack.stages.train import Paths, train_model
from kinetrack.stages.train_params import ModelParams, Settings, TrainParams
from kinetrack.stages.train_reports import describe_epoch
from kinetrack.stages.train_setup import Clips, _balance
from kinetrack.tables import read_csv

from factories import DECODING, GEOMETRY, NO_AUGMENTATION, PLAIN_INPUT, write_packed

SETTINGS = Settings(
    decoding=DECODING,
    pack=GEOMETRY,
    input=PLAIN_INPUT,
    augment=NO_AUGMENTATION,
    model=ModelParams(name="small_3dcnn", weights=None, weights_sha256=None, backbone="trained"),
    train=TrainParams(
        epochs=2,
        batch_size=4,
        micro_batch=4,
        precision="fp32",
        optimiser="adam",
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=0.0,
        schedule="constant",
        warmup_epochs=0,
        step_epochs=None,
        label_smoothing=0.0,
        class_weights="none",
        clip_gradient=None,
        keep="last",
        patience=None,
        init_from=None,
        seed=0,
        threads=1,
        watch=["val"],
    ),
)
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("torch_settings")


def changed(**train):
    return SETTINGS._replace(train=SETTINGS.train.model_copy(update=train))


def train(folder, settings=SETTINGS, *, tensors=None, seen=None, resume="resume"):
    paths = Paths(
        tensors=tensors or write_packed(folder / "tensors"),
        model=folder / "model",
        reports=folder / "reports",
        resume=folder / resume,
    )
    return train_model(
        settings,
        paths,
        device=CPU,
        team=alone(CPU),
        on_start=lambda history: None,
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
    """What a training takes from its clips: place in the index, epoch, and sum of the window."""
    taken = []

    class Spy(PackedClips):
        def __getitem__(self, key):
            example = super().__getitem__(key)
            taken.append((*key, int(example.clip.int().sum())))
            return example

    monkeypatch.setattr("kinetrack.stages.train_setup.PackedClips", Spy)

    def take():
        pairs = list(taken)
        taken.clear()
        return pairs

    return take


def test_windows_are_those_of_the_seed(tmp_path, looked_at):
    drawn, weights = [], []
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        weights.append(train_on_windows(tmp_path / name, seed=seed, watch=[]).card.weights_sha256)
        drawn.append(looked_at())
    assert drawn[0] == drawn[1] != drawn[2]
    assert weights[0] == weights[1]


def test_the_order_of_clips_is_that_of_the_seed_alone(tmp_path, looked_at):
    orders = []
    for spare, pack in ((0, GEOMETRY), (6, WINDOWS)):
        tensors = write_packed(tmp_path / f"tensors{spare}", spare_frames=spare)
        train(tmp_path / str(spare), changed(watch=[], seed=7)._replace(pack=pack), tensors=tensors)
        orders.append([(place, epoch) for place, epoch, _ in looked_at()])
    assert orders[0] == orders[1]
    first, second = ([place for place, epoch in orders[0] if epoch == number] for number in (1, 2))
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


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
        train(tmp_path, changed(learning_rate=1e30, epochs=5), tensors=tensors, resume="other")
    assert (tmp_path / "model/weights.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*.partial"))


def test_a_loss_that_is_not_finite_tells_where_the_last_good_weights_are(tmp_path):
    class DivergesLater(PackedClips):
        def __getitem__(self, key):
            example = super().__getitem__(key)
            return example._replace(target=example.target if key.epoch < 3 else -100)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinetrack.stages.train_setup.PackedClips", DivergesLater)
        # No clip of the third epoch has a class: nothing is lost, and 0 / 0 is no number.
        patch.setattr(
            "kinetrack.learning.training.F.cross_entropy",
            lambda logits, targets, **keys: (
                cross_entropy(logits, targets, **keys) / (targets >= 0).float().mean()
            ),
        )
        with pytest.raises(InputError, match=r"weights before that epoch are in .*epoch_000002"):
            train(tmp_path, changed(epochs=4, watch=[]))
    kept = safetensors.torch.load_file(tmp_path / "resume/epoch_000002.safetensors")
    assert all(values.isfinite().all() for values in kept.values())
    assert not (tmp_path / "model").exists()


def test_the_best_epoch_can_be_kept(tmp_path):
    history = train(tmp_path / "all", changed(epochs=6)).history
    outcome = train(tmp_path / "best", changed(epochs=6, keep="best"))
    scores = [(epoch.scores["val"].accuracy, -epoch.scores["val"].loss) for epoch in history]
    assert outcome.card.epoch == scores.index(max(scores)) + 1
    metrics = json.loads((tmp_path / "best/reports/metrics.json").read_text())
    assert metrics["epoch"] == outcome.card.epoch
    shorter = train(tmp_path / "shorter", changed(epochs=outcome.card.epoch))
    assert outcome.card.weights_sha256 == shorter.card.weights_sha256


def test_training_ends_when_nothing_gets_better(tmp_path):
    history = train(tmp_path, changed(epochs=40, patience=3)).history
    scores = [(epoch.scores["val"].accuracy, -epoch.scores["val"].loss) for epoch in history]
    assert len(history) == scores.index(max(scores)) + 1 + 3 < 40


def drop_most(tensors, label):
    """Leave one training clip of a class."""
    index = tensors / "index.csv"
    lines = index.read_text().splitlines(keepends=True)
    mine = [line for line in lines if ",train," in line and f",{label}," in line]
    index.write_text("".join(line for line in lines if line not in mine[1:]))
    return tensors


def test_balanced_classes_count_the_same(tmp_path):
    tensors = drop_most(write_packed(tmp_path / "tensors"), "Walk")
    weights = []
    for name, choice in (("plain", "none"), ("balanced", "balanced")):
        outcome = train(tmp_path / name, changed(class_weights=choice), tensors=tensors)
        weights.append(outcome.card.weights_sha256)
    assert weights[0] != weights[1]
    sides = read_sides(tensors)
    balanced = _balance(Clips(sides, ["Jump", "Walk"]), flip=0.5)
    assert balanced.tolist() == pytest.approx([4 / 6, 4 / 2])


@pytest.mark.parametrize(
    ("flip", "counts"), [(0, (30, 10, 8)), (0.5, (20, 20, 8)), (1, (10, 30, 8))]
)
def test_classes_are_balanced_as_they_are_trained_flipped_clips_as_their_mirror_image(flip, counts):
    labels = ["MoveLeft", "MoveRight", "Walk"]
    rows = [
        SimpleNamespace(label=label)
        for label, number in zip(labels, (30, 10, 8), strict=True)
        for _ in range(number)
    ]
    weights = _balance(Clips({"train": SimpleNamespace(rows=rows)}, labels), flip=flip)
    assert weights.tolist() == pytest.approx([48 / (3 * count) for count in counts])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": "best", "watch": []}, "need val in watch"),
        ({"patience": 2, "watch": ["test"]}, "need val in watch"),
        ({"warmup_epochs": 2}, "fewer than epochs"),
        ({"schedule": "one_cycle"}, "one_cycle needs warmup_epochs"),
        ({"schedule": "step"}, "step needs step_epochs"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        TrainParams.model_validate({**SETTINGS.train.model_dump(), **wrong})


@pytest.mark.parametrize(
    "extras",
    [
        {"precision": "bf16"},
        {"optimiser": "sgd", "momentum": 0.8, "weight_decay": 0.01},
        {"optimiser": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_epochs": 1},
        {"schedule": "one_cycle", "warmup_epochs": 1, "label_smoothing": 0.1},
        {"schedule": "step", "step_epochs": 2, "clip_gradient": 0.5, "keep": "best"},
    ],
    ids=lambda extras: "-".join(map(str, extras.values())),
)
@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_training_ends_with_the_same_bytes(tmp_path, extras, stop):
    """Whatever of optimiser, schedule, augmentation and dropout has a state."""
    changes = {"flip": 0.5, "mixup": 0.3, "brightness": 0.2}
    settings = changed(epochs=4, **extras)._replace(
        augment=NO_AUGMENTATION.model_copy(update=changes),
        model=SETTINGS.model.model_copy(update={"name": "separable_3dcnn"}),
    )
    settings = settings._replace(pack=GEOMETRY)
    clean = train(tmp_path / "clean", settings)

    class Stop(Exception):  # noqa: N818
        pass

    class Stopping(list):
        def append(self, epoch):
            if epoch.number == stop:
                raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "cut", settings, seen=Stopping())
    again = []
    outcome = train(tmp_path / "cut", settings, seen=again)
    assert [epoch.number for epoch in again] == list(range(stop + 1, 5))
    assert outcome.card == clean.card
    for file in ("model/weights.safetensors", "model/model.json", "reports/history.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "clean" / file).read_bytes()


def test_a_model_can_start_from_another(tmp_path):
    first = train(tmp_path / "first")
    settings = changed(epochs=1, learning_rate=1e-12, init_from=str(tmp_path / "first/model"))
    second = train(tmp_path / "second", settings)
    assert second.card.started_from_sha256 == first.card.weights_sha256
    weights = [
        load_model(tmp_path / name / "model")[0].state_dict() for name in ("first", "second")
    ]
    for name, values in weights[0].items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(weights[1][name], values, atol=1e-6, rtol=0)


def test_other_classes_get_a_fresh_head(tmp_path):
    train(tmp_path / "first")
    tensors = write_packed(tmp_path / "others", labels=("Jump", "Swim"))
    settings = changed(epochs=1, learning_rate=1e-12, init_from=str(tmp_path / "first/model"))
    train(tmp_path / "second", settings, tensors=tensors)
    first, second = (
        load_model(tmp_path / name / "model")[0].state_dict() for name in ("first", "second")
    )
    assert torch.allclose(first["block1.0.weight"], second["block1.0.weight"], atol=1e-6)
    assert not torch.allclose(first["head.weight"], second["head.weight"], atol=1e-3)


def test_another_network_is_no_start(tmp_path):
    train(tmp_path / "first")
    settings = changed(init_from=str(tmp_path / "first/model"))
    settings = settings._replace(
        model=SETTINGS.model.model_copy(update={"name": "separable_3dcnn"})
    )
    with pytest.raises(InputError, match=r"is another network.*found small_3dcnn"):
        train(tmp_path / "second", settings)


def test_two_starts_are_refused(tmp_path):
    settings = changed(init_from="elsewhere")._replace(
        model=SETTINGS.model.model_copy(update={"weights": "file.pth"})
    )
    with pytest.raises(InputError, match=r"model\.weights and train\.init_from are both set"):
        train(tmp_path, settings)


def test_a_frozen_backbone_stays_as_it_was(tmp_path):
    train(tmp_path / "first")
    frozen = SETTINGS.model.model_copy(update={"backbone": "frozen"})
    settings = changed(init_from=str(tmp_path / "first/model"))._replace(model=frozen)
    train(tmp_path / "second", settings)
    first, second = (
        load_model(tmp_path / name / "model")[0].state_dict() for name in ("first", "second")
    )
    changes = {name for name in first if not torch.equal(first[name], second[name])}
    assert changes == {"head.weight", "head.bias"}


def test_an_epoch_is_told_in_one_line(tmp_path):
    line = describe_epoch(train(tmp_path).history[0])
    assert line.startswith("epoch 1: train loss ")
    assert "; val loss " in line
    assert line.endswith("clips/s")
