import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.using.scratch import _remove_abandoned, scratch_folder


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _remove_abandoned.cache_clear()
    return tmp_path


def hold(parent: Path, *, then: str) -> subprocess.Popen[str]:
    """Another process that is in a folder of its own; returns when it is there."""
    code = (
        "import os, sys; from kinetrack.using.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'frame.jpg').write_text('x'); print(folder, flush=True)\n"
        f"    {then}\n"
    )
    environment = {**os.environ, "TMPDIR": str(parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert Path(process.stdout.readline().strip()).is_dir()
    return process


def end(process: subprocess.Popen[str]) -> int:
    process.communicate("\n")
    return process.returncode


def test_folder_is_private_and_goes_with_the_block(parent: Path) -> None:
    with scratch_folder() as folder:
        (folder / "clip.zip").write_text("frames")
        assert folder.parent == parent
        assert folder.stat().st_mode & 0o777 == 0o700
        with scratch_folder() as other:
            assert other != folder
    assert list(parent.iterdir()) == []


def test_folder_goes_with_an_error(parent: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder():
        _ = 1 / 0
    assert list(parent.iterdir()) == []


def test_what_a_killed_process_left_goes_and_a_living_one_keeps_its_own(parent: Path) -> None:
    killed = hold(parent, then="os.kill(os.getpid(), 9)")
    end(killed)
    assert killed.returncode == -9
    alive = hold(parent, then="sys.stdin.readline(); os.stat(folder / 'frame.jpg')")
    (held,) = [path for path in parent.iterdir() if path.name.startswith("kinetrack-")]
    with scratch_folder() as folder:
        assert sorted(parent.iterdir()) == sorted([held, folder])
    assert end(alive) == 0
    assert list(parent.iterdir()) == []


def test_end_in_the_middle_of_removing_leaves_nothing(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import shutil, sys; from kinetrack.using.scratch import scratch_folder\n"
        "real, calls = shutil.rmtree, []\n"
        "def interrupted(*args, **options):\n"
        "    calls.append(args)\n"
        "    if len(calls) == 1: sys.exit(3)\n"
        "    real(*args, **options)\n"
        "shutil.rmtree = interrupted\n"
        "with scratch_folder(): pass\n"
    )
    environment = {**os.environ, "TMPDIR": str(parent)}
    result = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert result.returncode == 3
    assert list(parent.iterdir()) == []


def test_links_and_files_of_that_name_are_left_alone(parent: Path) -> None:
    (parent / "mine").mkdir()
    (parent / "mine/photo.jpg").write_text("keep")
    (parent / "kinetrack-scratch-link").symlink_to(parent / "mine")
    (parent / "kinetrack-scratch-file").write_text("keep")
    with scratch_folder():
        pass
    assert (parent / "mine/photo.jpg").exists()
    assert (parent / "kinetrack-scratch-link").is_symlink()
    assert (parent / "kinetrack-scratch-file").exists()


def test_forked_process_does_not_remove_it(parent: Path) -> None:
    code = (
        "import os, sys; from kinetrack.using.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    if not (child := os.fork()): sys.exit(0)\n"
        "    os.waitpid(child, 0); print(folder.is_dir())\n"
    )
    environment = {**os.environ, "TMPDIR": str(parent)}
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    assert result.stdout == "True\n"


def test_no_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with (
        pytest.raises(InputError, match="gone: has no room for a folder for temporary files"),
        scratch_folder(),
    ):
        pass


def test_no_folder_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", find_none)
    with (
        pytest.raises(InputError, match="TMPDIR: leads to no folder that can be written"),
        scratch_folder(),
    ):
        pass
