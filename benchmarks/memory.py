"""The memory of a worker does not grow with the length of a clip.

One clip of more than 20,000 frames stands beside ordinary ones. The figure is the most that any
one process held by itself, in `frames` or `tensors`: a worker, or the child that decodes for it.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.clips import copy_in, join_clips, spread
from benchmarks.figures import GIGABYTE, Figure, Findings, Line
from benchmarks.scratch import FRAMES, VIDEOS, Scratch
from kinetrack.data.index import INDEX_NAME, FramesRow, read_index

ORDINARY = 8  # clips
LONG_FRAMES = 20_000


def run(videos: Sequence[Path], folder: Path, *, long_frames: int = LONG_FRAMES) -> Findings:
    """Preprocess a few clips, without and with a long one."""
    ordinary = spread(videos, ORDINARY)
    scratch = Scratch(folder / "kinetrack")
    copy_in(ordinary, scratch.folder / VIDEOS)
    alone = _preprocess(scratch, "memory.ordinary", "ordinary clips")
    long = scratch.folder / VIDEOS / ordinary[0].parent.name / "v_Long_g99_c01.avi"
    join_clips(videos, long, num_frames=long_frames)
    beside = _preprocess(scratch, "memory.long", "... and a very long one")
    rows = read_index(scratch.folder / FRAMES / INDEX_NAME, FramesRow, remedy="")
    peak_gb = beside.cost.peak_bytes / GIGABYTE
    return Findings(
        lines=[alone, beside],
        figures=[
            Figure("worker.peak_gb", "GB of the largest process", peak_gb, at_most=0.5),
            Figure(
                "memory.long_frames",
                "frames of the long clip",
                max(row.num_frames for row in rows),
                at_least=long_frames,
            ),
        ],
    )


def _preprocess(scratch: Scratch, key: str, title: str) -> Line:
    scratch.forget()
    cost = scratch.frames()
    scratch.split_one_sided()
    cost = cost.then(scratch.tensors())
    return Line(key, title, len(list((scratch.folder / FRAMES).glob("*/*.zip"))), cost)
