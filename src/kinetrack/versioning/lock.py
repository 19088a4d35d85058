"""What `dvc.yaml` and `dvc.lock` say about a stage and its data."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.params import Yaml12Loader

_PIPELINE = "dvc.yaml"
_LOCK = "dvc.lock"


def data_md5(path: str, *, root: Path) -> str | None:
    """DVC's md5 of a file or folder that a stage of `dvc.lock` has read or written.

    `path` is relative to `root`, as DVC writes it; a folder's md5 ends in ".dir". None when no
    stage knows it. What a stage wrote counts before what another one read: DVC writes the lock
    after each stage, so that only the writer's entry is new while its readers wait.
    """
    stages = _locked_stages(root).values()
    for kind in ("outs", "deps"):
        for entry in (entry for stage in stages for entry in stage.get(kind, ())):
            if entry["path"] == path and "md5" in entry:
                return str(entry["md5"])
    return None


def locked_inputs(stage: str, *, root: Path) -> dict[str, str]:
    """Md5 by path of what a stage read when it last ran; empty when it never did."""
    entry = locked_stage(stage, root=root)
    return {dep["path"]: str(dep["md5"]) for dep in entry.get("deps", ()) if "md5" in dep}


def folder_md5(folder: Path) -> str:
    """DVC's md5 of a folder as it lies on disk."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return content_md5({path.relative_to(folder).as_posix(): file_md5(path) for path in files})


def content_md5(files: Mapping[str, str]) -> str:
    """DVC's md5 of a folder that holds these files: of the list of their paths and md5s."""
    entries = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return _md5(json.dumps(entries, sort_keys=True).encode()) + ".dir"


def locked_stage(stage: str, *, root: Path) -> dict[str, Any]:
    """What `dvc.lock` says of a stage's last run; empty when there was none."""
    return _locked_stages(root).get(stage, {})


def _locked_stages(root: Path) -> dict[str, dict[str, Any]]:
    """Every stage of `dvc.lock`; its inputs and outputs have paths, its params are by file.

    Raises:
        InputError: the file is damaged.
    """
    # By YAML 1.2, as DVC writes it: its 4:2:0 has no quotes, and 1.1 would take it for 14520.
    stages = _read_yaml(root / _LOCK, Yaml12Loader).get("stages") or {}
    if not isinstance(stages, dict) or not all(map(_is_locked_stage, stages.values())):
        raise InputError(root / _LOCK, "is damaged", remedy=f"git checkout {_LOCK}")
    return stages


def _is_locked_stage(stage: object) -> bool:
    if not isinstance(stage, dict):
        return False
    lists = [stage.get("deps", []), stage.get("outs", [])]
    params = stage.get("params", {})
    return (
        all(isinstance(entries, list) for entries in lists)
        and all(
            isinstance(entry, dict) and isinstance(entry.get("path"), str)
            for entries in lists
            for entry in entries
        )
        and isinstance(params, dict)
        and all(isinstance(values, dict) for values in params.values())
    )


def stage_code(stage: str, *, root: Path) -> dict[str, str]:
    """Md5 by path of a stage's code, as `dvc.yaml` lists it, as it lies on disk."""
    declared = _read_yaml(root / _PIPELINE).get("stages", {}).get(stage, {})
    paths = [path for path in declared.get("deps", ()) if path.startswith("src/")]
    return {path: file_md5(root / path) for path in paths}


def stage_key(stage: str, params: Mapping[str, Any], *, root: Path) -> str | None:
    """Name what a stage run depends on: a hash of its command, its inputs and its params.

    It is known before the stage has run and does not change when it is run again. `params` is the
    whole of `params.yaml`. None when an input has no md5 yet, as in a stage started by hand.
    """
    declared = _read_yaml(root / _PIPELINE).get("stages", {}).get(stage)
    if declared is None:
        return None
    deps = {path: _input_md5(path, root=root) for path in _inputs(declared, params)}
    sections = {name: _look_up(name, params) for name in declared.get("params", ())}
    command = _fill(declared["cmd"], params)
    return None if None in deps.values() else hash_of_inputs(command, deps, sections)


def hash_of_inputs(
    command: str, deps: Mapping[str, str | None], sections: Mapping[str, Any]
) -> str:
    """Sha256 over a command, md5s by path and params by section."""
    canonical = json.dumps([command, deps, sections], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _look_up(name: str, params: Mapping[str, Any]) -> Any:
    """A section, or one key of it as `section.key`."""
    section, _, key = name.partition(".")
    return params[section][key] if key else params[section]


def _inputs(declared: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    yield from (_fill(path, params) for path in declared.get("deps", ()))


def _input_md5(path: str, *, root: Path) -> str | None:
    if (root / path).is_file():
        return _md5((root / path).read_bytes())
    return data_md5(path, root=root)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _fill(text: str, params: Mapping[str, Any]) -> str:
    """Put the data set's name in, the one variable that our `dvc.yaml` uses."""
    return text.replace("${dataset}", str(params["dataset"]))


def _read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())[:200]
        raise InputError(
            path, "cannot be read", found=found, remedy=f"git checkout {path.name}"
        ) from None
    return content if isinstance(content, dict) else {}
