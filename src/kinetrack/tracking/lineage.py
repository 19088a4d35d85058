"""Which code and which DVC experiment made a run, as tags."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

UNKNOWN = "unknown"

# DVC writes these itself while stages run; the .gitignore files stand beside their outputs.
_CHANGED_BY_DVC = ("reports/**", "dvc.lock", "data/**/.gitignore")
_EXPERIMENT_TAGS = {
    "DVC_EXP_NAME": "dvc.exp_name",
    "DVC_EXP_BASELINE_REV": "dvc.exp_baseline_rev",
    "DVC_STAGE": "dvc.stage",
}


def git_facts(root: Path, *, environ: Mapping[str, str]) -> dict[str, str]:
    """Return commit, branch and whether the checkout `root` has changes, `unknown` without Git.

    Pass the checkout whose code runs: in an experiment that is the working directory, not DVC_ROOT.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    facts = {
        "git.commit": commit or UNKNOWN,
        "git.branch": _branch(root),
        "git.dirty": _dirty(root, in_experiment="DVC_EXP_NAME" in environ),
    }
    if commit:
        facts["mlflow.source.git.commit"] = commit  # the one that MLflow's UI shows
    return facts


def experiment_facts(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what DVC says about the running stage and experiment."""
    return {tag: environ[name] for name, tag in _EXPERIMENT_TAGS.items() if environ.get(name)}


def _branch(root: Path) -> str:
    inside = _git(root, "rev-parse", "--is-inside-work-tree") == "true"
    return _git(root, "symbolic-ref", "--quiet", "--short", "HEAD") or (
        "detached" if inside else UNKNOWN
    )


def _dirty(root: Path, *, in_experiment: bool) -> str:
    """Return "true" for changes (untracked files too) that are not DVC's own work."""
    ignored = (*_CHANGED_BY_DVC, "params.yaml") if in_experiment else _CHANGED_BY_DVC
    paths = (".", *(f":(exclude,glob){name}" for name in ignored))
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", *paths)
    if changes is None:
        return UNKNOWN
    return "true" if changes else "false"


def _git(root: Path, *arguments: str) -> str | None:
    """Return what Git prints, None when it is missing or refuses."""
    # Without optional locks `status` does not touch the index, which DVC may be using.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
