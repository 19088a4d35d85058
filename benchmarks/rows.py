"""Index and split of as many clips as Kinetics-700 has: 650,000 rows of 700 classes.

No videos are needed, only their rows. Three processes, one after the other: one writes the index,
one reads it, one is the stage `split` itself, which reads it again. Making up the rows and starting
Python is not timed for the first two; the third is timed as a whole.
"""

import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from benchmarks.figures import GIGABYTE, Figure, Findings, Line
from benchmarks.measure import Cost, measure
from benchmarks.scratch import FRAMES, ROOT, SPLIT, Scratch
from kinetrack.data.frames import ExtractionReport
from kinetrack.data.index import INDEX_NAME, FramesRow, read_index, write_index

ROWS, CLASSES = 650_000, 700


def run(folder: Path, *, num_rows: int = ROWS) -> Findings:
    """Write and read an index of generated rows, and split it."""
    scratch = Scratch(folder / "kinetrack")
    scratch.set_params(
        split={"strategy": "ratio", "unit": "group", "test_share": 0.1, "val_share": 0.05}
    )
    index = scratch.folder / FRAMES / INDEX_NAME
    index.parent.mkdir(parents=True)
    wrote, read = _run_here("write", index, num_rows), _run_here("read", index, num_rows)
    split = scratch.stage("split", FRAMES / INDEX_NAME, SPLIT.parent)
    costs = {"write": wrote, "read": read, "split": split}
    titles = {"write": "write_index", "read": "read_index", "split": "stage split"}
    return Findings(
        lines=[Line(f"index_650k.{key}", titles[key], num_rows, costs[key]) for key in costs],
        figures=[
            Figure(
                "index_650k.seconds",
                "all three",
                sum(cost.wall_s for cost in costs.values()),
                at_most=60,
            ),
            Figure(
                "index_650k.peak_gb",
                "GB of the largest process",
                max(cost.peak_bytes for cost in costs.values()) / GIGABYTE,
                at_most=2,
            ),
        ],
    )


def _run_here(what: str, index: Path, num_rows: int) -> Cost:
    """Run a function of this module in a process of its own; its time is that which it prints."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "benchmarks.rows",
        what,
        index,
        str(num_rows),
    ]
    cost = measure(command, folder=ROOT)
    return cost._replace(wall_s=float(cost.output.split()[-1]))


def make_rows(num_rows: int) -> list[FramesRow]:
    """Rows of clips that each show somebody else, of all classes in turn, sorted as in an index."""
    per_class = -(-num_rows // CLASSES)  # rounded up
    return [
        _make_row(f"Class{number // per_class:03}", f"v_{number:06}") for number in range(num_rows)
    ]


def _make_row(label: str, clip: str) -> FramesRow:
    content = sha256(f"{label}/{clip}".encode()).hexdigest()
    found = ExtractionReport(
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=340,
        height=256,
        fps=25.0,
        promised_frames=250,
        decoded_frames=250,
        num_frames=250,
        video_sha256=content,
        frames_sha256=content,
        archive_md5=content[:32],
    )._asdict()
    del found["notes"]
    return FramesRow(
        clip=clip,
        label=label,
        group=clip,
        official="",
        video=f"{label}/{clip}.mp4",
        start_s=None,
        end_s=None,
        **found,
        status="ok",
        reason="",
    )


def _time_write(index: Path, num_rows: int) -> float:
    rows = make_rows(num_rows)
    start_s = time.perf_counter()
    write_index(index, FramesRow, rows)
    return time.perf_counter() - start_s


def _time_read(index: Path, num_rows: int) -> float:
    start_s = time.perf_counter()
    rows = read_index(index, FramesRow, remedy="")
    seconds = time.perf_counter() - start_s
    assert len(rows) == num_rows
    return seconds


_TIMED: dict[str, Callable[[Path, int], float]] = {"write": _time_write, "read": _time_read}


if __name__ == "__main__":
    _, what, index, num_rows = sys.argv
    sys.stdout.write(f"{_TIMED[what](Path(index), int(num_rows))}\n")
