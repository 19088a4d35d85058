"""Weights from another training: what a network starts with, and what of it is kept fixed."""

import hashlib
import http.client
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from kinetrack.data.torch_files import load_torch_bytes
from kinetrack.errors import InputError
from kinetrack.learning.models import NETWORKS, ModelName

_SUFFIXES = (".pth", ".pt", ".safetensors")
_PARAMS = "params.yaml"
# Batch norm counts its batches; files from before 2018 do not.
_NOT_NEEDED = "num_batches_tracked"


def load_pretrained(model: nn.Module, name: ModelName, *, weights: str, sha256: str | None) -> str:
    """Fill everything but the head of a fresh network; return the sha256 of the file.

    `weights` is the path of a local file (.pth, .pt, .safetensors), of which the sha256 must be
    given, or the name of weights that torchvision publishes for this network. These are
    downloaded once, into torch's cache. The file holds the state dict of this very network, or
    of its published part; of how many classes does not matter.

    Raises:
        InputError: no such weights, no network, another sha256, or a tensor does not fit.
    """
    check_pretrained(name, weights=weights, sha256=sha256)
    if _is_file_name(weights):
        path = Path(weights)
        content = _read(path)
    else:
        path = _fetch_published(name, weights)
        content = _read(path)
        _check_name(path, content)
    if sha256 is not None:
        _check_sha256(content, sha256, path)
    _fill(model, name, _parse(content, path), path=path)
    return _sha256(content)


def check_pretrained(name: ModelName, *, weights: str, sha256: str | None) -> None:
    """Refuse what cannot be loaded, without loading or fetching it.

    Raises:
        InputError: no such file, no checksum for it (the one that it has is told), or no such
            published weights.
    """
    if not _is_file_name(weights):
        _find_published(name, weights)
        return
    path = Path(weights)
    if not path.exists():
        raise InputError(
            weights, "does not exist", remedy="put the weights there, or change model.weights"
        )
    if sha256 is None:
        raise InputError(
            _PARAMS,
            "model.weights is a file, but model.weights_sha256 is null",
            remedy=f"if that file is the right one: model.weights_sha256: {_sha256(_read(path))}",
        )


def _is_file_name(weights: str) -> bool:
    return Path(weights).suffix in _SUFFIXES


def freeze_backbone(model: nn.Module, name: ModelName) -> None:
    """Keep everything but the head (cnn_lstm: everything but LSTM and head) as it is in training.

    Its parameters need no gradient. A hook puts its parts into evaluation mode before each
    forward, whoever called `train()`: batch norm neither takes nor uses the statistics of the
    batch, and nothing is dropped.
    """
    heads = NETWORKS[name].heads
    for part_name, part in model.named_modules():
        if not _is_backbone(part_name, name):
            continue
        for values in part.parameters(recurse=False):
            values.requires_grad_(False)
        if part_name and not any(_is_in(head, part_name) for head in heads):
            part.register_forward_pre_hook(_evaluate)


def _evaluate(module: nn.Module, _: object) -> None:
    module.eval()


def _is_backbone(part: str, name: ModelName) -> bool:
    return _is_in(part, NETWORKS[name].backbone) and not _is_head(part, name)


def _is_head(part: str, name: ModelName) -> bool:
    return any(_is_in(part, head) for head in NETWORKS[name].heads)


def _is_in(part: str, module: str) -> bool:
    return not module or f"{part}.".startswith(f"{module}.")


