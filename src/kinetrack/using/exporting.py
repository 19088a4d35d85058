"""A model outside of this project and of PyTorch's code: ONNX or torch.export, checked."""

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kinetrack.errors import InputError
from kinetrack.files import atomic_file, write_json
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.inputs import ClipInput, to_input

SUFFIXES = (".onnx", ".pt2")
# Other kernels add in another order; what a person reads has three digits.
TOLERANCE = 1e-4
_CLIPS, _PROBABILITIES = "clips", "probabilities"
# Two, since for one the tools would take the number of clips for fixed.
_TRACED_CLIPS = 2
_CHECKED_BATCHES = (1, 2, 3)

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Exported(NamedTuple):
    """A model as the bytes of a file, and how far its probabilities are from the original's."""

    content: bytes
    largest_difference: float


class _Whole(nn.Module):
    """From the bytes of clips to probabilities: nothing is left for the other side to do wrong."""

    def __init__(self, network: nn.Module, clip_input: ClipInput) -> None:
        super().__init__()
        self._network, self._input = network, clip_input

    def forward(self, clips: Tensor) -> Tensor:
        """Probabilities (N, K) float32 of clips uint8 (N, 3, T, H, W)."""
        logits: Tensor = self._network(to_input(clips, clips.device, self._input))
        return logits.softmax(dim=1)


def export_model(path: Path, network: nn.Module, card: ModelCard) -> float:
    """Write a model as ONNX (`.onnx`) or torch.export (`.pt2`), with `<file>.json` beside it.

    It takes clips uint8 (N, 3, T, H, W), any N, and gives probabilities (N, K). The JSON says how
    clips are cut from a video, and which class each probability is of.

    Returns:
        The largest difference of a probability on random clips.

    Raises:
        InputError: another suffix, a network that cannot be exported, a tool that is not
            installed, or probabilities that differ by more than the tolerance. Nothing is written.
    """
    exported = convert(network, card, suffix=path.suffix, name=path)
    with atomic_file(path) as file:
        file.write(exported.content)
    # Behind the suffix: beside a model folder's weights, `model.json` would be its card.
    write_json(path.with_name(f"{path.name}.json"), _describe(path, exported, card))
    return exported.largest_difference


def convert(network: nn.Module, card: ModelCard, *, suffix: str, name: Path) -> Exported:
    """Convert a model and compare it with the original on random clips; nothing is written.

    Raises:
        InputError: as `export_model`.
    """
    if suffix not in SUFFIXES:
        raise InputError(name, "has no suffix of an export", expected=" or ".join(SUFFIXES))
    whole = _Whole(network, card.input).eval()
    with _quietly(), _telling(name, card.model):
        content = _to_onnx(whole, card) if suffix == ".onnx" else _to_pt2(whole, card)
        answer = open_onnx(content) if suffix == ".onnx" else open_pt2(content)
        difference = _largest_difference(whole, answer, card)
    if not difference <= TOLERANCE:  # NaN too
        raise InputError(
            name,
            f"the export of {card.model} is not the same function",
            found=f"a probability that differs by {difference:.2g}",
            expected=f"at most {TOLERANCE:g}",
        )
    return Exported(content, difference)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The tools tell their developers much, on every way to tell something."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(sink):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _telling(name: Path, model: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        remedy = "pip install 'kinetrack[export]'"
        raise InputError(name, "needs a tool for ONNX", found=error, remedy=remedy) from None
    except Exception as error:  # whatever a tool raises on an operation that it does not know
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(name, f"{model} cannot be exported", found=found) from error


def _to_onnx(whole: nn.Module, card: ModelCard) -> bytes:
    program = torch.onnx.export(
        whole,
        (_random_clips(card, _TRACED_CLIPS),),
        dynamo=True,
        input_names=[_CLIPS],
        output_names=[_PROBABILITIES],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _to_pt2(whole: nn.Module, card: ModelCard) -> bytes:
    clips = _random_clips(card, _TRACED_CLIPS)
    batch = torch.export.Dim("batch")
    program = torch.export.export(whole, (clips,), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def open_onnx(content: bytes) -> Answer:
    """Open an ONNX model on the CPU by ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415  # of the extra `export`

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def answer(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        (probabilities,) = session.run([_PROBABILITIES], {_CLIPS: clips})
        return np.asarray(probabilities)

    return answer


def open_pt2(content: bytes) -> Answer:
    """Open a model of torch.export on the CPU."""
    module = torch.export.load(io.BytesIO(content)).module()

    @torch.inference_mode()
    def answer(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(module(torch.from_numpy(clips)))

    return answer


@torch.inference_mode()
def _largest_difference(whole: nn.Module, answer: Answer, card: ModelCard) -> float:
    differences = []
    for num_clips in _CHECKED_BATCHES:
        clips = _random_clips(card, num_clips)
        difference = whole(clips).numpy() - answer(clips.numpy())
        differences.append(float(np.abs(difference).max()))
    return float(np.max(differences))  # NaN wins, as it should


def _random_clips(card: ModelCard, num_clips: int) -> Tensor:
    clip = card.clip
    shape = (num_clips, 3, clip.num_frames, clip.size_px, clip.size_px)
    generator = torch.Generator().manual_seed(num_clips)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _describe(path: Path, exported: Exported, card: ModelCard) -> dict[str, object]:
    clip = card.clip
    return {
        "format": 1,
        "file": path.name,
        "sha256": hashlib.sha256(exported.content).hexdigest(),
        "model": card.model,
        "weights_sha256": card.weights_sha256,
        "input": {
            "name": _CLIPS,
            "type": "uint8",
            "shape": ["batch", 3, clip.num_frames, clip.size_px, clip.size_px],
            "axes": "clips, colours (red, green, blue), frames, rows, columns",
        },
        "output": {"name": _PROBABILITIES, "type": "float32", "shape": ["batch", len(card.labels)]},
        "labels": card.labels,
        "clip": clip.model_dump(),
        "decoding": card.decoding.model_dump(),
        # Done inside; here to be known.
        "normalisation": card.input.model_dump(),
        "largest_difference": exported.largest_difference,
    }
