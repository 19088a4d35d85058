"""`kinetrack pull-model`: a model and what tells of it, in a folder that can be given away."""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kinetrack.cli.scores import from_tags
from kinetrack.errors import InputError, WriteError, printable
from kinetrack.files import atomic_file, atomic_folder, write_json
from kinetrack.learning.checkpoint import load_model, read_trained_on
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.records import RunRecord, find_record, read_artifact
from kinetrack.tracking.registry import ModelVersion, find_model_version, find_run_or_hint
from kinetrack.versioning.cache import cache_folder, copy_out, folder_listing, object_path
from kinetrack.versioning.lock import folder_md5

if TYPE_CHECKING:
    from kinetrack.versioning.remote_objects import RemoteObjects

SOURCE_NAME = "source.json"
_MODEL_FILES = ("weights.safetensors", "trained_on.txt", "model.json")
_RUN_FILES = ("params.yaml", "dvc.lock")
_PLACE = Path("models")
_REGISTERED = re.compile(
    r"(?:models:/)?(?P<name>[^/:@]+)(?:@(?P<alias>[\w-]+)|/(?P<number>\d{1,9}))"
)
_RUN_TAGS = ("git.commit", "git.dirty", "data.videos_md5", "data.split_md5", "data.tensors_md5")
_MODEL_TAGS = ("model_sha256", "model_md5")
_DIGEST = re.compile(r"[0-9a-f]{32}\.dir")


class _Wanted(NamedTuple):
    """A model, what its run and its version say of it, and how its folder is called."""

    folder_name: str
    address: str  # as `fetch_model` takes it
    tags: dict[str, str]
    version: ModelVersion | None = None
    alias: str | None = None
    record: RunRecord | None = None
    """None where the run was deleted."""


def pull_model(model: str, *, root: Path | None, into: Path | None = None) -> str:
    """Bring a model with the params and the lock of its run into a folder; return what was done.

    The bytes come from MLflow, else from DVC's cache, else from the default DVC remote, and are
    those that the registry, or the run, has recorded. An earlier pull in the folder is replaced.

    Args:
        model: `NAME@ALIAS`, `NAME/VERSION`, or a run as `find_record` takes it.
        root: the project, None outside of one: then there is MLflow alone.
        into: the folder; default: one below `models/`.

    Raises:
        InputError: no such model; its bytes are nowhere, or not the recorded ones; the folder
            holds other things; MLflow does not answer.
    """
    wanted = _find(model)
    folder = into or (root or Path.cwd()) / _PLACE / wanted.folder_name
    _require_ours(folder)
    with atomic_folder(folder) as made:
        place = _bring(wanted, root, made)
        if wanted.record:
            _put_run_files(wanted.record, made)
        write_json(made / SOURCE_NAME, _describe(wanted, place))
        _require_ours(folder)  # what came meanwhile would be lost
    return printable(f"pull-model: {model} is in {folder}, from {place}")


def _put_run_files(record: RunRecord, folder: Path) -> None:
    for name in _RUN_FILES:
        content = read_artifact(record, name)
        if content is not None:
            with atomic_file(folder / name) as file:
                file.write(content)


def _find(model: str) -> _Wanted:
    registered = _REGISTERED.fullmatch(model)
    if registered is None:
        record = find_run_or_hint(re.sub(r"^(run:|runs:/)", "", model))
        return _Wanted(
            f"run-{record.run_id[:8]}", f"run:{record.run_id}", record.tags, record=record
        )
    name, alias = registered["name"], registered["alias"]
    version = find_model_version(name, alias or int(registered["number"]))
    run = _find_run(version)
    tags = {**(run.tags if run else {}), **version.tags}
    folder_name = f"{name}@{alias or f'v{version.version}'}"  # MLflow has no alias v1
    return _Wanted(folder_name, version.address, tags, version, alias, run)


def _find_run(version: ModelVersion) -> RunRecord | None:
    try:
        return find_record(version.run_id) if version.run_id else None
    except InputError as error:  # the model is worth having without
        sys.stderr.write(f"pull-model: without params.yaml and dvc.lock: {error}\n")
        return None


