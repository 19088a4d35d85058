"""The first weights of a network, where they do not come from chance."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import load_model
from kinetrack.learning.models import NETWORKS, ModelName
from kinetrack.learning.models.pretrained import load_pretrained

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
    if weights and init_from:
        raise InputError(
            "params.yaml", "model.weights and train.init_from are both set", expected="one of them"
        )
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


def _copy_weights(model: nn.Module, name: ModelName, folder: Path, *, labels: Sequence[str]) -> str:
    """Copy all weights, but those of the head where the classes are others."""
    other, card = load_model(folder)
    if card.model != name:
        raise InputError(
            folder,
            "is another network: its weights do not fit",
            found=card.model,
            expected=name,
            remedy="set model.name, or another train.init_from",
        )
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
