"""Where an interrupted training leaves its checkpoints, and when another one may go on with them.

They lie in `.kinetrack/resume/<key>/` of the project, not in an output: DVC removes outputs before
a stage runs, and the temporary checkouts of experiments vanish. The key is a hash of all that the
weights depend on. So a training goes on only if it would have come to the same point.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kinetrack.data.index import INDEX_NAME
from kinetrack.files import (
    discard,
    file_md5,
    is_being_written,
    remove_partials,
    rename,
    write_alone,
    write_json,
    write_text,
)
from kinetrack.learning.checkpoint import CARD_NAME
from kinetrack.learning.processes import Team, processes_here
from kinetrack.learning.resume import list_checkpoints
from kinetrack.versioning.lock import hash_of_inputs, stage_code

_HOME = Path(".kinetrack/resume")
_FACTS_NAME = "facts.json"
_TRAINING_NAME = "training"
_FINISHED = ".finished"
_SECTIONS = ("pack", "input", "augment", "model", "train")
# Of other trainings that were interrupted: a checkpoint may be large.
_MOST_KEPT = 3
_MOST_NAMED = 3


class Resume:
    """The folder of a training's checkpoints, and what is known of the one that was interrupted."""

    def __init__(self, folder: Path, *, changes: str = "") -> None:
        self.folder = folder
        self._changes = changes

    def name_training(self) -> str:
        """A name that this training alone has, the same in all of its starts: of its MLflow run."""
        path = self.folder / _TRAINING_NAME
        if not path.is_file():
            write_text(path, f"{uuid.uuid4().hex}\n")
        return path.read_text(encoding="utf-8").strip()

    def describe_start(self, epochs_before: int) -> str:
        """One line: where the training goes on, or why it does not."""
        if epochs_before:
            return f"train: goes on after epoch {epochs_before}, where it was interrupted"
        if self._changes:
            return f"train: starts afresh; since the interrupted training {self._changes}"
        return "train: starts"

    def finish(self) -> None:
        """Forget the training: its model is whole, and `dvc repro -f` shall really train."""
        # Renamed first: half-removed, it would look like one to go on with.
        finished = self.folder.with_name(f".{self.folder.name}{_FINISHED}")
        rename(self.folder, finished)
        discard(finished)


@contextmanager
def open_resume(
    params: Mapping[str, Any], paths: Mapping[str, Path], *, device: torch.device, team: Team
) -> Iterator[Resume]:
    """Find the checkpoints of a training with just these params, data, code, device and processes.

    `params` is the whole of params.yaml, `paths` the arguments of the command, `tensors` among
    them.

    Raises:
        InputError: another process is at the same training.
    """
    # DVC says in its temporary checkouts where the project itself is.
    home = Path(os.environ.get("DVC_ROOT", "."), _HOME)
    facts = _gather_facts(params, paths, device=device, team=team)
    folder = home / hash_of_inputs("train", {}, facts)[:16]
    if not team.is_first:
        yield Resume(folder)
        return
    with write_alone(folder):
        resume = Resume(folder, changes=_explain(facts, home, folder))
        write_json(folder / _FACTS_NAME, facts)
        _remove_leftovers(home, folder)
        _remove_old(home, folder)
        yield resume


def _gather_facts(
    params: Mapping[str, Any], paths: Mapping[str, Path], *, device: torch.device, team: Team
) -> dict[str, Any]:
    """All that decides about the weights, under names that a person recognises."""
    facts: dict[str, Any] = {f"the path of {name}": str(path) for name, path in paths.items()}
    facts["the data"] = file_md5(paths["tensors"] / INDEX_NAME) if _has_index(paths) else ""
    for section in _SECTIONS:
        facts |= {f"{section}.{key}": value for key, value in dict(params[section]).items()}
    initial = Path(str(params["train"].get("init_from")), CARD_NAME)
    if initial.is_file():
        facts["the model in train.init_from"] = file_md5(initial)
    facts |= stage_code("train", root=Path.cwd())
    facts |= {
        "the device": _name_device(device),
        "the number of processes": team.size,
        "the processor": torch.backends.cpu.get_cpu_capability(),
        "the number of processes a machine": processes_here(),
        "the version of torch": version("torch"),
        "the version of torchvision": version("torchvision"),
    }
    return facts


def _name_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _has_index(paths: Mapping[str, Path]) -> bool:
    return (paths["tensors"] / INDEX_NAME).is_file()


def _explain(facts: Mapping[str, Any], home: Path, folder: Path) -> str:
    """What is different from the training that was interrupted last; "" when there is none."""
    interrupted = [other for other in _others(home, folder) if list_checkpoints(other)]
    if list_checkpoints(folder) or not interrupted:
        return ""
    earlier = _read_facts(interrupted[0])
    names = [name for name in sorted({*facts, *earlier}) if facts.get(name) != earlier.get(name)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    named = [_describe_change(name, earlier, facts) for name in names[:_MOST_NAMED]]
    return f"{', '.join(named)}{more} changed" if names else ""


def _describe_change(name: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if "." in name and not name.endswith(".py"):
        return f"{name} ({earlier.get(name)} -> {now.get(name)})"
    return name


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / _FACTS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _others(home: Path, folder: Path) -> list[Path]:
    """Folders of other trainings that are not at work now, the newest first."""
    folders = [path for path in home.glob("[!.]*") if path.is_dir() and path != folder]
    idle = [path for path in folders if not is_being_written(path)]
    return sorted(idle, key=lambda path: path.stat().st_mtime, reverse=True)


def _remove_leftovers(home: Path, folder: Path) -> None:
    """What a kill has left half-written or half-removed."""
    remove_partials(folder)
    for path in home.glob(f".*{_FINISHED}"):
        discard(path)


def _remove_old(home: Path, folder: Path) -> None:
    for path in _others(home, folder)[_MOST_KEPT:]:
        discard(path)
