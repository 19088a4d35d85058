"""DVC's cache: where it lies, where in it a content has its place, and folders out of it."""

import json
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from kinetrack.errors import InputError
from kinetrack.files import atomic_folder, copy_file, file_md5

_MD5 = re.compile(r"[0-9a-f]{32}")
_LONGEST_PATH = 4096  # of any file; the folders of a longer one would fill the memory


def cache_folder(root: Path) -> Path:
    """Where DVC keeps its objects for this project, shared caches included.

    Raises:
        InputError: the project is not under DVC.
    """
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise InputError(
            root, "is not under DVC", found=lines[0] if lines else None, remedy="dvc init"
        )
    return root / result.stdout.strip()


def object_path(cache: Path, md5: str) -> Path:
    """Where the cache has the content of this MD5."""
    return cache / "files/md5" / md5[:2] / md5[2:]


def folder_listing(cache: Path, md5: str) -> dict[str, str] | None:
    """Return the MD5 of each file of a folder by its path below it.

    None when the cache has no such list, a damaged one, or one with a path that leaves the folder.

    Args:
        md5: the folder's own, `<32 hex digits>.dir`; anything else is in no cache.
    """
    if not _is_md5(md5.removesuffix(".dir")) or not md5.endswith(".dir"):
        return None
    path = object_path(cache, md5)
    try:
        if file_md5(path) != md5.removesuffix(".dir"):
            return None
        entries: Any = json.loads(path.read_bytes())
        files = {entry["relpath"]: entry["md5"] for entry in entries}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return None
    return files if all(map(_is_md5, files.values())) and _stay_inside(files) else None


def copy_out(cache: Path, md5: str, target: Path) -> bool:
    """Copy a folder out of the cache to `target`, which is replaced; every file is verified.

    False when a file of it is missing or damaged; `target` is then as it was.

    Raises:
        WriteError: no room, or no permission.
    """
    files = folder_listing(cache, md5)
    if files is None:
        return False
    try:
        with atomic_folder(target) as folder:
            for name, file in files.items():
                _copy_object(cache, file, folder / name)
    except _NotInCacheError:
        return False
    return True


class _NotInCacheError(Exception):
    """An object is missing or damaged."""


def _copy_object(cache: Path, md5: str, target: Path) -> None:
    try:
        copy_file(object_path(cache, md5), target)
    except (OSError, UnicodeEncodeError):  # one that no file can have for a name
        raise _NotInCacheError from None
    if file_md5(target) != md5:  # of the copy: a disk that fails may give other bytes
        raise _NotInCacheError


def _is_md5(text: object) -> bool:
    """Whether this is an MD5 as DVC writes it; only then does it name a file of the cache."""
    return isinstance(text, str) and _MD5.fullmatch(text) is not None


def _stay_inside(names: dict[Any, str]) -> bool:
    """Whether all are paths as DVC writes them, and none of a file is also that of a folder."""
    if not all(isinstance(name, str) and len(name) <= _LONGEST_PATH for name in names):
        return False
    are_plain = all(
        part not in ("", ".", "..") and "\0" not in part
        for name in names
        for part in name.split("/")
    )
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    return are_plain and folders.isdisjoint(names)
