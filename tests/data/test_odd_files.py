"""Real files that are odd in some way, where a folder of them is at hand.

The folder holds the files and an `index.csv` that says how many frames a plain decode gives.
"""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinetrack.data.containers import VideoError
from kinetrack.data.frames import extract_frames
from kinetrack.isolation import StalledError, run_isolated

VARIABLE = "KINETRACK_REAL_VIDEOS"
FOLDER = Path(os.environ.get(VARIABLE, "not set")) / "odd"


def read_table() -> list[dict[str, str]]:
    if not FOLDER.is_dir():
        return []
    with (FOLDER / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not read_table(), reason=f"{VARIABLE} names no folder that holds odd/index.csv"
    ),
]


@pytest.mark.parametrize("row", read_table(), ids=lambda row: row["file"])
def test_odd_file_gives_its_frames_or_is_refused_by_name(
    tmp_path: Path, row: dict[str, str]
) -> None:
    expected = int(row["decoded_frames"])
    try:
        report = extract_frames(
            FOLDER / row["file"],
            tmp_path / "a.zip",
            gaps="keep",
            jpeg_quality=95,
            jpeg_subsampling="4:2:0",
            stall_s=60,
        )
    except VideoError:
        if expected == 0:
            return
        raise
    if row["error"]:  # the plain decode ended there; ffmpeg goes on, and so do we
        assert report.decoded_frames >= expected
        assert report.corrupt_frames > 0
    else:
        assert report.decoded_frames == expected
    turned = report.rotation_deg in (90, 270)
    size = int(row["width"]), int(row["height"])
    assert (report.width, report.height) == (size[::-1] if turned else size)


# PyAV with FFmpeg's logging switched on and threads inside a decoder: one waits for the other.
HANG = """
import logging
import av
logging.disable()
av.logging.set_level(av.logging.ERROR)
for _ in range(20):
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        try:
            for _ in container.decode(video=0):
                pass
        except av.FFmpegError:
            pass
"""
HANGING = ["010/corrupted.mp4", "046/test_case_1185230.mp4"]


@pytest.mark.parametrize("name", HANGING)
def test_decoder_that_hangs_inside_c_is_ended_within_its_limit(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(StalledError, match="no progress for 3 s"):
        run_isolated(exec, HANG, {"path": str(FOLDER / name)}, stall_s=3)
    assert time.monotonic() - start < 60


CALLER = """
import os, sys
from kinetrack.isolation import run_isolated
print(run_isolated(os.getpid, stall_s=60), flush=True)
run_isolated(exec, sys.argv[1], {"path": sys.argv[2]}, stall_s=600)
"""


@pytest.mark.parametrize("name", HANGING)
def test_decoder_that_hangs_inside_c_does_not_outlive_a_killed_parent(name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, HANG, str(FOLDER / name)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    pid = process.stdout.readline().strip()
    time.sleep(3)
    assert process.poll() is None
    process.kill()
    process.communicate()
    time.sleep(1)
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or ") Z " in status.read_text()
