import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.fitting import Best, Epoch, Progress
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.optimising import OptimiserName, make_optimiser, make_scheduler
from kinetrack.learning.resume import (
    _checksum,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from kinetrack.learning.training import Score


def begin(name: OptimiserName = "adam", *, width: int = 4) -> Progress:
    """A training that has not begun, always with the same first weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, width, 2), nn.BatchNorm3d(width), nn.Conv3d(width, 2, 1))
    model.to(memory_format=torch.channels_last_3d)
    optimiser = make_optimiser(name, model, learning_rate=0.1, momentum=0.9)
    scheduler = make_scheduler(optimiser, "cosine", epochs=9, steps_per_epoch=1, warmup_epochs=1)
    return Progress(model, optimiser, scheduler, MicroBatch(8))


def go_on(progress: Progress, epochs: int = 1) -> Progress:
    """Epochs of one step each, which depend on nothing but the state."""
    for _ in range(epochs):
        number = len(progress.history) + 1
        clips = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(number))
        progress.optimiser.zero_grad()
        progress.model(clips.to(memory_format=torch.channels_last_3d)).square().mean().backward()
        progress.optimiser.step()
        progress.scheduler.step()
        score = Score(1 / number, 0.1 + 0.2, 7)
        progress.history.append(Epoch(number, {"train": score}, 0.1, 1.5, 0.25))
    return progress


def equal(first: Progress, second: Progress) -> bool:
    states = [progress.model.state_dict() for progress in (first, second)]
    return all(torch.equal(values, states[1][name]) for name, values in states[0].items())


def load(folder: Path, progress: Progress) -> tuple[bool, list[str]]:
    """Whether there was a usable checkpoint, and what was said of the others."""
    told: list[str] = []
    found = load_checkpoint(folder, progress, on_unusable=lambda error: told.append(str(error)))
    return found, told


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_training_goes_on_bit_for_bit(tmp_path: Path, name: OptimiserName) -> None:
    clean = go_on(begin(name), 5)
    save_checkpoint(tmp_path, go_on(begin(name), 2))
    resumed = begin(name)
    assert load(tmp_path, resumed) == (True, [])
    assert resumed.history == clean.history[:2]
    assert equal(go_on(resumed, 3), clean)
    assert resumed.history == clean.history


def test_nothing_to_go_on_with_leaves_a_training_as_it_was(tmp_path: Path) -> None:
    progress = begin()
    assert load(tmp_path / "none", progress) == (False, [])
    assert equal(progress, begin())


def test_best_weights_and_smaller_parts_are_kept(tmp_path: Path) -> None:
    progress = go_on(begin())
    weights = {name: values.clone() for name, values in progress.model.state_dict().items()}
    progress.best = Best(1, weights)
    go_on(progress)
    progress.micro.halve()
    save_checkpoint(tmp_path, progress)
    resumed = begin()
    load(tmp_path, resumed)
    assert resumed.best is not None
    assert resumed.best.epoch == 1
    assert all(torch.equal(resumed.best.weights[name], weights[name]) for name in weights)
    assert (resumed.micro.size, resumed.micro.halvings) == (4, 1)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    progress = begin()
    for _ in range(4):
        save_checkpoint(tmp_path, go_on(progress))
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["epoch_000004.safetensors", "epoch_000003.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [save_checkpoint(tmp_path / name, go_on(begin(), 2)) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 4
    path.write_bytes(content)


def drop_the_state(path: Path) -> None:
    safetensors.torch.save_file(safetensors.torch.load_file(path), path)


def lie_about_the_state(path: Path) -> None:
    state = json.dumps({"history": [], "extra": 1})
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"state": state})


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [truncate, empty, flip_a_bit, drop_the_state, lie_about_the_state, put_a_folder]
)
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    progress = go_on(begin())
    save_checkpoint(tmp_path, progress)
    damage(save_checkpoint(tmp_path, go_on(progress)))
    resumed = begin()
    found, told = load(tmp_path, resumed)
    assert found
    assert len(resumed.history) == 1
    assert equal(go_on(resumed), progress)
    assert len(told) == 1
    assert "epoch_000002.safetensors: is" in told[0]


class Payload:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_malicious_checkpoint_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "epoch_000001.safetensors"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    torch.save(Payload(tmp_path / "executed"), tmp_path / "epoch_000002.safetensors")
    found, told = load(tmp_path, begin())
    assert not found
    assert len(told) == 2
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (begin(width=5), r"0.bias is of another shape, found (5,), expected (4,)"),
        (begin("sgd"), "is of another optimiser"),
    ],
)
def test_checkpoint_of_another_training_is_left_out(
    tmp_path: Path, other: Progress, problem: str
) -> None:
    save_checkpoint(tmp_path, go_on(other))
    progress = begin()
    found, told = load(tmp_path, progress)
    assert not found
    assert problem in told[0]
    assert equal(progress, begin())
    assert progress.history == []


def forge(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change tensors and state of a checkpoint, and put in the checksum that belongs to them."""
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    change(tensors, state)
    state["sha256"] = _checksum(tensors)
    safetensors.torch.save_file(tensors, path, {"state": json.dumps(state)})


@pytest.mark.parametrize(
    "change",
    [
        lambda _, state: state.update(history=[{}]),
        lambda _, state: state.update(micro_batch=0),
        lambda _, state: state.update(best_epoch=1),
        lambda _, state: state.update(scalars={"optimiser.99.step": 1.0}),
        lambda tensors, _: tensors.update({"optimiser.0.exp_avg": torch.zeros(2)}),
        lambda tensors, _: [tensors.pop(name) for name in list(tensors) if "optimiser" in name],
    ],
    ids=["history", "micro_batch", "best", "scalars", "shape", "no memory"],
)
def test_forged_checkpoint_is_left_out(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    forge(save_checkpoint(tmp_path, go_on(begin())), change)
    progress = begin()
    found, told = load(tmp_path, progress)
    assert not found
    assert len(told) == 1
    assert progress.history == []
    assert equal(progress, begin())


def test_only_checkpoints_count(tmp_path: Path) -> None:
    for name in ("epoch_1.safetensors", ".abc.partial", "epoch_000003.safetensors.bak", "notes"):
        (tmp_path / name).write_text("")
    assert list_checkpoints(tmp_path) == []


def test_disk_that_refuses_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = go_on(begin())
    save_checkpoint(tmp_path, progress)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=r"epoch_000002\.safetensors: cannot be written.*No space"):
        save_checkpoint(tmp_path, go_on(progress))
    resumed = begin()
    assert load(tmp_path, resumed) == (True, [])
    assert len(resumed.history) == 1
    assert len(list(tmp_path.iterdir())) == 1
