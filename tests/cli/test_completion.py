"""What Tab offers: by the shells' own protocol, and by the functions behind it."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kinetrack.cli.completion import clip_names, dataset_names, preset_names, run_names
from kinetrack.data.index import INDEX_NAME, FramesRow, write_index

from factories import frames_row


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a preset, two data sets and the frames of one."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/lecture.yaml").touch()
    (tmp_path / "data/videos/kitchen").mkdir(parents=True)
    (tmp_path / "data/videos/matches.dvc").touch()
    (tmp_path / "params.yaml").write_text("dataset: kitchen\n")
    return tmp_path


def complete(root: Path, line: str) -> list[str]:
    """What bash offers at the end of a line."""
    words = line.split()
    asked = {
        "_KINETRACK_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - (not line.endswith(" "))),
    }
    code = "from kinetrack.cli.main import main; import sys; sys.argv = ['kinetrack']; main()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("kinetrack pres", ["preset"]),
        ("kinetrack preset ", ["lecture"]),
        ("kinetrack use k", ["kitchen"]),
        ("kinetrack import x --label-from ", ["parent", "top"]),
    ],
)
def test_shell_completes(root: Path, line: str, offered: list[str]) -> None:
    assert sorted(complete(root, line)) == offered


def test_names_are_those_of_the_project(root: Path) -> None:
    assert preset_names() == ["lecture"]
    assert dataset_names() == ["kitchen", "matches", "sample"]


def test_clips_are_those_of_the_chosen_data_set(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetrack.params.load_params", lambda path: {"dataset": "kitchen"})
    folder = root / "data/frames/kitchen"
    folder.mkdir(parents=True)
    rows = [frames_row(name, label="Pour", group="g") for name in ("b", "a")]
    write_index(folder / INDEX_NAME, FramesRow, rows)
    assert clip_names() == ["Pour/a", "Pour/b"]


def test_runs_are_the_newest_that_are_not_deleted(root: Path) -> None:
    (root / "mlruns").mkdir()
    with closing(sqlite3.connect(root / "mlruns/mlflow.db")) as database:
        database.execute("CREATE TABLE runs (run_uuid, lifecycle_stage, start_time)")
        database.executemany(
            "INSERT INTO runs VALUES (?, ?, ?)",
            [("a" * 32, "active", 1), ("b" * 32, "active", 2), ("c" * 32, "deleted", 3)],
        )
        database.commit()
    assert run_names() == ["a" * 8, "b" * 8]


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
def test_what_cannot_be_read_gives_no_names(
    root: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (root / "mlruns").mkdir()
        (root / "mlruns/mlflow.db").write_bytes(content)
    assert run_names() == []
    assert clip_names() == []  # its params lack sections, and there are no frames
    monkeypatch.chdir("/")
    assert (preset_names(), dataset_names()) == ([], [])
