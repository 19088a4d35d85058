"""Running DVC as its own process."""

import os
import subprocess
import sys
from pathlib import Path


def repro(stage: str, *, root: Path) -> int:
    """Bring a stage and all before it up to date; return DVC's exit code."""
    command = [sys.executable, "-m", "dvc", "repro", stage]
    return subprocess.run(command, cwd=root, env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    # The stages' commands say `python`: it must be the one that runs us, activated or not.
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}