def _require_ours(folder: Path) -> None:
    """Refuse a folder that an earlier pull did not make: it is replaced."""
    if not folder.exists():
        return
    if folder.is_mount():
        remedy = f"--into {folder / 'model'}"
        raise InputError(folder, "is a mount point, and is replaced as a whole", remedy=remedy)
    if not folder.is_dir():
        raise InputError(folder, "is no folder", remedy="name another with --into")
    names = {path.name for path in folder.iterdir()}
    others = sorted(names - {*_MODEL_FILES, *_RUN_FILES, SOURCE_NAME})
    if names and (others or SOURCE_NAME not in names):
        found = others[0] if others else f"no {SOURCE_NAME}"
        remedy = "name another with --into, or move it away"
        raise InputError(folder, "holds what no pull has put there", found=found, remedy=remedy)


def _bring(wanted: _Wanted, root: Path | None, made: Path) -> str:
    """Put the model's files into a folder from the first place that has the right ones.

    Returns:
        The place.
    """
    failures = []
    for place, bring in _places(wanted, root):
        with tempfile.TemporaryDirectory(dir=made) as scratch:
            try:
                folder = Path(scratch, "model")
                bring(folder)
                _check(folder, wanted)
            except WriteError:  # no place would do
                raise
            except InputError as error:
                failures.append(f"{place}: {error}")
                continue
            for name in _MODEL_FILES:
                (folder / name).replace(made / name)
            for line in failures:
                sys.stderr.write(printable(f"pull-model: not from {line}") + "\n")
            return place
    remedy = "" if root else "in a clone of its project, DVC's cache and remote are asked too"
    raise InputError(
        wanted.folder_name, "its bytes cannot be had", found="; ".join(failures), remedy=remedy
    )


def _places(wanted: _Wanted, root: Path | None) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Where the bytes may be, and how they come from there into a folder."""
    yield "MLflow", partial(fetch_model, wanted.address)
    md5 = wanted.tags.get("model_md5", "")
    if root and _DIGEST.fullmatch(md5):
        yield "DVC's cache", partial(_copy_cached, root, md5)
        yield "the DVC remote", partial(_download, root, md5)


def _copy_cached(root: Path, md5: str, folder: Path) -> None:
    _copy(cache_folder(root), md5, folder)


def _copy(cache: Path, md5: str, folder: Path) -> None:
    if not copy_out(cache, md5, folder):
        raise InputError(md5, "is not whole there")


def _download(root: Path, md5: str, folder: Path) -> None:
    """Bring the objects of a model into a cache of their own, and copy it out of that, checked."""
    from kinetrack.versioning.remotes import open_remote

    remote = open_remote(root, None)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        cache = Path(scratch)
        _download_object(remote, md5, cache)
        for file in set((folder_listing(cache, md5) or {}).values()):
            _download_object(remote, file, cache)
        _copy(cache, md5, folder)


def _download_object(remote: "RemoteObjects", md5: str, cache: Path) -> None:
    if not remote.which_are_there([md5]):
        raise InputError(md5, f"is not in the remote {remote.name}", remedy="dvc push")
    try:
        with remote.open(md5) as reader, atomic_file(object_path(cache, md5)) as writer:
            shutil.copyfileobj(reader, writer)
    except InputError:
        raise
    except Exception as error:  # each kind of remote has its own
        raise remote.broken_off(error) from None


def _check(folder: Path, wanted: _Wanted) -> None:
    """See that a model can be loaded and is the recorded one, where there is a record."""
    _, card = load_model(folder)
    read_trained_on(folder, card)
    found = {"model_sha256": card.weights_sha256, "model_md5": folder_md5(folder)}
    for name, value in found.items():
        if wanted.tags.get(name, value) != value:
            problem = "is not the recorded model"
            raise InputError(folder, problem, found=value, expected=wanted.tags[name])


def _describe(wanted: _Wanted, place: str) -> dict[str, Any]:
    """What the folder holds, for people and scripts; null where it is not known."""
    version, record, tags = wanted.version, wanted.record, wanted.tags
    score = from_tags(tags)
    metrics = record.metrics if record else {}
    tested = {name: x for name, x in metrics.items() if name.startswith("test/") and isfinite(x)}
    return {
        "model": version.name if version else None,
        "version": version.version if version else None,
        "alias": wanted.alias,
        "run_id": record.run_id if record else version.run_id if version else None,
        "run_name": record.name if record else tags.get("run.name"),
        **{name: tags.get(name) for name in (*_RUN_TAGS, *_MODEL_TAGS)},
        "metrics": score.metrics if score else tested,
        "num_clips": score.num_clips if score else None,
        "num_groups": score.num_groups if score else None,
        "interval": score.interval if score else None,
        "from": place,
    }
