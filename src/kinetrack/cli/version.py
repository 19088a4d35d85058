"""Which Kinetrack this is: its version and, in a checkout, the commit."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import kinetrack


def describe_version() -> str:
    """Return the version, with the commit behind it where Git tracks this very code.

    A commit with a `*` has uncommitted changes.
    """
    commit = _find_commit(Path(kinetrack.__file__).parent)
    return f"kinetrack {version('kinetrack')}" + (f" (commit {commit})" if commit else "")


def _find_commit(package: Path) -> str:
    # An environment may lie within a repository that has nothing to do with its packages.
    if _git(package, "ls-files", "__init__.py") != "__init__.py":
        return ""
    return _git(package, "describe", "--always", "--exclude=*", "--abbrev=7", "--dirty=*")


def _git(folder: Path, *arguments: str) -> str:
    """What Git says; empty where it is not installed or refuses."""
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
