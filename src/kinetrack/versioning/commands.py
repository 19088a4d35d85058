"""Running DVC as its own process."""

import os
import subprocess
import sys
from pathlib import Path

from kinetrack.errors import InputError
from kinetrack.versioning.dataset_facts import DatasetFacts, remember_facts


def repro(stage: str, *, root: Path, dry_run: bool = False) -> int:
    """Bring a stage and all before it up to date; return DVC's exit code.

    Args:
        dry_run: only print which stages would run.
    """
    command = [sys.executable, "-m", "dvc", "repro", *(["--dry"] if dry_run else []), stage]
    return subprocess.run(command, cwd=root, env=own_environment(), check=False).returncode


def require_repository(root: Path) -> None:
    """Check that data can be put under version control here.

    Raises:
        InputError: there is no Git repository, or no DVC in it.
    """
    command = ["git", "rev-parse", "--git-dir"]
    found = subprocess.run(command, cwd=root, check=False, capture_output=True)
    if found.returncode != 0:
        raise InputError(root, "is no Git repository", remedy="git init && git add . && git commit")
    if not (root / ".dvc").is_dir():
        raise InputError(root, "is not under DVC", remedy="dvc init")


def add_data(path: Path, *, root: Path, facts: DatasetFacts | None = None) -> None:
    """Put a folder under DVC, and the file that stands for it into Git's index.

    Args:
        facts: of a folder that is new to DVC; without them those that are there stay.

    Raises:
        InputError: one of the two does not; the folder stays as it is.
    """
    described = [f"{path}.dvc", str(path.parent / ".gitignore")]
    remedy = f"dvc add {path} && git add {path}.dvc"
    # By hand, DVC would take it without the facts, and nobody would miss them.
    again = remedy if facts is None else f"rm -rf {path} {path}.dvc, then import it again"
    _require([sys.executable, "-m", "dvc", "add", "--", str(path)], path, root, remedy=again)
    if facts is not None:
        remember_facts(root / described[0], facts)
    present = [name for name in described if (root / name).exists()]
    _require(["git", "add", "--", *present], path, root, remedy=remedy)


def _require(command: list[str], path: Path, root: Path, *, remedy: str) -> None:
    result = subprocess.run(
        command, cwd=root, env=own_environment(), check=False, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise InputError(
            path,
            "is in its place, but not under version control",
            found=" ".join((result.stderr or result.stdout).split())[:300],
            remedy=remedy,
        )


def own_environment() -> dict[str, str]:
    """Return this process's variables, with the Python that runs us first on the PATH.

    The stages' commands say `python`, and no environment need be activated.
    """
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}
