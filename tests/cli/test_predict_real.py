"""Odd real files, where a folder of them is at hand, and long videos in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kinetrack.cli.predict.command import Walk, predict
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

from factories import model_card, write_video

ODD = Path(os.environ.get("KINETRACK_REAL_VIDEOS", "not set")) / "odd"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(folder, Small3dCnn(num_classes=2), model_card())
    return folder


@pytest.mark.skipif(not ODD.is_dir(), reason="KINETRACK_REAL_VIDEOS names no folder with odd/")
@pytest.mark.parametrize("draw_as", [None, "mp4", "gif"])
def test_each_odd_file_has_an_answer_or_a_reason(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], draw_as: Any
) -> None:
    walk = Walk(1.0, draw=tmp_path, draw_as=draw_as) if draw_as else None
    names = sorted(str(path) for path in ODD.glob("*/*"))
    code = predict(names, model=str(model), top=1, views=1, form="json", walk=walk)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["path"] for one in said] == names
    assert code == 1
    for one in said:
        assert one["status"] == "ok" or one["reason"]
        assert ("drawn" in one) is (one["status"] == "ok" and walk is not None)
    assert len(list(tmp_path.iterdir())) == sum("drawn" in one for one in said)


@pytest.mark.parametrize("options", [[], ["--draw", "drawn"], ["--draw", "drawn", "--as", "gif"]])
def test_memory_does_not_grow_with_the_length(
    tmp_path: Path, model: Path, options: list[str]
) -> None:
    """All frames of the long one would be 900 MB."""
    peaks_mb = []
    for num_frames in (300, 4000):
        size = {"width": 320, "height": 240, "codec": "libx264"}
        video = write_video(tmp_path / f"{num_frames}.mp4", num_frames=num_frames, **size)  # type: ignore[arg-type]
        command = ["predict", str(video), "--model", str(model), "--window", "2", "--csv", *options]
        peaks_mb.append(peak_memory_mb(command, folder=tmp_path))
    short_mb, long_mb = peaks_mb
    assert long_mb < short_mb + 80


def peak_memory_mb(arguments: list[str], *, folder: Path) -> float:
    """Of the command and its largest child process."""
    code = (
        "import resource, subprocess, sys\n"
        "from kinetrack.cli.main import main\n"
        "sys.argv[0] = 'kinetrack'\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "from kinetrack.isolation import end_idle_children; end_idle_children()\n"
        "peaks = [resource.getrusage(who).ru_maxrss\n"
        "    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "print('peak', sum(peaks), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True)
    return int(result.stderr.split()[-1]) / 1024
