"""Kinetrack's preprocessing with one worker process and with two: what the second one brings.

Wall time of the stages `frames` and `tensors`, from nothing, on the same clips. The two take turns,
so that a machine that is busy for a while does not favour one, and the medians are compared. The
start of Python and torch cannot be shared out; `..._per_clip` leaves it out, as the time of all
clips less that of two. It is what a data set of many thousand clips sees.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.clips import copy_in, spread
from benchmarks.figures import Figure, Findings, Line
from benchmarks.measure import Cost
from benchmarks.scratch import TENSORS, VIDEOS, Scratch

ROUNDS = 2
Costs = Mapping[int, Sequence[Cost]]  # by number of workers, a cost a round


def run(videos: Sequence[Path], folder: Path) -> Findings:
    """Preprocess all clips, and two, with one and with two workers in turn."""
    scratch = Scratch(folder / "kinetrack")
    two = spread(videos, 2)
    costs, starts = take_turns(scratch, videos), take_turns(scratch, two)
    seconds, start_s = _medians(costs), _medians(starts)
    return Findings(
        lines=[
            *_lines(costs, "workers", "", len(videos)),
            *_lines(starts, "workers_start", ", two clips", len(two)),
        ],
        figures=[
            Figure("workers.1.seconds", "one worker, median", seconds[1]),
            Figure("workers.2.seconds", "two workers, median", seconds[2]),
            Figure(
                "preprocess.two_workers_ratio",
                "wall time, one worker / two",
                seconds[1] / seconds[2],
                at_least=1.8,
            ),
            Figure(
                "preprocess.two_workers_ratio_per_clip",
                "... without the start of the programs",
                (seconds[1] - start_s[1]) / (seconds[2] - start_s[2]),
            ),
        ],
    )


def take_turns(scratch: Scratch, videos: Sequence[Path]) -> Costs:
    """Preprocess the same clips with one and two workers, again and again."""
    copy_in(videos, scratch.folder / VIDEOS)
    costs: dict[int, list[Cost]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, found in costs.items():
            found.append(_preprocess(scratch, workers=workers))
            _require_all_packed(scratch, len(videos))
    return costs


def _preprocess(scratch: Scratch, *, workers: int) -> Cost:
    """Run both stages from nothing."""
    scratch.forget()
    frames = scratch.frames(workers=workers)
    scratch.split_one_sided()
    return frames.then(scratch.tensors(workers=workers))


def _require_all_packed(scratch: Scratch, expected: int) -> None:
    packed = len(list((scratch.folder / TENSORS).glob("*/*/*.pt")))
    if packed != expected:
        raise RuntimeError(f"{packed} of {expected} clips were packed: nothing to compare")


def _medians(costs: Costs) -> dict[int, float]:
    return {workers: median(cost.wall_s for cost in found) for workers, found in costs.items()}


def _lines(costs: Costs, key: str, what: str, clips: int) -> list[Line]:
    return [
        Line(f"{key}.{workers}.round_{number}", f"workers: {workers}{what}", clips, cost)
        for workers, found in costs.items()
        for number, cost in enumerate(found, start=1)
    ]
