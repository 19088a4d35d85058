"""A second checkout of the project, as it was at some commit, with the project's cache."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from kinetrack.errors import InputError
from kinetrack.files import make_folder
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.commands import own_environment
from kinetrack.versioning.lock import folder_md5
from kinetrack.versioning.questions import has_default_remote

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_CONFIG = ".dvc/config.local"
# They would have Git, DVC or MLflow work elsewhere than in the checkout.
_OF_ANOTHER_PLACE = (
    "DVC_ROOT",
    "DVC_STAGE",
    "DVC_EXP_",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_",
)


def clone_at(commit: str, *, root: Path, target: Path) -> Path:
    """Clone the project's repository to `target`, at a commit; return the project's folder there.

    Commits that no branch leads to are found too, as those of DVC's experiments. The clone has
    the project's DVC cache. Nothing is changed in the project, and of a clone that fails nothing
    is left.

    Raises:
        InputError: no such commit in this repository; `target` exists or lies in the repository.
    """
    top, below = _find_repository(root)
    if not (_COMMIT.fullmatch(commit) and _has_commit(commit, root)):
        remedy = "fetch it, or reproduce the run in the project that it was trained in"
        raise InputError(commit, "is no commit of this repository", found=top, remedy=remedy)
    if target.exists():
        raise InputError(target, "exists already", remedy="remove it, or name another with --into")
    if target.resolve().is_relative_to(top):
        raise InputError(target, "lies in the repository itself", expected="a folder beside it")
    make_folder(target.parent)
    try:
        _git(["clone", "--quiet", "--local", "--no-checkout", "--", str(top), str(target)], top)
        _git(["checkout", "--quiet", "--detach", commit], target)
        _share_cache(target / below, root)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target / below


def bring_folder(path: str, md5: str, *, checkout: Path) -> bool:
    """Bring a stage's output, which `dvc.lock` records, from the cache or the default remote.

    Returns:
        Whether the folder is there and has this MD5 of DVC's; every file was read for that.
    """
    return _bring(path, checkout) and folder_md5(checkout / path) == md5


def rebuild_tensors(dataset: str, *, checkout: Path) -> bool:
    """Pack a data set's clips anew, from its frames, else from its videos.

    What can be had of both comes from the cache or the default remote. Nothing is put into the
    cache. Returns whether the stages succeeded.
    """
    if all(_bring(path, checkout) for path in (f"data/frames/{dataset}", "data/splits")):
        return run_stage("tensors", checkout=checkout, variables={}) == 0
    _bring(f"data/videos/{dataset}", checkout)  # those of the built-in data set a stage makes
    return _dvc(["repro", "--no-commit", "tensors"], checkout, is_quiet=False) == 0


def run_stage(stage: str, *, checkout: Path, variables: Mapping[str, str]) -> int:
    """Run one stage alone, whatever DVC remembers of it; return DVC's exit code.

    Its outputs are recorded in the checkout and stay out of the cache: another result than the
    recorded one must not be what a later `dvc repro` of the project finds there.
    """
    command = ["repro", "--force", "--single-item", "--no-commit", stage]
    return _dvc(command, checkout, variables=variables, is_quiet=False)


def _find_repository(root: Path) -> tuple[Path, str]:
    """The top of the repository, and where the project is below it."""
    top = _run(["git", "rev-parse", "--show-toplevel"], root)
    below = _run(["git", "rev-parse", "--show-prefix"], root)
    if top.returncode != 0:
        raise InputError(root, "is no Git repository", remedy="git init && git add . && git commit")
    return Path(_first_line(top.stdout)).resolve(), _first_line(below.stdout)


def _has_commit(commit: str, root: Path) -> bool:
    return _run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], root).returncode == 0


def _share_cache(checkout: Path, root: Path) -> None:
    """Let a checkout use the project's cache, remotes and their passwords."""
    if (root / _CONFIG).is_file():
        shutil.copyfile(root / _CONFIG, checkout / _CONFIG)
    cache = str(cache_folder(root).resolve())
    if _dvc(["cache", "dir", "--local", cache], checkout) != 0:
        raise InputError(checkout, "its commit has no DVC project that this DVC can use")


def _bring(path: str, checkout: Path) -> bool:
    """Bring what DVC has recorded of a folder, whatever that is."""
    _dvc(["checkout", path], checkout)
    if not (checkout / path).is_dir() and has_default_remote(checkout):
        _dvc(["pull", path], checkout, is_quiet=False)
    return (checkout / path).is_dir()


def _dvc(
    arguments: list[str],
    checkout: Path,
    *,
    variables: Mapping[str, str] | None = None,
    is_quiet: bool = True,
) -> int:
    command = [sys.executable, "-m", "dvc", *arguments]
    environ = {**_environment(), **(variables or {})}
    if is_quiet:
        return _run(command, checkout, environ).returncode
    return subprocess.run(command, cwd=checkout, env=environ, check=False).returncode


def _git(arguments: list[str], folder: Path) -> None:
    result = _run(["git", *arguments], folder)
    if result.returncode != 0:
        raise InputError(
            folder,
            "Git cannot make another checkout of it",
            found=" ".join(os.fsdecode(result.stderr).split())[:300],
        )


def _run(
    command: list[str], folder: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    environ = environ or _environment()
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False)


def _environment() -> dict[str, str]:
    ours = own_environment().items()
    return {name: value for name, value in ours if not name.startswith(_OF_ANOTHER_PLACE)}


def _first_line(output: bytes) -> str:
    return os.fsdecode(output.removesuffix(b"\n"))
