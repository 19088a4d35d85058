"""An export gives the model's probabilities, or is refused and not written."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from kinetrack.cli.main import app
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import ModelCard, save_model, to_channels_last
from kinetrack.learning.inputs import ClipInput
from kinetrack.learning.models import NETWORKS, build_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.using import exporting
from kinetrack.using.exporting import SUFFIXES, convert, export_model, open_onnx, open_pt2
from kinetrack.using.inference import Recogniser

from factories import model_card

CLIPS = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 16, 16), dtype=np.uint8)
OPEN = {".onnx": open_onnx, ".pt2": open_pt2}
MOSTLY_QUICK = [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)]
SEES_TIME = ClipInput(kind="differences", normalise="kinetics")


def built(card: ModelCard) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_model(
            card.model,
            num_classes=len(card.labels),
            num_frames=card.clip.num_frames,
            size_px=card.clip.size_px,
        )
    return to_channels_last(network).eval()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_export_answers_as_the_model_for_any_number_of_clips(tmp_path: Path, suffix: str) -> None:
    card = model_card().model_copy(update={"input": SEES_TIME})
    network = built(card)
    path = tmp_path / f"actions{suffix}"
    difference = export_model(path, network, card)
    answer, ours = OPEN[suffix](path.read_bytes()), Recogniser(network, card).probabilities
    for number in (1, 5):
        np.testing.assert_allclose(answer(CLIPS[:number]), ours(CLIPS[:number]), atol=1e-6)
    assert 0 <= difference < 1e-5
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, f"{path.name}.json"]


def test_json_says_how_it_is_used(tmp_path: Path) -> None:
    card = model_card()
    export_model(tmp_path / "actions.pt2", built(card), card)
    told = json.loads((tmp_path / "actions.pt2.json").read_text())
    assert told["sha256"] == hashlib.sha256((tmp_path / "actions.pt2").read_bytes()).hexdigest()
    assert told["labels"] == ["Jump", "Walk"]
    assert told["input"]["shape"] == ["batch", 3, 4, 16, 16]
    assert told["clip"] == card.clip.model_dump()
    assert told["decoding"] == card.decoding.model_dump()
    assert told["normalisation"] == card.input.model_dump()


@pytest.mark.parametrize("suffix", MOSTLY_QUICK)
def test_export_that_is_another_function_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    name = f"open_{suffix[1:]}"
    opened = getattr(exporting, name)
    monkeypatch.setattr(
        exporting, name, lambda content: lambda clips: opened(content)(clips) + 1e-3
    )
    with pytest.raises(InputError, match=r"not the same function, found .* by 0\.001, expected"):
        export_model(tmp_path / f"a{suffix}", built(model_card()), model_card())
    assert list(tmp_path.iterdir()) == []


def test_no_number_is_no_equal_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = built(model_card())
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match=r"not the same function, found .* nan"):
        export_model(tmp_path / "a.pt2", network, model_card())


class Counting(nn.Module):
    """Decides by a value that is not known before it runs."""

    def forward(self, values: Tensor) -> Tensor:
        return values.mean(dim=(2, 3, 4)) if values.sum().item() > 0 else values[:, :, 0, 0, 0]


@pytest.mark.parametrize("suffix", MOSTLY_QUICK)
def test_network_that_cannot_be_exported_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="small_3dcnn cannot be exported, found") as caught:
        export_model(tmp_path / f"a{suffix}", Counting(), model_card())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.txt", "a", "a.onnx.gz"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"no suffix of an export, expected \.onnx or \.pt2"):
        export_model(tmp_path / name, built(model_card()), model_card())
    assert list(tmp_path.iterdir()) == []


def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"-> pip install 'kinetrack\[export\]'"):
        export_model(tmp_path / "a.onnx", built(model_card()), model_card())


def test_command_exports_a_model_folder(tmp_path: Path) -> None:
    save_model(tmp_path / "model", Small3dCnn(num_classes=2), model_card())
    out = tmp_path / "made/actions.pt2"
    result = CliRunner().invoke(app, ["export", str(out), "--model", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    assert "probabilities differ from the model's by" in result.output
    assert out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_can_be_exported(name: str, suffix: str) -> None:
    frames, size_px = NETWORKS[name].smallest_clip
    card = model_card(name, num_frames=frames, size_px=size_px)
    exported = convert(built(card), card, suffix=suffix, name=Path(f"a{suffix}"))
    assert exported.largest_difference < 1e-5
