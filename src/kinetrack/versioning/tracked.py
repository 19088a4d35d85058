"""What DVC tracks in this project: the outputs that its `.dvc` files and `dvc.lock` record."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kinetrack.errors import InputError
from kinetrack.params import Yaml12Loader
from kinetrack.versioning.lock import content_md5

_PIPELINE = "dvc.yaml"
_LOCK = "dvc.lock"
_VARIABLE = re.compile(r"\$\{[^}]*\}")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
# Where no person keeps data; also left out are environments of Python.
_NOT_DATA = (".git", ".dvc", ".kinetrack")


class Tracked(NamedTuple):
    """A file or folder whose content DVC has recorded; `path` is relative to the project.

    `md5` ends in ".dir" for a folder: it is of the list of its files. `owner` is what DVC's
    commands take: the stage that makes it, or the `.dvc` file. `remote` is the one of its own, if
    any. `not_checkable` says why nothing can be compared, "" where it can.
    """

    path: str
    md5: str
    owner: str
    is_stage: bool
    is_cached: bool = True
    remote: str = ""
    not_checkable: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.md5.endswith(".dir")


def list_tracked(root: Path) -> list[Tracked]:
    """List what the `.dvc` files record, sorted by path, then what the stages of `dvc.lock` do.

    Raises:
        InputError: one of these files cannot be read, or is none of DVC's.
    """
    return [*_from_dvc_files(root), *_from_lock(root)]


def is_md5(text: object) -> bool:
    """Whether this is an MD5 as DVC writes it; only then does it name a file of the cache."""
    return isinstance(text, str) and _MD5.fullmatch(text) is not None


def _from_dvc_files(root: Path) -> Iterator[Tracked]:
    for file in _find_dvc_files(root):
        name = file.relative_to(root).as_posix()
        content = read_yaml(file, remedy=f"git checkout -- {name}")
        folder = file.parent / str(content.get("wdir", "."))
        for out in _entries(content, "outs", file):
            yield _to_tracked(out, folder, root=root, owner=name, is_stage=False)


def _find_dvc_files(root: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(root):
        is_environment = "pyvenv.cfg" in files
        folders[:] = [name for name in folders if name not in _NOT_DATA and not is_environment]
        names = (name for name in files if name.endswith(".dvc"))
        found += (path for name in names if (path := Path(parent, name)).is_file())
    return sorted(found)


def _from_lock(root: Path) -> Iterator[Tracked]:
    file = root / _LOCK
    if not file.exists():
        return
    declared = _stages(root / _PIPELINE) if (root / _PIPELINE).exists() else {}
    for name, stage in _stages(file).items():
        declaration = find_declaration(str(name), declared)
        folder = root / str(declaration.get("wdir", "."))
        for out in _entries(stage, "outs", file):
            is_cached = not is_uncached(out["path"], declaration)
            yield _to_tracked(
                {"cache": is_cached, **out}, folder, root=root, owner=str(name), is_stage=True
            )


def _stages(file: Path) -> dict[str, dict[str, Any]]:
    remedy = f"git checkout -- {file.name}"
    stages = read_yaml(file, remedy=remedy).get("stages") or {}
    if not isinstance(stages, dict) or not all(isinstance(one, dict) for one in stages.values()):
        raise InputError(file, "holds no stages", remedy=remedy)
    return stages


def find_declaration(stage: str, declared: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the stages of `dvc.yaml` say of one of `dvc.lock`: `name@key` is declared once."""
    declaration = declared.get(stage.partition("@")[0]) or {}
    return declaration.get("do", declaration)  # type: ignore[no-any-return]


def is_uncached(path: str, declaration: Mapping[str, Any]) -> bool:
    """Whether an output is declared with `cache: false`, which `dvc.lock` does not tell.

    Variables match everything. So of several declarations the one with most letters of the path
    counts, and of two of them the one that has it cached: to miss an object would lose it.

    Args:
        path: as the lock has it.
        declaration: of its stage in `dvc.yaml`.
    """
    matching = [
        (len(_VARIABLE.sub("", declared)), is_cached)
        for declared, is_cached in _declared_outputs(declaration)
        if _pattern(declared).fullmatch(os.path.normpath(path))
    ]
    return bool(matching) and not max(matching)[1]


def _declared_outputs(declaration: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Path, and whether it is cached, of each output."""
    for kind in ("outs", "metrics", "plots"):
        for entry in declaration.get(kind) or ():
            for path, options in (entry if isinstance(entry, dict) else {str(entry): {}}).items():
                is_cached = not isinstance(options, dict) or options.get("cache") is not False
                yield os.path.normpath(str(path)), is_cached


@lru_cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, _VARIABLE.split(path))))


def recorded_md5(out: Mapping[str, Any]) -> str:
    """MD5 by which an output is recorded; "" where there is none.

    With a remote that has versions of its own, DVC records the files of a folder instead.
    """
    if is_md5(out.get("md5")):
        return str(out["md5"])
    entries = out.get("files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return ""
    files = {str(entry.get("relpath")): entry.get("md5") for entry in entries}
    return content_md5(files) if files and all(map(is_md5, files.values())) else ""


def _to_tracked(
    out: Mapping[str, Any], folder: Path, *, root: Path, owner: str, is_stage: bool
) -> Tracked:
    path = Path(os.path.normpath(folder / str(out["path"])))
    is_inside = path.is_relative_to(root) and path != root
    tracked = Tracked(
        path=path.relative_to(root).as_posix() if is_inside else str(out["path"]),
        md5=recorded_md5(out),
        owner=owner,
        is_stage=is_stage,
        is_cached=out.get("cache", True) is not False,
        remote=str(out.get("remote") or ""),
    )
    return tracked._replace(not_checkable=_why_not(out, is_inside=is_inside))


def _why_not(out: Mapping[str, Any], *, is_inside: bool) -> str:
    if not is_inside:
        return "lies outside of the project"
    if not is_md5(out.get("md5")):
        kinds = [name for name in ("md5", "etag", "checksum", "version_id", "files") if name in out]
        return f"is recorded by {kinds[0] if kinds else 'nothing'}, not by a whole MD5"
    if out.get("hash", "") != "md5":
        return "is recorded by the MD5 of DVC 2, which leaves line ends out"
    return ""


def _entries(content: Mapping[str, Any], kind: str, file: Path) -> list[dict[str, Any]]:
    entries = content.get(kind) or []
    if not isinstance(entries, list):
        raise InputError(file, f"has {kind} that are no list", remedy=f"git checkout -- {file}")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise InputError(
                file, f"has {kind} without a path", found=entry, remedy=f"git checkout -- {file}"
            )
    return entries


def read_yaml(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read one of DVC's files.

    Raises:
        InputError: it cannot be read, or holds no mapping.
    """
    try:
        # By YAML 1.2, as DVC writes it.
        content = yaml.load(path.read_text(encoding="utf-8"), Yaml12Loader)  # a safe loader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())[:200]
        raise InputError(path, "cannot be read", found=found, remedy=remedy) from None
    if not isinstance(content, dict):
        raise InputError(path, "is no file of DVC's", found=type(content).__name__, remedy=remedy)
    return content
