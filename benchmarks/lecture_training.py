"""The lecture's training loop, as a student would write it: plain PyTorch, one clip after another.

It is what Kinetrack is compared with, and shares no code with it. A clip is a float32 tensor of all
its frames on the disk, and is loaded whole for each look at 32 of them. It runs by itself:

    python -m benchmarks.lecture_training TENSORS --epochs 1 --batch-size 32 --threads 2

TENSORS holds `train/<Class>/<clip>.pt`, and with `--score` `test/<Class>/<clip>.pt`. The last line
is JSON: the speed of all steps but the first one, in which a program warms up.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

NUM_FRAMES = 32
LEARNING_RATE = 1e-4


class LectureClips(Dataset[tuple[Tensor, int]]):
    """The clips of one side, `<Class>/<clip>.pt`; the folder is the label."""

    def __init__(self, side: Path) -> None:
        self._paths = sorted(side.glob("*/*.pt"))
        self.labels = sorted({path.parent.name for path in self._paths})

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        path = self._paths[place]
        clip = torch.load(path, weights_only=True)  # (3, T, H, W)
        return pick_frames(clip), self.labels.index(path.parent.name)


def pick_frames(clip: Tensor) -> Tensor:
    """Take 32 frames of a clip (3, T, H, W), by the lecture's rule; shorter clips cannot be had."""
    step = clip.shape[1] // NUM_FRAMES
    return clip[:, torch.arange(0, step * NUM_FRAMES, step)]


def build_network(*, num_classes: int, size_px: int) -> nn.Sequential:
    """Build the lecture's network: clips (N, 3, 32, H, W) in, logarithms of probabilities out."""
    layers = nn.Sequential(
        nn.Conv3d(3, 16, 5),
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        nn.Conv3d(16, 32, 3),
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        nn.Conv3d(32, 32, 3),
        nn.ReLU(),
        nn.AvgPool3d(4),
        nn.Flatten(),
    )
    side = (((size_px - 4) // 2 - 2) // 2 - 2) // 4
    return layers.extend([nn.Linear(32 * side * side, num_classes), nn.LogSoftmax(dim=1)])


class Step(NamedTuple):
    """One step of the optimiser: of its seconds, `load_s` went into loading the clips."""

    clips: int
    seconds: float
    load_s: float


def train_one_epoch(
    network: nn.Module, loader: DataLoader[tuple[Tensor, int]], optimiser: torch.optim.Optimizer
) -> list[Step]:
    """Train on all clips once."""
    network.train()
    steps = []
    start_s = time.perf_counter()
    for clips, targets in loader:
        loaded_s = time.perf_counter()
        optimiser.zero_grad()
        loss = F.nll_loss(network(clips), targets)
        torch.autograd.backward(loss)
        optimiser.step()
        end_s = time.perf_counter()
        steps.append(Step(len(targets), end_s - start_s, loaded_s - start_s))
        start_s = end_s
    return steps


@torch.no_grad()
def score(network: nn.Module, loader: DataLoader[tuple[Tensor, int]]) -> float:
    """Share of right answers on all clips."""
    network.eval()
    right = 0
    for clips, targets in loader:
        right += int((network(clips).argmax(dim=1) == targets).sum())
    return right / len(loader.dataset)  # type: ignore[arg-type]


def train(
    tensors: Path, *, epochs: int, batch_size: int, size_px: int, scores_test: bool
) -> list[Step]:
    """Train on `<tensors>/train`, and print a line an epoch."""
    clips = LectureClips(tensors / "train")
    loader = DataLoader(clips, batch_size=batch_size, shuffle=True)
    network = build_network(num_classes=len(clips.labels), size_px=size_px)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps: list[Step] = []
    for epoch in range(1, epochs + 1):
        found = train_one_epoch(network, loader, optimiser)
        line = f"epoch {epoch}: {_describe(found)}"
        if scores_test:
            test = DataLoader(LectureClips(tensors / "test"), batch_size=batch_size)
            line += f"; test accuracy {score(network, test):.4f}"
        sys.stdout.write(f"{line}\n")
        steps += found
    return steps


def _describe(steps: Sequence[Step]) -> str:
    seconds, clips = sum(step.seconds for step in steps), sum(step.clips for step in steps)
    return f"{seconds:.1f} s, {clips / seconds:.2f} clips/s"


def summarise(steps: Sequence[Step]) -> dict[str, float]:
    """Sums over all steps but the first, which is told apart; that one alone if there is no other.

    Seconds are those of training, `load_s` of loading within them.
    """
    steady = steps[1:] or steps
    seconds, clips = sum(step.seconds for step in steady), sum(step.clips for step in steady)
    return {
        "clips": clips,
        "seconds": seconds,
        "load_s": sum(step.load_s for step in steady),
        "clips_per_s": clips / seconds,
        "first_step_s": steps[0].seconds,
    }


def main() -> None:
    """Train on the command line."""
    parser = argparse.ArgumentParser(description="The lecture's training loop.")
    parser.add_argument("tensors", type=Path, help="folder with train/<Class>/<clip>.pt")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size-px", type=int, default=224, help="side of the frames")
    parser.add_argument("--score", action="store_true", help="score test/ after each epoch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps = train(
        arguments.tensors,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        size_px=arguments.size_px,
        scores_test=arguments.score,
    )
    sys.stdout.write(f"{json.dumps(summarise(steps))}\n")


if __name__ == "__main__":
    main()
