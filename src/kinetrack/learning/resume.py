"""Checkpoints: a training between two epochs, on disk, so that it can go on after a kill.

A checkpoint is one safetensors file: tensors, and a JSON text in its header for the rest. Nothing
in it can run code, and a checksum tells a damaged one from a whole one.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from kinetrack.errors import InputError
from kinetrack.files import atomic_file, remove
from kinetrack.learning.fitting import Best, Epoch, Progress
from kinetrack.learning.training import Score

# The last one, and one before it in case that the disk has damaged the last.
_KEPT = 2
_NAME = re.compile(r"epoch_(\d{6})\.safetensors")


class _State(BaseModel):
    """What a checkpoint holds beside tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    history: list[dict[str, Any]]
    scheduler: dict[str, Any]
    groups: list[dict[str, Any]]
    """The optimiser's settings, as they are now."""
    scalars: dict[str, float | int]
    """What the optimiser remembers of a weight that is no tensor."""
    best_epoch: int | None
    started_from: str
    micro_batch: PositiveInt
    halvings: NonNegativeInt
    sha256: str
    """Of all tensors, in the order of their names."""


def save_checkpoint(folder: Path, progress: Progress) -> Path:
    """Write the state of a training after its last epoch; older ones go when it is whole.

    Raises:
        WriteError: no room, no permission, or the disk refuses it.
    """
    tensors, scalars = _gather(progress)
    state = _State(
        history=[_describe(epoch) for epoch in progress.history],
        scheduler=progress.scheduler.state_dict(),
        groups=progress.optimiser.state_dict()["param_groups"],
        scalars=scalars,
        best_epoch=progress.best.epoch if progress.best else None,
        started_from=progress.started_from,
        micro_batch=progress.micro.size,
        halvings=progress.micro.halvings,
        sha256=_checksum(tensors),
    )
    path = folder / f"epoch_{len(progress.history):06}.safetensors"
    # One key of metadata: more of them would be written in random order.
    content = safetensors.torch.save(tensors, {"state": state.model_dump_json()})
    with atomic_file(path) as file:
        file.write(content)
    for older in list_checkpoints(folder)[_KEPT:]:
        remove(older)
    return path


def load_checkpoint(
    folder: Path, progress: Progress, *, on_unusable: Callable[[InputError], None]
) -> bool:
    """Bring a training to where its newest usable checkpoint was; False when there is none.

    One that is damaged, or of another network or optimiser, is told to `on_unusable` and left out.
    """
    for path in list_checkpoints(folder):
        try:
            tensors, state = _read(path)
            _check_fits(progress, tensors, state, path)
            _restore(progress, tensors, state, path)
        except InputError as error:
            on_unusable(error)
        else:
            return True
    return False


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints in a folder, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def _gather(progress: Progress) -> tuple[dict[str, Tensor], dict[str, float | int]]:
    """All tensors by name, on the CPU, and the numbers that are none."""
    tensors = {f"model.{name}": values for name, values in progress.model.state_dict().items()}
    scalars: dict[str, float | int] = {}
    for index, memory in progress.optimiser.state_dict()["state"].items():
        for name, value in memory.items():
            key = f"optimiser.{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            elif value is not None:
                scalars[key] = value
    if progress.best:
        tensors |= {f"best.{name}": values for name, values in progress.best.weights.items()}
    # A copy of each: a file cannot hold two tensors that share memory.
    return {
        name: values.detach().cpu().contiguous().clone() for name, values in tensors.items()
    }, scalars


def _read(path: Path) -> tuple[dict[str, Tensor], _State]:
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = _State.model_validate_json(metadata["state"])
    except (OSError, SafetensorError, KeyError, ValidationError) as error:
        problem = " ".join(str(error).split())[:200]
        raise InputError(path, "is no whole checkpoint", found=problem) from None
    found = _checksum(tensors)
    if found != state.sha256:
        raise InputError(path, "is damaged", found=f"sha256 {found}", expected=state.sha256)
    return tensors, state


