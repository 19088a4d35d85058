"""The lecture's preprocessing against the stages `frames` and `tensors`, on the same clips.

Fair, because both sides start from the same files and end with what a training loop loads: the
lecture with a float32 tensor of all frames, Kinetrack with the uint8 window that the preset
`lecture` trains on. That it packs only what the network sees is part of the gain, and meant. Both
work on one clip at a time (`KINETRACK_WORKERS=1`), CPU seconds are those of all processes, ffmpeg's
too, and the start of Python and torch is counted on both sides. `..._per_clip` leaves the start
out: it is the cost of many clips less that of one. The stage `split` is not counted; the lecture's
lists are made elsewhere too.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.clips import copy_in, spread
from benchmarks.figures import Figure, Findings, Line
from benchmarks.measure import Cost, measure
from benchmarks.scratch import FRAMES, ROOT, TENSORS, VIDEOS, Scratch, count_bytes

MANY, FEW = 120, 5  # clips; growing a tensor frame by frame takes ten times as long


class Side(NamedTuple):
    """What one way of preprocessing cost, and the bytes that it left."""

    cost: Cost
    clips: int
    frames_bytes: int
    tensors_bytes: int

    def line(self, key: str, title: str) -> Line:
        """A line of the table."""
        return Line(key, title, self.clips, self.cost, self.frames_bytes + self.tensors_bytes)


def run(videos: Sequence[Path], folder: Path) -> Findings:
    """Preprocess the same clips both ways: many with one stack at the end, few by the letter."""
    many, few, one = spread(videos, MANY), spread(videos, FEW), spread(videos, 1)
    fair, ours = run_lecture(many, folder, tensors="stacked"), run_kinetrack(many, folder)
    growing, ours_few = run_lecture(few, folder, tensors="growing"), run_kinetrack(few, folder)
    start, ours_start = run_lecture(one, folder, tensors="stacked"), run_kinetrack(one, folder)
    growing_start = run_lecture(one, folder, tensors="growing")
    return Findings(
        lines=[
            fair.line("preprocess.fair", "lecture, one stack at the end"),
            ours.line("preprocess.ours", "Kinetrack, same clips"),
            growing.line("preprocess.growing", "lecture, growing cat"),
            ours_few.line("preprocess.ours_few", "Kinetrack, same clips"),
            start.line("preprocess.fair_start", "lecture, one clip"),
            growing_start.line("preprocess.growing_start", "lecture, growing cat, one clip"),
            ours_start.line("preprocess.ours_start", "Kinetrack, one clip"),
        ],
        figures=[
            Figure(
                "preprocess.cpu_ratio",
                "CPU, lecture with one stack / Kinetrack",
                fair.cost.cpu_s / ours.cost.cpu_s,
                at_least=4,
            ),
            Figure(
                "preprocess.cpu_ratio_per_clip",
                "... without the start of the programs",
                _per_clip(fair, start) / _per_clip(ours, ours_start),
            ),
            Figure(
                "preprocess.lecture_ratio",
                "CPU, lecture with growing cat / Kinetrack",
                growing.cost.cpu_s / ours_few.cost.cpu_s,
            ),
            Figure(
                "preprocess.lecture_ratio_per_clip",
                "... without the start of the programs",
                _per_clip(growing, growing_start) / _per_clip(ours_few, ours_start),
            ),
            Figure(
                "tensor_bytes.ratio",
                "bytes of the tensors, lecture / Kinetrack",
                fair.tensors_bytes / ours.tensors_bytes,
            ),
            Figure("tensor_bytes.lecture", "bytes a clip", fair.tensors_bytes / fair.clips),
            Figure("tensor_bytes.ours", "bytes a clip", ours.tensors_bytes / ours.clips),
            Figure("frames_bytes.lecture", "bytes a clip", fair.frames_bytes / fair.clips),
            Figure("frames_bytes.ours", "bytes a clip", ours.frames_bytes / ours.clips),
        ],
        notes=[_say_how_frames_were_written()],
    )


def _per_clip(many: Side, one: Side) -> float:
    return (many.cost.cpu_s - one.cost.cpu_s) / (many.clips - one.clips)


def _say_how_frames_were_written() -> str:
    if shutil.which("ffmpeg"):
        return "The lecture's frames were written by the ffmpeg command line."
    return "No ffmpeg here: PyAV and Pillow wrote the lecture's frames."


def run_lecture(videos: Sequence[Path], folder: Path, *, tensors: str) -> Side:
    """Preprocess as the lecture does; `tensors` is "growing" or "stacked"."""
    source, out = folder / "videos", folder / "lecture"
    copy_in(videos, source)
    arguments = [str(source), str(out), "--tensors", tensors]
    cost = measure([sys.executable, "-m", "benchmarks.lecture", *arguments], folder=ROOT)
    written = list((out / "tensors").glob("*/*.pt"))
    side = Side(cost, len(written), count_bytes(out / "frames"), count_bytes(out / "tensors"))
    shutil.rmtree(out)
    return _with_all_clips(side, len(videos))


def run_kinetrack(videos: Sequence[Path], folder: Path) -> Side:
    """Preprocess with the commands of the stages, in one process each."""
    scratch = Scratch(folder / "kinetrack")
    copy_in(videos, scratch.folder / VIDEOS)
    cost = scratch.frames(workers=1)
    scratch.split_one_sided()
    cost = cost.then(scratch.tensors(workers=1))
    written = list((scratch.folder / TENSORS).glob("*/*/*.pt"))
    side = Side(
        cost,
        len(written),
        count_bytes(scratch.folder / FRAMES),
        count_bytes(scratch.folder / TENSORS),
    )
    shutil.rmtree(scratch.folder)
    return _with_all_clips(side, len(videos))


def _with_all_clips(side: Side, expected: int) -> Side:
    if side.clips != expected:
        raise RuntimeError(f"{side.clips} of {expected} clips were packed: nothing to compare")
    return side
