"""Whether the saliency is true: how much of an answer goes when what it rests on is covered.

python -m benchmarks.saliency data/model data/tensors/sample
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from kinetrack.data.sampling import packed_px
from kinetrack.data.tensors import load_clip, read_sides
from kinetrack.learning.packed_clips import View, cut_view
from kinetrack.using.inference import Recogniser, load_recogniser
from kinetrack.using.saliency import class_saliency

# A clip is cut into so many blocks along time, height and width; a tenth of them is covered.
_BLOCKS = (4, 6, 6)
_COVERED = 10


class Drops(NamedTuple):
    """By how much the probability of the named class falls, in the mean over the clips."""

    most_salient: float
    by_chance: float
    least_salient: float


def measure(recogniser: Recogniser, clips: list[NDArray[np.uint8]]) -> Drops:
    """Cover a tenth of the blocks of each clip (3, T, H, W) with its mean colour."""
    random = np.random.default_rng(0)
    return Drops(*np.mean([_drops(recogniser, clip, random) for clip in clips], axis=0).tolist())


def _drops(
    recogniser: Recogniser, clip: NDArray[np.uint8], random: np.random.Generator
) -> list[float]:
    before = recogniser.probabilities(clip[None])[0]
    named = int(before.argmax())
    saliency = class_saliency(recogniser.network, recogniser.card, clip, named)
    blocks = _sum_blocks(saliency)
    orders = (np.argsort(-blocks), random.permutation(len(blocks)), np.argsort(blocks))
    number = len(blocks) // _COVERED
    covered = np.stack([_cover(clip, order[:number]) for order in orders])
    drops: list[float] = (before[named] - recogniser.probabilities(covered)[:, named]).tolist()
    return drops


def _cut(shape: Sequence[int]) -> list[list[NDArray[np.int64]]]:
    """The frames, rows and columns of the blocks along each axis."""
    sizes = zip(shape, _BLOCKS, strict=True)
    return [np.array_split(np.arange(size), number) for size, number in sizes]


def _sum_blocks(saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array([saliency[np.ix_(*block)].mean() for block in product(*_cut(saliency.shape))])


def _cover(clip: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    covered, blocks = clip.copy(), list(product(*_cut(clip.shape[1:])))
    colour = clip.mean(axis=(1, 2, 3)).astype(np.uint8)[:, None, None, None]
    for place in places:
        covered[np.ix_(np.arange(3), *blocks[place])] = colour
    return covered


def main(model: Path, tensors: Path) -> None:
    """Print the drops on the test clips."""
    recogniser = load_recogniser(model)
    card, side = recogniser.card, read_sides(tensors)["test"]
    packed = (
        load_clip(side.path(row), num_frames=row.packed_frames, size_px=packed_px(card.clip))
        for row in side.rows
    )
    clips = [
        cut_view(clip.permute(1, 2, 3, 0), card.clip, View()).permute(3, 0, 1, 2).numpy()
        for clip in packed
    ]
    drops = measure(recogniser, clips)
    typer.echo(
        f"{len(clips)} clips, a tenth of each covered; probability of the named class falls by"
    )
    for name, drop in drops._asdict().items():
        typer.echo(f"  {name.replace('_', ' ')}: {drop:.3f}")


if __name__ == "__main__":
    typer.run(main)
