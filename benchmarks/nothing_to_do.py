"""`dvc repro` with nothing to do: this project against a bare dvc.yaml of the same layout.

Both hold the same files: a data set of tiny generated clips, which the real stages made into
frames, split, tensors and a model. The bare pipeline has the same stages, data dependencies and
outputs, but its commands do nothing, and it lists neither code nor params: the ratio is what
Kinetrack's own lists cost. The two take turns, several times; medians are compared.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.clips import write_tiny_videos
from benchmarks.figures import Figure, Findings, Line
from benchmarks.measure import Cost
from benchmarks.scratch import DATASET, FRAMES, VIDEOS, Scratch

# Clips and classes: the lecture's five classes, and the whole of UCF101.
SIZES = {625: 5, 13_320: 101}
ROUNDS = 7
_TINY = {
    "sample": {"groups": 4, "clips_per_group": 1, "num_frames": 32},
    "split": {"strategy": "ratio", "unit": "clip", "test_share": 0.2, "val_share": 0.1},
    "pack": {"num_frames": 8, "resize_px": 16, "size_px": 16, "short_clips": "stretch"},
    "train": {"epochs": 1, "batch_size": 64, "micro_batch": 64},
}


def run(folder: Path, *, sizes: Mapping[int, int] = SIZES) -> Findings:
    """Compare at each size."""
    found = [compare(folder / str(clips), clips=clips, classes=sizes[clips]) for clips in sizes]
    return Findings(
        lines=[line for one in found for line in one.lines],
        figures=[figure for one in found for figure in one.figures],
    )


def compare(folder: Path, *, clips: int, classes: int) -> Findings:
    """Make both projects, then time them in turn."""
    ours = Scratch(folder / "kinetrack", preset="sample")
    made = make_kinetrack(ours, clips=clips, classes=classes)
    bare = Scratch(folder / "bare")
    make_bare(bare, ours)
    found: dict[str, list[Cost]] = {"kinetrack": [], "bare": []}
    for _ in range(ROUNDS):
        for name, scratch in (("kinetrack", ours), ("bare", bare)):
            found[name].append(reproduce_nothing(scratch))
    shutil.rmtree(folder)
    seconds = {name: median(cost.wall_s for cost in costs) for name, costs in found.items()}
    cpu_s = {name: median(cost.cpu_s for cost in costs) for name, costs in found.items()}
    part = f"noop_{clips}"
    return Findings(
        lines=[
            Line(f"{part}.made", f"{clips:,} clips: dvc repro from nothing", clips, made),
            *(
                Line(f"{part}.{name}", f"... {name}, nothing to do, last run", clips, costs[-1])
                for name, costs in found.items()
            ),
        ],
        figures=[
            Figure(f"{part}.kinetrack_seconds", "no-op, median", seconds["kinetrack"]),
            Figure(f"{part}.bare_seconds", "bare, median", seconds["bare"]),
            Figure(
                f"{part}.ratio",
                "no-op dvc repro, Kinetrack / bare dvc.yaml",
                seconds["kinetrack"] / seconds["bare"],
                at_most=1.3,
            ),
            Figure(f"{part}.cpu_ratio", "... CPU", cpu_s["kinetrack"] / cpu_s["bare"]),
        ],
    )


def make_kinetrack(scratch: Scratch, *, clips: int, classes: int) -> Cost:
    """Run the real pipeline on tiny clips; return what `dvc repro` cost."""
    write_tiny_videos(scratch.folder / VIDEOS, classes=classes, clips=clips)
    scratch.set_params(**_TINY)
    scratch.start_dvc()
    scratch.dvc("add", "-q", VIDEOS)
    made = scratch.dvc("repro")
    archives = len(list((scratch.folder / FRAMES).glob("*/*.zip")))
    if archives != clips:
        raise RuntimeError(f"{archives} of {clips} clips were decoded: nothing to compare")
    return made


def make_bare(scratch: Scratch, other: Scratch) -> None:
    """Make a project with the data of another one and a pipeline that does nothing."""
    for name in ("data", "reports"):
        shutil.copytree(other.folder / name, scratch.folder / name, dirs_exist_ok=True)
    path = scratch.folder / "dvc.yaml"
    pipeline = strip_pipeline(yaml.safe_load(path.read_text().replace("${dataset}", DATASET)))
    path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    shutil.rmtree(scratch.folder / "src")
    scratch.start_dvc()
    scratch.dvc("add", "-q", VIDEOS)
    scratch.dvc("commit", "-q", "--force")


def strip_pipeline(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """The same stages and data with commands that do nothing; neither code nor params."""
    return {"stages": {name: _strip(stage) for name, stage in pipeline["stages"].items()}}


def _strip(stage: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: stage[key] for key in ("outs", "metrics", "plots") if key in stage}
    data = [dep for dep in stage.get("deps", []) if not dep.startswith("src/")]
    return {"cmd": "true", "deps": data, **kept}


def reproduce_nothing(scratch: Scratch) -> Cost:
    """Run `dvc repro` and see that it did nothing."""
    cost = scratch.dvc("repro")
    if "Running stage" in cost.output or "up to date" not in cost.output:
        raise RuntimeError(f"dvc repro found something to do:\n{cost.output}")
    return cost
