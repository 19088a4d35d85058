"""What each of Kinetrack's steps towards faster training brings, one on top of the other.

The lecture's network at its batch of 32, on clips of chance that are in memory already: nothing is
loaded. Each measurement is a process of its own, so that none inherits another's heap. One alone:

    python -m benchmarks.training_steps --with heap pool_first --size-px 224
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.figures import GIGABYTE, Figure, Findings
from benchmarks.lecture_training import LEARNING_RATE, NUM_FRAMES, build_network
from benchmarks.measure import measure
from benchmarks.scratch import ROOT
from kinetrack.learning.memory import reuse_heap
from kinetrack.learning.models.lecture_3dcnn import Lecture3dCnn

BATCH_SIZE, MICRO_BATCH = 32, 4  # as in the preset
CLASSES = 5
TIMED = 2  # batches, after one in which the process warms up

Technique = Literal["heap", "pool_first", "channels_last", "micro_batches", "bf16", "compile"]
TECHNIQUES: tuple[Technique, ...] = get_args(Technique)
TITLES = {
    "plain": "lecture's loop",
    "heap": "+ heap kept, not mapped anew",
    "pool_first": "+ max-pooling before ReLU",
    "channels_last": "+ channels last in memory",
    "micro_batches": f"+ micro-batches of {MICRO_BATCH}",
    "bf16": "+ bf16 autocast",
    "compile": "+ torch.compile",
}


class Timing(NamedTuple):
    """What a training with some techniques reached; the last one is its name."""

    name: str
    clips_per_s: float
    peak_bytes: int


def run(folder: Path, *, size_px: int = 224, batch_size: int = BATCH_SIZE) -> Findings:
    """Time the lecture's loop, then with each technique added to those before."""
    folder.mkdir(parents=True)
    names = [name for name in TECHNIQUES if name != "compile" or _has_compiler()]
    timings = [
        measure_alone(names[:count], folder, size_px=size_px, batch_size=batch_size)
        for count in range(len(names) + 1)
    ]
    notes = [f"Clips of {size_px} px in batches of {batch_size}, nothing is loaded."]
    if not _has_compiler():
        notes.append("No C++ compiler here: torch.compile was not tried.")
    return Findings([], list(_tell(timings)), notes=notes)


def _has_compiler() -> bool:
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def measure_alone(
    techniques: Sequence[Technique], folder: Path, *, size_px: int, batch_size: int
) -> Timing:
    """Time them in a process of its own."""
    sizes = ["--size-px", str(size_px), "--batch-size", str(batch_size)]
    arguments = ["--with", *techniques, *sizes]
    command = [sys.executable, "-m", "benchmarks.training_steps", *arguments]
    # What torch.compile compiles is compiled anew, and goes with the folder.
    environ = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    cost = measure(command, folder=ROOT, environ=environ)
    seconds = float(cost.output.split()[-1])
    return Timing(techniques[-1] if techniques else "plain", batch_size / seconds, cost.peak_bytes)


def _tell(timings: Sequence[Timing]) -> Iterator[Figure]:
    before = timings[0]
    for timing in timings:
        key, title = f"train_steps.{timing.name}", TITLES[timing.name]
        yield Figure(f"{key}.clips_per_s", f"{title}: clips/s", timing.clips_per_s)
        yield Figure(f"{key}.gain", "... / without it", timing.clips_per_s / before.clips_per_s)
        yield Figure(f"{key}.peak_gb", "... GB of the process", timing.peak_bytes / GIGABYTE)
        before = timing


def time_batch(
    techniques: Collection[Technique], *, size_px: int, batch_size: int, threads: int
) -> float:
    """Seconds in which a batch becomes a step of the optimiser, the median of a few."""
    torch.set_num_threads(threads)
    if "heap" in techniques:
        reuse_heap()
    network = make_network(techniques, size_px=size_px)
    clips = torch.randint(256, (batch_size, 3, NUM_FRAMES, size_px, size_px), dtype=torch.uint8)
    if "channels_last" in techniques:
        network = network.to(memory_format=torch.channels_last_3d)
        clips = clips.contiguous(memory_format=torch.channels_last_3d)  # so they lie on the disk
    if "compile" in techniques:
        network.compile()
    targets = torch.randint(CLASSES, (batch_size,))
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    seconds = []
    for _ in range(1 + TIMED):
        start_s = time.perf_counter()
        take_step(network, clips, targets, optimiser, techniques)
        seconds.append(time.perf_counter() - start_s)
    return median(seconds[1:])


def make_network(techniques: Collection[Technique], *, size_px: int) -> nn.Module:
    """Build the lecture's network in its own order of layers, or in Kinetrack's."""
    if "pool_first" in techniques:
        return Lecture3dCnn(num_classes=CLASSES, num_frames=NUM_FRAMES, size_px=size_px)
    return build_network(num_classes=CLASSES, size_px=size_px)


def take_step(
    network: nn.Module,
    clips: Tensor,
    targets: Tensor,
    optimiser: torch.optim.Optimizer,
    techniques: Collection[Technique],
) -> None:
    """Take one step of the optimiser on clips uint8 (N, 3, T, H, W)."""
    size = MICRO_BATCH if "micro_batches" in techniques else len(clips)
    optimiser.zero_grad()
    for part, goals in zip(torch.split(clips, size), torch.split(targets, size), strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in techniques):
            answers = network(part.float() / 255)
        # Of the lecture's logarithms of probabilities, log-softmax makes themselves again.
        loss = F.cross_entropy(answers.float(), goals, reduction="sum") / len(clips)
        torch.autograd.backward(loss)
    optimiser.step()


def main() -> None:
    """Time one set of techniques on the command line."""
    parser = argparse.ArgumentParser(description="Seconds a batch of training.")
    parser.add_argument("--with", nargs="*", choices=TECHNIQUES, default=[], dest="techniques")
    parser.add_argument("--size-px", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    seconds = time_batch(
        arguments.techniques,
        size_px=arguments.size_px,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
    )
    sys.stdout.write(f"{seconds}\n")


if __name__ == "__main__":
    main()
