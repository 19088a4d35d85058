import json
import re

import pytest
import torch

from kinetrack.data.tensors import load_clip, read_sides
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import load_model, save_model
from kinetrack.learning.models import build_model
from kinetrack.stages.evaluate import EvaluateParams, evaluate_model
from kinetrack.tables import read_csv

from factories import GEOMETRY, model_card, write_packed

pytestmark = pytest.mark.usefixtures("torch_settings")


@pytest.fixture
def folder(tmp_path):
    """A folder with packed clips and a model for them."""
    write_packed(tmp_path / "tensors")
    write_model(tmp_path / "model", labels=("Jump", "Walk"))
    return tmp_path


def write_model(path, *, trained_on=(), clip=None, **card):
    described = model_card(**card)
    if clip:
        described = described.model_copy(update={"clip": clip})
    torch.manual_seed(0)
    model = build_model(
        described.model,
        num_classes=len(described.labels),
        num_frames=described.clip.num_frames,
        size_px=described.clip.size_px,
    )
    save_model(path, model, described, trained_on=trained_on)


PARAMS = EvaluateParams(windows=1, crops=1, shuffle_control=False, top_k=2)


def evaluate(folder, **changes):
    return evaluate_model(
        PARAMS.model_copy(update=changes),
        tensors=folder / "tensors",
        model_folder=folder / "model",
        reports=folder / "reports",
        device=torch.device("cpu"),
    )


def test_reports_agree_with_each_other(folder):
    metrics = evaluate(folder).metrics
    reports = folder / "reports"
    assert json.loads((reports / "metrics.json").read_text()) == metrics
    predictions = read_csv(reports / "predictions.csv")
    right = [row["correct"] == "True" for row in predictions]
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-6)
    assert [row["rank"] == "1" for row in predictions] == right
    groups = {row["clip"]: row["group"] for row in read_csv(folder / "tensors/index.csv")}
    assert all(row["group"] == groups[row["clip"]] for row in predictions)
    assert all(row["video"] == f"{row['actual']}/{row['clip']}.avi" for row in predictions)
    counts = {
        (row["actual"], row["predicted"]): int(row["num_clips"])
        for row in read_csv(reports / "confusion.csv")
    }
    assert len(counts) == 4
    assert sum(counts.values()) == metrics["num_clips"] == len(predictions)
    assert sum(counts[label, label] for label in ("Jump", "Walk")) == sum(right)
    per_class = {row["label"]: row for row in read_csv(reports / "per_class.csv")}
    recall = counts["Jump", "Jump"] / int(per_class["Jump"]["num_clips"])
    assert float(per_class["Jump"]["recall"]) == pytest.approx(recall, abs=1e-6)
    shares = {
        (row["actual"], row["predicted"]): float(row["share"])
        for row in read_csv(reports / "confusion.csv")
    }
    assert shares["Jump", "Jump"] == pytest.approx(recall, abs=1e-6)
    said = [{label: float(row[f"p_{label}"]) for label in ("Jump", "Walk")} for row in predictions]
    assert all(sum(one.values()) == pytest.approx(1, abs=1e-5) for one in said)
    assert [max(one, key=one.get) for one in said] == [row["predicted"] for row in predictions]
    bins = read_csv(reports / "reliability.csv")
    assert sum(int(row["num_clips"]) for row in bins) == len(predictions)
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["view_accuracy"] == metrics["accuracy"]
    assert "shuffled_accuracy" not in metrics


def test_shuffled_frames_are_judged_as_a_control(folder):
    plain, with_control = evaluate(folder).metrics, evaluate(folder, shuffle_control=True).metrics
    rows = read_csv(folder / "reports/predictions.csv")
    right = [row["shuffled_predicted"] == row["actual"] for row in rows]
    accuracy = with_control.pop("shuffled_accuracy")
    assert accuracy == pytest.approx(sum(right) / len(right), abs=1e-6)
    assert with_control == plain


