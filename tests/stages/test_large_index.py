"""An index of Kinetics-700's size: 700 classes, 650,000 clips, each of a video of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factories import frames_row
from project import ROOT

_NUM_CLIPS = 650_000
_NUM_CLASSES = 700
_MOST_BYTES = 2 * 10**9
# In a process of its own, which tells the most memory that it ever had.
_CODE = """
import hashlib, json, sys
from pathlib import Path
from kinetrack.data.index import FramesRow, write_index
from kinetrack.stages.split import SplitParams, split_clips

num_clips, num_classes, strategy, any_row = (*map(int, sys.argv[1:3]), *sys.argv[3:])
any_row, index = json.loads(any_row), Path("index.csv")
params = SplitParams(
    strategy=strategy, train_groups=700, val_groups=50, test_share=0.2, val_share=0.1, folds=5,
    fold=1, seed=0, unit="group", leaks="drop", max_missing=0, max_train_groups=None,
)

def row_of(number):
    label, clip = f"class {number % num_classes:03}", f"video{number:07}_000010_000020"
    side = "train" if number // num_classes % 4 else "test"
    sha256 = hashlib.sha256(clip.encode()).hexdigest()
    return FramesRow(**{
        **any_row, "clip": clip, "label": label, "group": clip,
        "official": side * (strategy == "official"),
        "video": f"{label}/{clip}.mp4", "start_s": 10.0, "end_s": 20.0, "num_frames": 300,
        "video_sha256": sha256, "frames_sha256": sha256[::-1], "archive_md5": sha256[:32],
    })

if not index.exists():
    write_index(index, FramesRow, [row_of(number) for number in range(num_clips)])
else:
    print(len(split_clips(params, index=index, splits=Path("splits")).kept))
# Not ru_maxrss, which starts with the memory of the process that forked this one.
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) * 1024)
"""


def run_alone(folder: Path, strategy: str) -> list[int]:
    """The numbers that the code prints."""
    # Made here: the module that makes it imports torch, which takes memory of its own.
    any_row = json.dumps(frames_row("a", label="A", group="1").model_dump())
    printed = subprocess.run(
        [sys.executable, "-c", _CODE, str(_NUM_CLIPS), str(_NUM_CLASSES), strategy, any_row],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return [int(line) for line in printed.split()]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["first_groups", "official", "ratio", "kfold"])
def test_index_and_split_of_650_000_clips_stay_below_2_gb(tmp_path: Path, strategy: str) -> None:
    (most_to_write,) = run_alone(tmp_path, strategy)
    num_kept, most_to_split = run_alone(tmp_path, strategy)
    assert num_kept == _NUM_CLIPS
    assert most_to_write < _MOST_BYTES
    assert most_to_split < _MOST_BYTES
