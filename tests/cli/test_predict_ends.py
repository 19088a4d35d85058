"""However `kinetrack predict` ends, it ends cleanly: odd terminals, closed pipes, signals."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kinetrack.cli.predict.command import Walk, predict
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

from factories import model_card, write_video

ODD_NAMES = ["café.avi", "潜水.avi", os.fsdecode(b"bad\xff.avi"), "plain.avi"]
FORMS = ["text", "json", "csv"]
WALK = Walk(window_s=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one with labels that no ASCII terminal has, and videos with such names."""
    folder = tmp_path_factory.mktemp("ends")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Small3dCnn(num_classes=2)
    save_model(folder / "model", network, model_card(labels=("Прыжок", "泳")))
    video = write_video(folder / "plain.avi", num_frames=30).read_bytes()
    (folder / "videos").mkdir()
    for name in ODD_NAMES:
        (folder / "videos" / name).write_bytes(video)
    return folder


def run(folder: Path, *, form: Any, walk: Walk | None = None) -> int:
    model = str(folder / "model")
    return predict([str(folder / "videos")], model=model, top=1, views=1, form=form, walk=walk)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("walk", [None, WALK], ids=["whole", "steps"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_terminal_lacks_is_escaped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: str, walk: Walk | None, encoding: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    assert run(folder, form=form, walk=walk) == 0
    text = written.getvalue().decode(encoding)
    assert "plain.avi" in text
    assert r"bad\udcff.avi" in text
    if encoding == "ascii" or form == "json":
        assert "caf\\u00e9" in text or "caf\\xe9" in text
    else:
        assert "café.avi" in text
    if form == "json":
        names = [Path(json.loads(line)["path"]).name for line in text.splitlines()]
        assert names == sorted(ODD_NAMES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("walk", [None, WALK], ids=["whole", "steps"])
def test_closed_pipe_ends_quietly(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    walk: Walk | None,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert run(folder, form=form, walk=walk) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_full_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        with pytest.raises(InputError, match="stdout: cannot be written, found No space left"):
            run(folder, form="text")
        monkeypatch.undo()


def start(folder: Path, *options: str, video: Path, scratch: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kinetrack.cli.main", "predict", str(video)]
    return subprocess.Popen(
        [*command, "--model", str(folder / "model"), *options],
        env={**os.environ, "TMPDIR": str(scratch), "KINETRACK_WORKERS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_scratch(process: subprocess.Popen[str], scratch: Path) -> None:
    while not any(scratch.glob("kinetrack-*")):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.fixture(scope="module")
def long_video(folder: Path) -> Path:
    """It takes longer than most of these tests wait."""
    return write_video(folder / "long.mp4", num_frames=4000, width=320, height=240, codec="libx264")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "options", [[], ["--window", "1"], ["--window", "1", "--stride", "0.1", "--draw", "drawn"]]
)
def test_signal_leaves_nothing(
    folder: Path, tmp_path: Path, long_video: Path, number: signal.Signals, options: list[str]
) -> None:
    draws = random.Random(f"{number} {options}")
    options = [str(tmp_path / "drawn") if one == "drawn" else one for one in options]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for _ in range(2):
        process = start(folder, *options, video=long_video, scratch=scratch)
        wait_for_scratch(process, scratch)
        time.sleep(draws.choice([0, draws.random(), 6 * draws.random()]))
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, errors = process.communicate()
        # The last is Python's own end: all is done and removed by then.
        assert process.returncode in (128 + number, 0, -number)
        assert "Traceback" not in errors
        assert list(scratch.iterdir()) == []
        assert not list((tmp_path / "drawn").glob(".*"))
        assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.slow
def test_what_a_kill_leaves_the_next_run_removes(
    folder: Path, tmp_path: Path, long_video: Path
) -> None:
    for options in ([], ["--window", "1"]):
        process = start(folder, *options, video=long_video, scratch=tmp_path)
        wait_for_scratch(process, tmp_path)
        time.sleep(0.5)
        process.kill()
        process.communicate()
        assert list(tmp_path.iterdir())
        following = start(folder, video=folder / "plain.avi", scratch=tmp_path)
        assert "plain.avi: " in following.communicate()[0]
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_reader_that_has_enough_ends_it(folder: Path, tmp_path: Path) -> None:
    many = [str(folder / "videos")] * 100
    process = start(folder, "--json", *many, video=folder / "videos", scratch=tmp_path)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith('{"path"')
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == ""
    process.stderr.close()
    assert list(tmp_path.iterdir()) == []
