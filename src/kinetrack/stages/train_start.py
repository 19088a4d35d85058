"""The first weights of a network, where they do not come from chance."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import ModelCard, load_model, read_card
from kinetrack.learning.models import NETWORKS, ModelName
from kinetrack.learning.models.pretrained import check_pretrained, load_pretrained

_IN_MLFLOW = ("run:", "runs:/", "models:/")


def start_weights(
    model: nn.Module,
    name: ModelName,
    *,
    weights: str | None,
    weights_sha256: str | None,
    init_from: str | None,
    labels: Sequence[str],
) -> str:
    """Load pretrained weights, or those of another model of ours, into a fresh network.

    Returns:
        The sha256 of the file that they come from; empty when there is none.

    Raises:
        InputError: both are asked for, they cannot be had, or do not fit the network.
    """
    check_start(name, weights=weights, weights_sha256=weights_sha256, init_from=init_from)
    if weights:
        return load_pretrained(model, name, weights=weights, sha256=weights_sha256)
    if init_from is None:
        return ""
    if not init_from.startswith(_IN_MLFLOW):
        return _copy_weights(model, name, Path(init_from), labels=labels)
    from kinetrack.tracking.fetching import fetch_model

    with tempfile.TemporaryDirectory(prefix="kinetrack-init-") as temporary:
        folder = Path(temporary, "model")
        fetch_model(init_from, folder)
        return _copy_weights(model, name, folder, labels=labels)


def check_start(
    name: ModelName, *, weights: str | None, weights_sha256: str | None, init_from: str | None
) -> None:
    """Refuse first weights that cannot be had, as far as that shows without loading them.

    Raises:
        InputError: both kinds are asked for, there is no such file or folder, or it is of another
            network.
    """
    if weights and init_from:
        raise InputError(
            "params.yaml", "model.weights and train.init_from are both set", expected="one of them"
        )
    if weights:
        check_pretrained(name, weights=weights, sha256=weights_sha256)
    if init_from and not init_from.startswith(_IN_MLFLOW):
        _check_network(Path(init_from), read_card(Path(init_from)), name)


def _check_network(folder: Path, card: ModelCard, name: ModelName) -> None:
    if card.model != name:
        raise InputError(
            folder,
            "is another network: its weights do not fit",
            found=card.model,
            expected=name,
            remedy="set model.name, or another train.init_from",
        )


def _copy_weights(model: nn.Module, name: ModelName, folder: Path, *, labels: Sequence[str]) -> str:
    """Copy all weights, but those of the head where the classes are others."""
    other, card = load_model(folder)
    _check_network(folder, card, name)
    weights = other.state_dict()
    if card.labels != list(labels):
        heads = tuple(f"{head}." for head in NETWORKS[name].heads)
        weights = {key: values for key, values in weights.items() if not key.startswith(heads)}
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # of clips of another size, as the lecture's head
        found = " ".join(str(error).split())[:200]
        raise InputError(folder, "does not fit the network", found=found) from None
    return card.weights_sha256