def _fetch_published(name: ModelName, weights: str) -> Path:
    """Path of published weights in torch's cache, where they are put if they are not there."""
    url = _find_published(name, weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        _download(url, path, weights=weights)
    return path


def _find_published(name: ModelName, weights: str) -> str:
    """The URL of published weights."""
    urls = list_published(name)
    if weights not in urls:
        raise InputError(
            _PARAMS,
            f"model.weights names no weights of {name}",
            found=weights,
            expected=", ".join([*urls, f"a file {' '.join(_SUFFIXES)}"]),
        )
    return urls[weights]


def list_published(name: ModelName) -> dict[str, str]:
    """Names and URLs of the weights that torchvision publishes for a network."""
    published = NETWORKS[name].published
    if published is None:
        return {}
    from torchvision.models import get_model_weights

    return {entry.name: entry.url for entry in get_model_weights(published)}


def _download(url: str, path: Path, *, weights: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), _named_digits(path), progress=False)
    # The last is torch's own, for a file that is not what its name says.
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise InputError(
            _PARAMS,
            f"model.weights {weights} cannot be downloaded (no network?)",
            found=error,
            remedy=f"download URL {url} elsewhere, and put the file as `model.weights: PATH` with "
            "`model.weights_sha256`",
        ) from None


def _check_name(path: Path, content: bytes) -> None:
    """Compare a file with the digits of its sha256 that torchvision puts into its name."""
    digits, found = _named_digits(path), _sha256(content)
    if not found.startswith(digits):
        raise InputError(
            path,
            "is damaged",
            found=f"sha256 {found}",
            expected=f"{digits}...",
            remedy="remove it, and it is downloaded again",
        )


def _named_digits(path: Path) -> str:
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    return match.group(1) if match else ""


def _check_sha256(content: bytes, sha256: str, path: Path) -> None:
    found = _sha256(content)
    if found != sha256.lower():
        raise InputError(
            path, "is not what model.weights_sha256 names", found=found, expected=sha256
        )


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise InputError(path, "is no regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror) from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parse(content: bytes, path: Path) -> dict[str, Tensor]:
    """Read a state dict from the bytes of a file; a pickle in it runs nothing."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(content)
        values = load_torch_bytes(content)
    except Exception as error:  # of a damaged file the two libraries raise a dozen kinds
        problem = " ".join(str(error).split())[:200]
        raise InputError(path, "holds no weights", found=problem) from None
    if not isinstance(values, Mapping) or not all(
        isinstance(key, str) and _is_plain(value) for key, value in values.items()
    ):
        raise InputError(path, "holds no weights", expected="a state dict: tensors by their names")
    return dict(values)


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and (value.layout, value.device.type) == (torch.strided, "cpu")


def _fill(model: nn.Module, name: ModelName, found: Mapping[str, Tensor], *, path: Path) -> None:
    """Copy all weights but the head's into the network, once all of them are known to fit."""
    own = model.state_dict()
    backbone = NETWORKS[name].backbone
    # What torchvision publishes does not know that the network is a part of ours.
    placed = {
        key if key in own or not backbone else f"{backbone}.{key}": values
        for key, values in found.items()
    }
    loaded = {key: values for key, values in placed.items() if not _is_head(key, name)}
    if not loaded:
        raise InputError(path, f"holds no weights of {name}", found=f"{len(found)} tensors")
    _check_fit(loaded, own, path=path, name=name)
    for key, values in loaded.items():
        own[key].copy_(values)


def _check_fit(
    loaded: Mapping[str, Tensor], own: Mapping[str, Tensor], *, path: Path, name: ModelName
) -> None:
    """Name the first tensor that the network has not, has in another shape, or would lack."""
    problem = f"does not fit {name}"
    for key, values in loaded.items():
        if key not in own:
            raise InputError(path, problem, found=f"{key}, which the network does not have")
        if values.shape != own[key].shape:
            shapes = [f"{key} {tuple(tensor.shape)}" for tensor in (values, own[key])]
            raise InputError(path, problem, found=shapes[0], expected=shapes[1])
    # The published part alone, or all.
    is_part = all(_is_backbone(key, name) for key in loaded)
    for key in own:
        wanted = _is_backbone(key, name) if is_part else not _is_head(key, name)
        if wanted and key not in loaded and not key.endswith(_NOT_NEEDED):
            raise InputError(path, problem, found=f"no {key}")