def test_logits_of_all_views_are_averaged(tmp_path):
    write_packed(tmp_path / "tensors", spare_frames=3, spare_px=2)
    room = {"sampling": "random", "spare_frames": 3, "resize_px": 18, "spare_px": 2}
    clip = GEOMETRY.model_copy(update={"num_frames": 4, "size_px": 16, **room})
    write_model(tmp_path / "model", clip=clip)
    found = evaluate(tmp_path, windows=2, crops=5)
    assert found.metrics["num_views"] == 10
    model, card = load_model(tmp_path / "model")
    side = read_sides(tmp_path / "tensors")["test"]
    whole = torch.stack([load_clip(side.path(row), num_frames=7, size_px=18) for row in side.rows])
    parts = [
        whole[:, :, start : start + 4, top : top + 16, left : left + 16]
        for start in (0, 3)
        for top, left in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2))
    ]
    with torch.inference_mode():
        logits = torch.stack([model(part.float() / 255).double() for part in parts])
    expected = logits.mean(dim=0).softmax(dim=1)
    said = read_csv(tmp_path / "reports/predictions.csv")
    for row, values in zip(said, expected.tolist(), strict=True):
        assert [float(row["p_Jump"]), float(row["p_Walk"])] == pytest.approx(values, abs=2e-6)
    targets = torch.tensor([card.labels.index(row.label) for row in side.rows])
    accuracy = float((logits.argmax(dim=2) == targets).double().mean())
    assert found.metrics["view_accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": 2}, "several windows need spare frames.*found evaluate.windows 2"),
        ({"crops": 5}, "several squares need spare pixels.*found evaluate.crops 5"),
    ],
)
def test_views_that_no_clip_has_are_refused(folder, changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(folder, **changes)
    assert not (folder / "reports").exists()


def test_no_test_clip_is_refused(folder):
    index = folder / "tensors/index.csv"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if ",test," not in line))
    with pytest.raises(InputError, match="holds no test clip"):
        evaluate(folder)


def test_a_class_that_the_model_does_not_know_is_named(folder):
    write_model(folder / "model", labels=("Jump", "Run"))
    with pytest.raises(InputError, match="holds class Walk that the model does not know"):
        evaluate(folder)


def test_clips_of_another_geometry_are_refused(folder):
    write_model(folder / "model", num_frames=8)
    with pytest.raises(InputError, match="by another geometry, found 4 frames"):
        evaluate(folder)
    assert not (folder / "reports").exists()


def test_a_damaged_model_is_refused_and_old_reports_stay(folder):
    evaluate(folder)
    before = (folder / "reports/metrics.json").read_bytes()
    weights = folder / "model/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"weights\.safetensors: is damaged.*dvc pull"):
        evaluate(folder)
    assert (folder / "reports/metrics.json").read_bytes() == before


def content_of(folder, side):
    """The checksums of the frames of a side's clips."""
    rows = read_csv(folder / "tensors/index.csv")
    return [row["frames_sha256"] for row in rows if row["side"] == side]


def test_a_model_that_was_trained_on_a_test_clip_is_refused(folder):
    write_model(folder / "model", trained_on=content_of(folder, "test")[1:])
    message = (
        r"model: was trained on clips that are test clips here, "
        r"found 5 of 6, the first: Jump/v_Jump_g03_c02"
    )
    with pytest.raises(InputError, match=message):
        evaluate(folder)
    assert not (folder / "reports").exists()


def test_a_model_of_another_fold_is_refused(folder):
    write_model(folder / "model", trained_on=content_of(folder, "train"))
    index = folder / "tensors/index.csv"
    swapped = {",train,": ",test,", ",test,": ",train,"}
    index.write_text(re.sub(",(train|test),", lambda found: swapped[found[0]], index.read_text()))
    with pytest.raises(InputError, match=r"was trained on clips that are test clips.*6 of 6"):
        evaluate(folder)


def test_a_model_of_the_training_clips_is_judged(folder):
    trained_on = content_of(folder, "train") + content_of(folder, "val")
    write_model(folder / "model", trained_on=trained_on)
    assert evaluate(folder).metrics["num_clips"] == 6


def test_a_model_that_forgot_its_clips_is_refused(folder):
    (folder / "model/trained_on.txt").write_text("0" * 64 + "\n")
    with pytest.raises(InputError, match=r"trained_on\.txt: is damaged.*dvc pull"):
        evaluate(folder)
