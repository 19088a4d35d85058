"""One clip more in a data set of N: what `dvc repro tensors` does again, and what that costs.

As a user works: the videos are a data set under DVC, a clip comes in, and `dvc repro tensors`
brings frames, split and tensors up to date. Its CPU seconds are compared with those of the first
run, which found nothing. DVC itself is counted in both; `dvc add` in neither. Then a clip is
changed, renamed, put on the other side, and removed. The stages say how many clips they did again.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure, Findings, Line
from benchmarks.measure import Cost
from benchmarks.scratch import VIDEOS, Scratch
from kinetrack.data.index import Side
from kinetrack.data.manifest import MANIFEST_NAME
from kinetrack.tables import write_csv

TEST_EVERY = 5  # so many clips, one tests


class DataSet:
    """Clips in a scratch project, their sides in a manifest: so that one can change alone."""

    def __init__(self, scratch: Scratch, videos: Sequence[Path]) -> None:
        self._scratch, self._folder = scratch, scratch.folder / VIDEOS
        self._sides: dict[str, Side] = {}  # by the path below the folder
        for number, video in enumerate(videos):
            self.put(video, side="test" if number % TEST_EVERY == 0 else "train")

    def __len__(self) -> int:
        return len(self._sides)

    @property
    def names(self) -> list[str]:
        """Paths of the clips below the folder, sorted."""
        return sorted(self._sides)

    def put(self, video: Path, *, side: Side, name: str = "") -> None:
        """Copy a video in, under its own or another clip's name."""
        name = name or f"{video.parent.name}/{video.name}"
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, self._folder / name)
        self._sides[name] = side

    def remove(self, name: str) -> None:
        """Take a clip out."""
        (self._folder / name).unlink()
        del self._sides[name]

    def rename(self, name: str, new_name: str) -> None:
        """Give a clip another name, on the same side."""
        (self._folder / name).rename(self._folder / new_name)
        self._sides[new_name] = self._sides.pop(name)

    def side(self, name: str) -> Side:
        """The side of a clip."""
        return self._sides[name]

    def move(self, name: str, *, side: Side) -> None:
        """Put a clip on another side."""
        self._sides[name] = side

    def reproduce(self) -> Cost:
        """Put the clips as they are now under DVC, then bring the tensors up to date."""
        rows = [
            {"path": name, "label": name.partition("/")[0], "official": self._sides[name]}
            for name in self.names
        ]
        write_csv(self._folder / MANIFEST_NAME, ["path", "label", "official"], rows)
        self._scratch.dvc("add", "-q", VIDEOS)
        return self._scratch.dvc("repro", "tensors")


class Work(NamedTuple):
    """What a stage said it did: clips made anew, those that only moved, those that stayed."""

    made: int
    moved: int
    kept: int


def run(videos: Sequence[Path], folder: Path) -> Findings:
    """Reproduce from nothing, then after each of five changes."""
    *present, changed, added = videos
    scratch = Scratch(folder / "kinetrack")
    scratch.set_params(split={"strategy": "official", "fold": 1, "val_share": 0.0})
    scratch.start_dvc()
    data = DataSet(scratch, present)
    lines = [_reproduce(data, "cold", "from nothing")]
    data.put(added, side="train")
    lines.append(_reproduce(data, "added", "one clip added"))
    first, second, third, fourth, *_ = data.names
    data.put(changed, side=data.side(first), name=first)
    lines.append(_reproduce(data, "changed", "one clip changed"))
    data.rename(second, re.sub(r"_c\d+\.", "_c99.", second))
    lines.append(_reproduce(data, "renamed", "one clip renamed"))
    data.move(third, side="train" if data.side(third) == "test" else "test")
    lines.append(_reproduce(data, "side", "one clip put on the other side"))
    data.remove(fourth)
    lines.append(_reproduce(data, "removed", "one clip removed"))
    return Findings(
        lines,
        figures=[_compare(lines)],
        counts=_count_work(lines),
        notes=[_tell_work(line) for line in lines],
    )


def _reproduce(data: DataSet, key: str, title: str) -> Line:
    cost = data.reproduce()
    return Line(f"added_clip.{key}", title, len(data), cost)


def _compare(lines: Sequence[Line]) -> Figure:
    cold, added, *_ = lines
    return Figure(
        "added_clip.share",
        "CPU of the run with one clip more / of the first run",
        added.cost.cpu_s / cold.cost.cpu_s,
        at_most=0.2,
    )


def _count_work(lines: Sequence[Line]) -> dict[str, int]:
    return {
        f"{line.key}.{stage}_{name}": count
        for line in lines
        for stage in ("frames", "tensors")
        for name, count in parse_work(line.cost.output, stage)._asdict().items()
    }


def _tell_work(line: Line) -> str:
    frames = parse_work(line.cost.output, "frames")
    tensors = parse_work(line.cost.output, "tensors")
    return (
        f"{line.title}: {frames.made} decoded, {frames.moved} moved, {frames.kept} kept;"
        f" {tensors.made} packed, {tensors.moved} moved, {tensors.kept} kept"
    )


def parse_work(output: str, stage: str) -> Work:
    """Read a stage's summary, as `frames: 238 clips, ...; 1 decoded, 0 moved, 237 kept`.

    A stage that DVC skipped did nothing; one that counts no work did everything. Clips that came
    back from a cache count as moved.
    """
    summary = re.search(rf"^{stage}: (\d+) clips\b.*", output, re.MULTILINE)
    if summary is None:
        return Work(0, 0, 0)
    line = summary.group()
    if not re.search(r"\d+ kept", line):
        return Work(int(summary.group(1)), 0, 0)
    return Work(
        made=_find_count(line, "decoded|packed"),
        moved=_find_count(line, "moved") + _find_count(line, "from the cache"),
        kept=_find_count(line, "kept"),
    )


def _find_count(line: str, words: str) -> int:
    found = re.search(rf"(\d+) (?:{words})\b", line)
    return int(found.group(1)) if found else 0
