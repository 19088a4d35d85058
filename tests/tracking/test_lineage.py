import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetrack.tracking.lineage import experiment_facts, git_facts


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed project in a folder of a larger repository."""
    folder = tmp_path / "project"
    for name in ("src/code.py", "reports/train/metrics.json", "dvc.lock", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1\n")
    (folder / ".gitignore").write_text("/mlruns\n")
    git(tmp_path, "init", "-q", "-b", "work")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return folder


def change(name: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("2\n")

    return write


def test_clean_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_facts(checkout, environ={}) == {
        "git.commit": commit,
        "git.branch": "work",
        "git.dirty": "false",
        "mlflow.source.git.commit": commit,
    }


@pytest.mark.parametrize(
    ("act", "in_experiment", "dirty"),
    [
        (change("src/code.py"), False, "true"),
        (change("src/new.py"), False, "true"),
        (change("src/new.py"), True, "true"),
        (lambda folder: (folder / "src/code.py").unlink(), False, "true"),
        (change("dvc.lock"), False, "false"),
        (lambda folder: (folder / "reports/train/metrics.json").unlink(), False, "false"),
        (change("reports/new.json"), False, "false"),
        (change("data/.gitignore"), False, "false"),
        (change("data/videos/.gitignore"), False, "false"),
        (change("data/videos/mine.dvc"), False, "true"),
        (change("reports.py"), False, "true"),
        (change("src/dvc.lock"), False, "true"),
        (change("params.yaml"), False, "true"),
        (change("params.yaml"), True, "false"),
        (lambda folder: (folder / "mlruns").mkdir(), False, "false"),
        (lambda folder: (folder.parent / "elsewhere").touch(), False, "false"),
    ],
)
def test_dirty_means_changes_that_dvc_did_not_make(
    checkout: Path, act: Callable[[Path], object], in_experiment: bool, dirty: str
) -> None:
    act(checkout)
    environ = {"DVC_EXP_NAME": "bold-owl"} if in_experiment else {}
    assert git_facts(checkout, environ=environ)["git.dirty"] == dirty


def test_detached_checkout(checkout: Path) -> None:
    git(checkout, "checkout", "-q", "--detach")
    assert git_facts(checkout, environ={})["git.branch"] == "detached"


def test_repository_without_commits(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "work")
    facts = git_facts(tmp_path, environ={})
    assert facts == {"git.commit": "unknown", "git.branch": "work", "git.dirty": "false"}


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert set(git_facts(tmp_path, environ={}).values()) == {"unknown"}


def test_no_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert set(git_facts(checkout, environ={}).values()) == {"unknown"}


def test_experiment_facts() -> None:
    environ = {"DVC_EXP_NAME": "bold-owl", "DVC_EXP_BASELINE_REV": "abc", "DVC_STAGE": ""}
    assert experiment_facts(environ) == {
        "dvc.exp_name": "bold-owl",
        "dvc.exp_baseline_rev": "abc",
    }


def test_lineage_needs_no_mlflow() -> None:
    code = "import sys, kinetrack.tracking.lineage; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
