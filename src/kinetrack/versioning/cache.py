"""DVC's cache: where it lies, and where in it a content has its place."""

import subprocess
import sys
from pathlib import Path

from kinetrack.errors import InputError


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
