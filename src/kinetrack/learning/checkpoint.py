"""A trained model on disk: safetensors weights, a JSON that rebuilds the rest, what it has seen."""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError
from torch import nn

from kinetrack.data.decoding import Decoding
from kinetrack.data.sampling import ClipGeometry
from kinetrack.errors import InputError
from kinetrack.files import atomic_file, write_json
from kinetrack.learning.inputs import ClipInput
from kinetrack.learning.models import ModelName, build_model
from kinetrack.learning.training import Precision

WEIGHTS_NAME = "weights.safetensors"
CARD_NAME = "model.json"
TRAINED_NAME = "trained_on.txt"
# Seven thousand frames of 224 px.
_MOST_CLIP_BYTES = 2**30
_REMEDY = "dvc repro -f train, or dvc pull"


class ModelCard(BaseModel):
    """Everything beside the weights that is needed to use a model, and how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[4] = 4
    model: ModelName
    labels: list[str]
    """Class names, in the order of the logits."""
    decoding: Decoding
    clip: ClipGeometry
    input: ClipInput
    """What is done to the bytes of a clip, which are divided by 255 first."""
    parameters: PositiveInt
    gflop_per_clip: float
    """Forward pass of one clip, a multiplication and an addition counted as two."""
    precision: Precision
    """Of the training; predictions are made in fp32."""
    micro_batch: PositiveInt
    """As asked for; halved `halvings` times where the memory did not suffice."""
    halvings: NonNegativeInt = 0
    """Above 0, another machine need not come to the same bytes."""
    threads: PositiveInt
    """On a CPU another number gives other last bits."""
    processes: PositiveInt = 1
    """That trained together; another number gives other last bits."""
    started_from_sha256: str = ""
    """Of the file with the first weights; empty for fresh ones."""
    epoch: NonNegativeInt = 0
    """After which the weights were taken."""
    split_fingerprint: str
    """Of the packed clips: that of `split.json`, where none was too short and dropped."""
    trained_sha256: str
    """Of the file that lists the frames of its training clips."""
    weights_sha256: str


def save_model(
    folder: Path, model: nn.Module, card: ModelCard, *, trained_on: Collection[str] = ()
) -> ModelCard:
    """Write a model into a folder, the card last; return the card with the checksums.

    `trained_on` is the sha256 of the frames of each clip that it was trained on: no names, since
    a model may be given away.
    """
    weights = {name: values.contiguous().cpu() for name, values in model.state_dict().items()}
    # No metadata: with two keys or more, safetensors writes them in random order.
    content = safetensors.torch.save(weights)
    trained = "".join(f"{sha256}\n" for sha256 in sorted(set(trained_on))).encode()
    with atomic_file(folder / WEIGHTS_NAME) as file:
        file.write(content)
    with atomic_file(folder / TRAINED_NAME) as file:
        file.write(trained)
    checksums = {"weights_sha256": _sha256(content), "trained_sha256": _sha256(trained)}
    whole = card.model_copy(update=checksums)
    write_json(folder / CARD_NAME, whole.model_dump())
    return whole


def load_model(folder: Path) -> tuple[nn.Module, ModelCard]:
    """Rebuild a model from its folder, on the CPU, in evaluation mode.

    Raises:
        InputError: a file is missing or damaged, or weights and card do not belong together.
    """
    card = read_card(folder)
    _refuse_huge(card, folder / CARD_NAME)
    try:
        with torch.device("meta"):  # a card that lies about its size costs no memory
            model = build_model(
                card.model,
                num_classes=len(card.labels),
                num_frames=card.clip.num_frames,
                size_px=card.clip.size_px,
            )
        content = _read_whole(folder / WEIGHTS_NAME, card.weights_sha256)
        weights = safetensors.torch.load(content)
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, SafetensorError) as error:
        problem = " ".join(str(error).split())[:200]
        raise InputError(
            folder / WEIGHTS_NAME, "does not fit model.json", found=problem, remedy=_REMEDY
        ) from None
    return to_channels_last(model).eval(), card


def _refuse_huge(card: ModelCard, path: Path) -> None:
    """Many networks take clips of any size, and a card is a text: what it asks for is made."""
    num_bytes = 3 * card.clip.num_frames * card.clip.size_px**2
    if num_bytes > _MOST_CLIP_BYTES:
        raise InputError(
            path,
            "asks for absurdly large clips",
            found=f"{card.clip.num_frames} frames of {card.clip.size_px} px, {num_bytes} bytes",
            expected=f"at most {_MOST_CLIP_BYTES} bytes",
            remedy=_REMEDY,
        )


def to_channels_last(model: nn.Module) -> nn.Module:
    """Store the weights of 2D and 3D convolutions channels last, as the clips are."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weights in model.parameters():
        if weights.ndim in layouts:
            weights.data = weights.data.to(memory_format=layouts[weights.ndim])
    return model


def read_card(folder: Path) -> ModelCard:
    """Read `model.json`.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / CARD_NAME
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror, remedy=_REMEDY) from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InputError(
            path, "is no model card", found=f"{place}: {problem['msg']}", remedy=_REMEDY
        ) from None


def read_trained_on(folder: Path, card: ModelCard) -> frozenset[str]:
    """Read the sha256 of the frames of each clip that a model was trained on.

    Raises:
        InputError: the file is missing or damaged.
    """
    content = _read_whole(folder / TRAINED_NAME, card.trained_sha256)
    return frozenset(content.decode("ascii", "replace").split())


def _read_whole(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror, remedy=_REMEDY) from None
    found = _sha256(content)
    if found != sha256:
        raise InputError(
            path, "is damaged", found=f"sha256 {found}", expected=sha256, remedy=_REMEDY
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