def _check_fits(
    progress: Progress, tensors: Mapping[str, Tensor], state: _State, path: Path
) -> None:
    """Refuse what does not belong to this training, before anything is changed."""
    expected = {name: tuple(values.shape) for name, values in progress.model.state_dict().items()}
    found = {name: tuple(values.shape) for name, values in _below("model.", tensors).items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise InputError(
                path,
                f"{name} is of another shape",
                found=found.get(name),
                expected=expected.get(name),
            )
    now = progress.optimiser.state_dict()["param_groups"]
    if [_kind_of(group) for group in state.groups] != [_kind_of(group) for group in now]:
        raise InputError(path, "is of another optimiser")
    if set(state.scheduler) != set(progress.scheduler.state_dict()):
        raise InputError(path, "is of another learning-rate schedule")


def _kind_of(group: Mapping[str, Any]) -> tuple[list[str], Any]:
    return sorted(group), group.get("params")


def _restore(progress: Progress, tensors: Mapping[str, Tensor], state: _State, path: Path) -> None:
    """Put everything in place; what could be wrong is put together first."""
    try:
        history = [_rebuild(epoch) for epoch in state.history]
        best = None
        if state.best_epoch is not None:
            best = Best(state.best_epoch, _below("best.", tensors))
            _check_same_names(best.weights, progress.model.state_dict())
        memory = _optimiser_memory(progress, tensors, state)
        progress.optimiser.load_state_dict({"state": memory, "param_groups": state.groups})
        progress.scheduler.load_state_dict(dict(state.scheduler))
    except (
        *(KeyError, ValueError, IndexError, TypeError, RuntimeError),
        *(AttributeError, ArithmeticError),
    ) as error:
        found = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise InputError(path, "is no checkpoint of this training", found=found) from None
    progress.model.load_state_dict(_below("model.", tensors))
    progress.history, progress.best = history, best
    progress.started_from = state.started_from
    progress.micro.size, progress.micro.halvings = state.micro_batch, state.halvings


def _check_same_names(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    shapes = [{name: each[name].shape for name in each} for each in (found, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError("the best weights are those of another network")


def _optimiser_memory(
    progress: Progress, tensors: Mapping[str, Tensor], state: _State
) -> dict[int, dict[str, Tensor | float | int]]:
    weights = [values for group in progress.optimiser.param_groups for values in group["params"]]
    memory: dict[int, dict[str, Tensor | float | int]] = {}
    for key, value in [*tensors.items(), *state.scalars.items()]:
        owner, _, rest = key.partition(".")
        if owner == "optimiser":
            index, _, name = rest.partition(".")
            memory.setdefault(int(index), {})[name] = _laid_out_as(weights[int(index)], value)
    if not memory and progress.optimiser.defaults.get("momentum") != 0:
        raise ValueError("it lacks the memory of the optimiser")
    return memory


def _laid_out_as(weights: Tensor, value: Tensor | float | int) -> Tensor | float | int:
    """In the memory order of its weights: another one could give other last bits."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.shape != weights.shape:
        raise ValueError(f"{tuple(value.shape)} for weights {tuple(weights.shape)}")
    return torch.empty_like(weights, dtype=value.dtype).copy_(value).detach()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): values
        for name, values in tensors.items()
        if name.startswith(prefix)
    }


def weights_digest(model: nn.Module) -> int:
    """A number from 0 to 2^63 that tells weights apart."""
    state = {name: values.cpu().contiguous() for name, values in model.state_dict().items()}
    return int(_checksum(state)[:15], 16)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _describe(epoch: Epoch) -> dict[str, Any]:
    scores = {side: score._asdict() for side, score in epoch.scores.items()}
    return {**epoch._asdict(), "scores": scores}


def _rebuild(values: dict[str, Any]) -> Epoch:
    scores = {side: Score(**score) for side, score in values["scores"].items()}
    return Epoch(**{**values, "scores": scores})
