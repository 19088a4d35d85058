"""Trainings that commits, DVC's experiments and this workspace have the results of."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kinetrack.versioning.cache import cache_folder, folder_listing
from kinetrack.versioning.commits import (
    LockLoader,
    Origin,
    list_commits,
    list_experiments,
    read_commits,
)
from kinetrack.versioning.holdings import holds
from kinetrack.versioning.lock import hash_of_inputs

__all__ = ["Origin", "PastTraining", "list_past_trainings"]

_LOCK = "dvc.lock"
_MODEL = "data/model"
_SPLITS = "data/splits"  # of which the stage `tensors` reads one file
# As DVC writes it; parsing every lock of a long history would take minutes.
_MODEL_MD5 = re.compile(r"- path: data/model\n\s+hash: md5\n\s+md5: ([0-9a-f]{32}\.dir)\n")
# What a lock that was edited, or has the marks of a conflict, leads to.
_DAMAGED = (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError)
# Reports are in Git: small.
_FILES = (
    "params.yaml",
    _LOCK,
    "reports/train/history.csv",
    "reports/evaluate/metrics.json",
    "reports/evaluate/confusion.csv",
    "reports/evaluate/per_class.csv",
    "reports/evaluate/predictions.csv",
    "reports/evaluate/reliability.csv",
)


class PastTraining(NamedTuple):
    """A training as `dvc.lock` and the reports beside it tell of it."""

    origin: Origin
    experiments: tuple[str, ...]
    """Names of DVC's experiments that have its model too, sorted."""
    train_key: str
    model_md5: str
    tensors_md5: str
    dataset: str
    code: dict[str, str]
    """Md5 by path of the code of stage `train`."""
    params: dict[str, Any]
    inputs: dict[str, str]
    """Md5 by path of what all stages read."""
    files: dict[str, bytes]
    """Content by path, of those only that `dvc.lock` says belong to it."""
    is_evaluated: bool


def list_past_trainings(
    root: Path, *, on_damaged: Callable[[Origin, Exception], None] = lambda *_: None
) -> list[PastTraining]:
    """List, the oldest first, each training whose model is in DVC's cache, once.

    Looked at are branches, tags, remote branches, DVC's experiments, and the workspace. What has
    no model in the cache is another one's, until `dvc pull` or `dvc exp pull` brings it. A lock
    after a part of the pipeline, whose training read other data than it has now, is of no training.

    Args:
        on_damaged: called with what cannot be read; the rest is listed.
    """
    cache = cache_folder(root)
    found: dict[str, PastTraining] = {}
    names: dict[str, set[str]] = defaultdict(set)
    origins = [*list_commits(root, _LOCK), *list_experiments(root)]
    locks = read_commits(root, [(origin, _LOCK) for origin in origins])
    texts = {origin: locks.get((origin, _LOCK)) for origin in origins}
    here = _read_workspace(root, [_LOCK]).get(_LOCK)
    if here not in texts.values():  # what is committed has a commit's time and name
        texts = {_workspace(root): here, **texts}
    for origin, lock in texts.items():
        md5s = _MODEL_MD5.findall(lock.decode("utf-8", "replace")) if lock else []
        for md5 in dict.fromkeys(md5s):
            if origin.experiment:
                names[md5].add(origin.experiment)
            if md5 not in found and holds(cache, md5) == "yes":
                try:
                    training = _read_training(root, cache, origin)
                except _DAMAGED as error:
                    on_damaged(origin, error)
                    continue
                if training and training.model_md5 == md5:
                    found[md5] = training
    named = (one._replace(experiments=tuple(sorted(names[md5]))) for md5, one in found.items())
    return sorted(named, key=lambda one: one.origin.time_ms)


def _workspace(root: Path) -> Origin:
    lock = root / _LOCK
    return Origin("", int(lock.stat().st_mtime * 1000) if lock.is_file() else 0)


def _read_workspace(root: Path, paths: Collection[str]) -> dict[str, bytes]:
    return {path: (root / path).read_bytes() for path in paths if (root / path).is_file()}


def _read_training(root: Path, cache: Path, origin: Origin) -> PastTraining | None:
    """Read what belongs to a training; None where no stage `train` has run on what is there."""
    files = _read_files(root, origin)
    lock = yaml.load(files[_LOCK], LockLoader) or {}
    stages = lock.get("stages", {})
    train, evaluate = stages.get("train"), stages.get("evaluate", {})
    model_md5 = _entries(train, "outs").get(_MODEL) if train else None
    if model_md5 is None or not _is_in_step(stages, cache):
        return None
    deps = _entries(train, "deps")
    tensors = next((path for path in deps if path.startswith("data/tensors/")), "")
    recorded = _entries(train, "outs") | _entries(evaluate, "outs")
    # Of single keys of a section, the stage that owns it has the whole.
    params = (pair for stage in stages.values() for pair in _params(stage))
    sections = {name: content for name, content in params if "." not in name}
    return PastTraining(
        origin=origin,
        experiments=(),
        train_key=hash_of_inputs(train["cmd"], deps, dict(_params(train))),
        model_md5=model_md5,
        tensors_md5=deps.get(tensors, ""),
        dataset=tensors.removeprefix("data/tensors/"),
        code={path: md5 for path, md5 in deps.items() if path.startswith("src/")},
        params=sections,
        inputs={
            path: md5 for stage in stages.values() for path, md5 in _entries(stage, "deps").items()
        },
        files={
            path: content for path, content in files.items() if _belongs(path, content, recorded)
        },
        is_evaluated=_is_of(_entries(evaluate, "deps"), model_md5, tensors, deps.get(tensors)),
    )


def _is_in_step(stages: Mapping[str, Any], cache: Path) -> bool:
    """Whether each stage up to `train` has read what the stages before it have made."""
    made = {path: md5 for stage in stages.values() for path, md5 in _entries(stage, "outs").items()}
    for folder, md5 in list(made.items()):
        listing = folder_listing(cache, md5) if folder == _SPLITS else None
        made |= {f"{folder}/{name}": file for name, file in (listing or {}).items()}
    return all(
        made.get(path, md5) == md5
        for name, stage in stages.items()
        if name != "evaluate"
        for path, md5 in _entries(stage, "deps").items()
    )


def _is_of(evaluated: Mapping[str, str], model: str, tensors: str, md5: str | None) -> bool:
    """Whether an evaluation read this model, and the tensors that it was trained with."""
    return evaluated.get(_MODEL) == model and evaluated.get(tensors) == md5


def _read_files(root: Path, origin: Origin) -> dict[str, bytes]:
    if not origin.commit:
        return _read_workspace(root, _FILES)
    found = read_commits(root, [(origin, path) for path in _FILES])
    return {path: content for (_, path), content in found.items()}


def _entries(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {entry["path"]: entry["md5"] for entry in stage.get(kind, ()) if "md5" in entry}


def _params(stage: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from stage.get("params", {}).get("params.yaml", {}).items()


def _belongs(path: str, content: bytes, recorded: Mapping[str, str]) -> bool:
    """Whether `dvc.lock` has a report with this content: it may be of another training."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return not path.startswith("reports/") or recorded.get(path) == md5
