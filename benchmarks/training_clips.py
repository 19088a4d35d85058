"""The clips that both ways train on: as Kinetrack packs them, and as the lecture does.

The lecture's tensors are made of Kinetrack's frame archives, which saves decoding the videos twice:
float32, all frames of a clip in a file. Clips of less than 32 frames are left out: the lecture's
loop cannot read them.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from benchmarks.clips import copy_in, spread
from benchmarks.lecture_training import NUM_FRAMES
from benchmarks.scratch import FRAMES, SPLIT, VIDEOS, Scratch
from kinetrack.data.frame_archives import read_frames
from kinetrack.data.index import INDEX_NAME, FramesRow, Side, read_index
from kinetrack.errors import InputError
from kinetrack.splitting.splits import write_split

TEST_EVERY = 5  # so many clips, one tests
_SPARE = 1.2  # so many times the clips are decoded, as some are too short
# What the lecture's loop holds of a clip of 32 frames of 224 px: measured.
_LOOP_BYTES_AT_224_PX = 0.3e9


class Plan(NamedTuple):
    """A size to train at: pixels after the crop, of the short side before it; clips at most."""

    size_px: int
    resize_px: int
    clips: int
    batch_size: int = 32


def decode(scratch: Scratch, videos: Sequence[Path], *, clips: int) -> list[FramesRow]:
    """Run the stage `frames` on enough videos to train on some clips, and to score a fourth more.

    Returns the rows of those that the lecture's loop can read.
    """
    wanted = round(clips * TEST_EVERY / (TEST_EVERY - 1) * _SPARE)
    copy_in(spread(videos, wanted), scratch.folder / VIDEOS)
    scratch.frames()
    rows = read_index(scratch.folder / FRAMES / INDEX_NAME, FramesRow, remedy="")
    return [row for row in rows if row.num_frames >= NUM_FRAMES]


def count_clips(
    rows: Sequence[FramesRow], plan: Plan, *, disk_bytes: float, memory_bytes: float
) -> int:
    """How many clips to train on: whole batches, at most the plan's, for which there is room.

    Room for the lecture's files on the disk, and in memory beside its loop: from the disk it would
    read them anew in each epoch. One batch is taken even then.

    Raises:
        InputError: there is no room on the disk for one batch, or there are not enough clips.
    """
    each = lecture_bytes(rows, plan)
    loop_bytes = _LOOP_BYTES_AT_224_PX * (plan.size_px / 224) ** 2 * plan.batch_size
    in_memory = max(plan.batch_size, int((memory_bytes - loop_bytes) // each))
    there = len(rows) * (TEST_EVERY - 1) // TEST_EVERY
    most = min(plan.clips, there, int(disk_bytes // each), in_memory)
    if most < plan.batch_size:
        raise InputError(
            "make bench PARTS=train",
            f"finds no room or clips for one batch of {plan.batch_size} at {plan.size_px} px",
            found=f"{there} clips of 32 frames and more, {disk_bytes / 1e9:.1f} GB of disk",
            expected=f"{plan.batch_size} clips, {plan.batch_size * each / 1e9:.1f} GB",
        )
    return most // plan.batch_size * plan.batch_size


def lecture_bytes(rows: Sequence[FramesRow], plan: Plan) -> float:
    """Bytes of the lecture's tensor of a clip, in the mean."""
    num_frames = mean([row.num_frames for row in rows] or [NUM_FRAMES])
    return 4 * 3 * num_frames * plan.size_px**2


def choose_sides(rows: Sequence[FramesRow], *, clips: int) -> list[tuple[FramesRow, Side]]:
    """Put so many clips of all classes on the training side, and a fourth more on the test side."""
    chosen = spread(rows, clips * TEST_EVERY // (TEST_EVERY - 1))
    return [
        (row, "test" if number % TEST_EVERY == 0 else "train") for number, row in enumerate(chosen)
    ]


def pack(scratch: Scratch, sides: Sequence[tuple[FramesRow, Side]], plan: Plan) -> None:
    """Run the stage `tensors`."""
    scratch.set_params(pack={"size_px": plan.size_px, "resize_px": plan.resize_px})
    write_split(scratch.folder / SPLIT, sides, rule={})
    scratch.tensors()


def write_lecture_tensors(
    frames: Path, target: Path, sides: Sequence[tuple[FramesRow, Side]], plan: Plan
) -> None:
    """Write the training clips to `<target>/train/<Class>/<clip>.pt`, each of all its frames."""
    to_input = Compose([Resize(plan.resize_px), CenterCrop(plan.size_px), ToTensor()])
    for row in (row for row, side in sides if side == "train"):
        pictures = read_frames(frames / row.label / f"{row.clip}.zip", range(row.num_frames))
        path = target / "train" / row.label / f"{row.clip}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.stack([to_input(picture) for picture in pictures], dim=1), path)
