"""The lecture's training loop against the stage `train`, on the same clips and the same threads.

The ways take turns, so that a machine that is busy for a while favours none, and the medians are
compared. What counts is the training of an epoch, the loading of clips included: the lecture's
loop after its first step, Kinetrack's after its first epoch, in which a program warms up. Scoring
the test clips is not compared; it is measured of Kinetrack's, to tell what an epoch of the
lecture's data set takes in all. Everything runs on the CPU.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import psutil
import torch
from mlflow import MlflowClient

from benchmarks.arithmetic import measure_matrix_gflops
from benchmarks.figures import GIGABYTE, Findings
from benchmarks.measure import measure
from benchmarks.scratch import FRAMES, ROOT, TENSORS, Scratch
from benchmarks.training_clips import (
    Plan,
    choose_sides,
    count_clips,
    decode,
    lecture_bytes,
    pack,
    write_lecture_tensors,
)
from benchmarks.training_figures import (
    Comparison,
    Precision,
    Training,
    Way,
    compare_speeds,
    tell_arithmetic,
    tell_costs,
    tell_speeds,
)
from kinetrack.data.index import FramesRow

LARGE, SMALL = Plan(224, 256, clips=64), Plan(112, 128, clips=128)
ROUNDS = 2
THREADS = 2  # as in the preset
LECTURE_EPOCHS, EPOCHS = 2, 3
_FREE_BYTES = 2e9  # of the disk, left alone

_TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def run(
    videos: Sequence[Path], folder: Path, *, large: Plan = LARGE, small: Plan = SMALL
) -> Findings:
    """Train at two sizes; the larger one with two processes too."""
    scratch = Scratch(folder / "kinetrack")
    rows = decode(scratch, videos, clips=max(large.clips, small.clips))
    at_large = compare(scratch, rows, large, ways=get_args(Way))
    at_small = compare(scratch, rows, small, ways=("lecture", "fp32", "bf16"))
    return Findings(
        lines=[],
        figures=[
            *compare_speeds(at_large, at_small),
            *tell_costs(at_large, at_small),
            *tell_arithmetic(at_large),
            *tell_speeds(at_large, "train"),
            *tell_speeds(at_small, "train.px112"),
        ],
        counts={"train.clips": at_large.clips, "train.px112.clips": at_small.clips},
        notes=[*at_large.notes, *at_small.notes],
    )


def compare(
    scratch: Scratch, rows: Sequence[FramesRow], plan: Plan, *, ways: Sequence[Way]
) -> Comparison:
    """Train at one size in each of some ways, by turns."""
    tensors = scratch.folder / "lecture"
    clips = prepare(scratch, tensors, rows, plan)
    trainings: dict[Way, list[Training]] = {way: [] for way in ways}
    matrix_gflops = dict.fromkeys(_TYPES, 0.0)
    for _ in range(ROUNDS):
        for way, found in trainings.items():
            found.append(_train(way, scratch, tensors, plan, clips=clips))
        for name, kind in _TYPES.items():
            reached = measure_matrix_gflops(kind, threads=THREADS)
            matrix_gflops[name] = max(matrix_gflops[name], reached)
    shutil.rmtree(tensors)
    notes = list(_tell(plan, clips, rows, trainings))
    return Comparison(plan, clips, trainings, matrix_gflops, notes)


def prepare(scratch: Scratch, tensors: Path, rows: Sequence[FramesRow], plan: Plan) -> int:
    """Pack clips both ways, the lecture's into the folder `tensors`; return how many train."""
    clips = count_clips(
        rows,
        plan,
        disk_bytes=shutil.disk_usage(scratch.folder).free - _FREE_BYTES,
        memory_bytes=psutil.virtual_memory().available,
    )
    sides = choose_sides(rows, clips=clips)
    pack(scratch, sides, plan)
    _require_packed(scratch, clips)
    write_lecture_tensors(scratch.folder / FRAMES, tensors, sides, plan)
    return clips


def _require_packed(scratch: Scratch, expected: int) -> None:
    packed = len(list((scratch.folder / TENSORS / "train").glob("*/*.pt")))
    if packed != expected:
        raise RuntimeError(f"{packed} of {expected} clips were packed: nothing to compare")


