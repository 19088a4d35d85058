"""What only DVC and Git can tell about this project; nothing is changed."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path


def find_ignored(paths: Collection[str], *, root: Path) -> set[str]:
    """Those of these paths that DVC is told to ignore, by its own rules."""
    result = _run_dvc(["check-ignore", "--stdin"], root, text="\n".join(paths))
    return set(result.stdout.splitlines())


def has_default_remote(root: Path) -> bool:
    """Whether `dvc fetch` has a place to look in."""
    return bool(_run_dvc(["config", "core.remote"], root).stdout.strip())


def is_up_to_date(stage: str, *, root: Path) -> bool:
    """Whether a stage would not run again but for its outputs: its command, inputs and params."""
    result = _run_dvc(["status", "--json", stage], root)
    try:
        changes = json.loads(result.stdout).get(stage, [])
    except ValueError:
        return False
    return all(isinstance(change, dict) and list(change) == ["changed outs"] for change in changes)


def git_has(path: str, md5: str, *, root: Path) -> bool:
    """Whether Git's last commit has this content under this path."""
    show = ["git", "cat-file", "blob", f"HEAD:./{path}"]
    result = subprocess.run(show, cwd=root, capture_output=True, check=False)
    found = hashlib.md5(result.stdout, usedforsecurity=False).hexdigest()
    return result.returncode == 0 and found == md5


def _run_dvc(
    arguments: list[str], root: Path, *, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command,
        cwd=root,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",  # names of files
        check=False,
    )
