import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kinetrack.versioning.commands import repro

STAGES = """
stages:
  which:
    cmd: python -c "import sys; open('python.txt', 'w').write(sys.executable)"
    outs: [python.txt]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stage says which Python runs it, in a shell that has activated none."""
    (tmp_path / "dvc.yaml").write_text(STAGES)
    command = [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which("python") != str(Path(sys.executable).with_name("python"))
    return tmp_path


def test_a_stage_runs_with_our_python_whatever_is_activated(project: Path) -> None:
    assert repro("which", root=project) == 0
    found = Path((project / "python.txt").read_text())
    assert found.parent == Path(sys.executable).parent


def test_a_dry_run_runs_nothing(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert repro("which", root=project, dry_run=True) == 0
    assert "which" in capfd.readouterr().out
    assert not (project / "python.txt").exists()
    assert not (project / "dvc.lock").exists()