def _train(way: Way, scratch: Scratch, tensors: Path, plan: Plan, *, clips: int) -> Training:
    if way == "lecture":
        return train_as_lecture(tensors, plan)
    return train_as_kinetrack(
        scratch,
        plan,
        clips=clips,
        precision="bf16" if way == "bf16" else "fp32",
        processes=2 if way == "processes2" else 1,
    )


def train_as_lecture(tensors: Path, plan: Plan) -> Training:
    """Train with the lecture's loop, in a process of its own."""
    options = {
        "--epochs": LECTURE_EPOCHS,
        "--batch-size": plan.batch_size,
        "--threads": THREADS,
        "--size-px": plan.size_px,
    }
    arguments = [str(word) for option in options.items() for word in option]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "benchmarks.lecture_training",
        tensors,
        *arguments,
    ]
    cost = measure(command, folder=ROOT)
    found = json.loads(cost.output.splitlines()[-1])
    return Training(found["clips_per_s"], found["load_s"] / found["seconds"], cost.peak_bytes)


def train_as_kinetrack(
    scratch: Scratch, plan: Plan, *, clips: int, precision: Precision, processes: int
) -> Training:
    """Train with the stage's command; the speed is what it logs to MLflow."""
    train = {
        "epochs": EPOCHS,
        "batch_size": plan.batch_size,
        "precision": precision,
        "threads": THREADS,
    }
    scratch.set_params(train=train)
    start_ms = int(time.time() * 1000)
    cost = scratch.train(processes=processes)
    epochs = read_epochs(scratch.folder / "mlruns/mlflow.db", start_ms=start_ms)
    if len(epochs) != EPOCHS:
        raise RuntimeError(f"{len(epochs)} of {EPOCHS} epochs are in MLflow:\n{cost.output}")
    first, *later = epochs
    seconds = sum(epoch.seconds for epoch in later)
    test_clips = len(list((scratch.folder / TENSORS / "test").glob("*/*.pt")))
    in_all_s = (later[-1].end_ms - first.end_ms) / 1000
    return Training(
        clips_per_s=clips * len(later) / seconds,
        load_share=sum(epoch.load_share * epoch.seconds for epoch in later) / seconds,
        peak_bytes=cost.peak_bytes,
        score_s=(in_all_s - seconds) / len(later) / test_clips,
    )


class TrackedEpoch(NamedTuple):
    """An epoch as MLflow has it: seconds of its training, when all of it was over."""

    seconds: float
    load_share: float
    end_ms: int


def read_epochs(database: Path, *, start_ms: int) -> list[TrackedEpoch]:
    """Read the epochs of the run that was started at some time or later; none without a run."""
    client = MlflowClient(f"sqlite:///{database}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"attributes.start_time >= {start_ms}")
    return [epoch for run in runs for epoch in _epochs_of(client, run.info.run_id)]


def _epochs_of(client: MlflowClient, run_id: str) -> list[TrackedEpoch]:
    seconds = client.get_metric_history(run_id, "train/seconds")
    shares = client.get_metric_history(run_id, "train/load_share")
    return [
        TrackedEpoch(second.value, share.value, second.timestamp)
        for second, share in zip(seconds, shares, strict=True)
    ]


def _tell(
    plan: Plan, clips: int, rows: Sequence[FramesRow], trainings: dict[Way, list[Training]]
) -> Iterator[str]:
    """What a reader should know: how many clips there was room for, and the rounds."""
    size = f"{plan.size_px} px"
    disk_gb = clips * lecture_bytes(rows, plan) / GIGABYTE
    yield f"{size}: {clips} clips in batches of {plan.batch_size}; lecture's files {disk_gb:.1f} GB"
    if clips < plan.clips:
        yield f"{size}: no room, or too few clips, for the {plan.clips} that were planned"
    for way, found in trainings.items():
        speeds = ", ".join(f"{training.clips_per_s:.2f}" for training in found)
        yield f"{size}: {way}, clips/s of each round: {speeds}"
