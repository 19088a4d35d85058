"""The built-in data set `sample`: drawn videos in which only the motion tells the class.

An object floats on a textured ground. Its pose has four coordinates: place across, place down,
turn and size, each of them periodic and each uniformly distributed in every frame of every class.
A clip's class is the coordinate that changes and the direction in which it does. It follows that

- one frame is worth nothing: its pose has the same distribution in all classes;
- the frames without their order do not tell a class from its opposite: the opposite is the same
  film run backwards. Coding must not undo that, so every frame is coded by itself (no motion
  vectors, no residues that trail behind an edge) at one fixed quality.

Looks (colours, shape, ground, speed, length) belong to the group, as a person and a place do in
UCF101, and are shared by all classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from kinetrack.data.encoding import encode_clip
from kinetrack.files import atomic_file
from kinetrack.parallel import map_clips

WIDTH_PX, HEIGHT_PX = 96, 72

# The picture repeats after one frame height in both directions. So the centre square, which is
# what the pipeline cuts out, holds one whole object, perhaps in pieces, wherever it is.
PERIOD_PX = HEIGHT_PX

# Radii in periods. Twice the largest stays below 1: an object never touches its own repetition.
SMALLEST_RADIUS, LARGEST_RADIUS = 0.2, 0.46

ACROSS, DOWN, TURN, SIZE = range(4)

# Which coordinate of the pose changes, and whether it rises or falls. On the screen, where y
# points down, a rising angle turns clockwise.
MOTIONS = {
    "Grow": (SIZE, +1),
    "MoveLeft": (ACROSS, -1),
    "MoveRight": (ACROSS, +1),
    "Shrink": (SIZE, -1),
    "TurnAnticlockwise": (TURN, -1),
    "TurnClockwise": (TURN, +1),
}

OPPOSITES = {
    label: other
    for label, (axis, direction) in MOTIONS.items()
    for other, motion in MOTIONS.items()
    if motion == (axis, -direction)
}


class ClipKey(NamedTuple):
    """One clip of the data set; `group` and `number` count from 1 as in UCF101."""

    label: str
    group: int
    number: int

    @property
    def name(self) -> str:
        """Name without extension, `v_<Class>_gNN_cNN`."""
        return f"v_{self.label}_g{self.group:02}_c{self.number:02}"


class Defect(NamedTuple):
    """Damage done on purpose to one clip.

    `gaps` are intervals [start, end) of frames that are left out while the clock runs on;
    `kept_fraction` is the share of the file's bytes that is written.
    """

    reason: str
    gaps: tuple[tuple[int, int], ...] = ()
    kept_fraction: float = 1.0


PLANTED_DEFECTS = {
    "v_Grow_g11_c01": Defect("a camera that stalled twice", gaps=((6, 9), (17, 21))),
    "v_MoveLeft_g19_c02": Defect("a download that was cut off", kept_fraction=0.6),
    "v_TurnClockwise_g04_c02": Defect("frames lost on the way", gaps=((12, 17),)),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What all clips of a group share, whatever their class.

    Colours are RGB in [0, 1], two for the object and two for the ground, and blend along waves.
    Object waves are in turns a radius, ground waves in whole turns a period: (waves, 2).
    """

    object_colours: NDArray[np.float64]
    ground_colours: NDArray[np.float64]
    object_waves: NDArray[np.float64]
    ground_waves: NDArray[np.float64]
    lobes: int
    lobe_depth: float
    cycles_per_frame: float
    extra_frames: int


def write_motion_clips(
    folder: Path, *, seed: int, groups: int, clips_per_group: int, num_frames: int
) -> list[Path]:
    """Write `<folder>/<Class>/v_<Class>_gNN_cNN.avi` for every class, group and number.

    A clip has `num_frames` to `num_frames + 7` frames, the same within a group. Each clip draws
    from a generator of its own, so it does not change when groups or clips are added. The clips
    named in `PLANTED_DEFECTS` are damaged. Same arguments, same bytes.
    """
    keys = list_keys(sorted(MOTIONS), groups=groups, clips_per_group=clips_per_group)
    write = partial(_write_clip, folder=folder, seed=seed, num_frames=num_frames)
    return map_clips(write, keys, description="drawing clips")


def list_keys(labels: Sequence[str], *, groups: int, clips_per_group: int) -> list[ClipKey]:
    """The clips of these classes, before they are drawn."""
    return [
        ClipKey(label, group, number)
        for label in labels
        for group in range(1, groups + 1)
        for number in range(1, clips_per_group + 1)
    ]


def _write_clip(key: ClipKey, *, folder: Path, seed: int, num_frames: int) -> Path:
    frames = draw_sample_clip(key, seed=seed, num_frames=num_frames)
    defect = PLANTED_DEFECTS.get(key.name, Defect("none"))
    video = encode_clip(frames, gaps=defect.gaps)
    path = folder / key.label / f"{key.name}.avi"
    with atomic_file(path) as file:
        file.write(video[: int(len(video) * defect.kept_fraction)])
    return path


def draw_sample_clip(key: ClipKey, *, seed: int, num_frames: int) -> NDArray[np.uint8]:
    """Draw one clip of the data set as (T, H, W, 3), before coding and without its defect.

    The look comes from (seed, group) and the poses from (seed, group, number, class): opposite
    classes share a group's look and speed, but no two clips are each other's reversal.
    """
    look = draw_look(np.random.default_rng(SeedSequence(seed, spawn_key=(key.group,))))
    motion = sorted(MOTIONS).index(key.label)
    sequence = SeedSequence(seed, spawn_key=(key.group, key.number, motion))
    return draw_clip(
        key.label,
        look=look,
        num_frames=num_frames + look.extra_frames,
        generator=np.random.default_rng(sequence),
    )


def draw_look(generator: Generator) -> Look:
    """Draw a group's look; object and ground always differ in brightness, either may be darker."""
    dark = generator.uniform(0.05, 0.4, size=(2, 3))
    bright = generator.uniform(0.6, 0.95, size=(2, 3))
    object_is_dark = generator.random() < 0.5
    return Look(
        object_colours=dark if object_is_dark else bright,
        ground_colours=bright if object_is_dark else dark,
        object_waves=generator.uniform(-0.7, 0.7, size=(2, 2)),
        ground_waves=generator.integers(-3, 4, size=(3, 2)).astype(np.float64),
        lobes=int(generator.integers(2, 4)),
        lobe_depth=generator.uniform(0.3, 0.45),
        cycles_per_frame=generator.uniform(0.02, 0.035),
        extra_frames=int(generator.integers(0, 8)),
    )


def draw_clip(
    label: str, *, look: Look, num_frames: int, generator: Generator
) -> NDArray[np.uint8]:
    """Draw a clip of the class `label` as RGB frames (T, H, W, 3).

    From generators in the same state, a class and its opposite give each other's reversal.
    """
    poses = draw_poses(
        label,
        cycles_per_frame=look.cycles_per_frame,
        num_frames=num_frames,
        generator=generator,
    )
    ground = _paint_ground(look, shift=generator.random(2))
    return np.stack([_paint_frame(pose, look=look, ground=ground) for pose in poses])


def draw_poses(
    label: str, *, cycles_per_frame: float, num_frames: int, generator: Generator
) -> NDArray[np.float64]:
    """Draw a clip's poses (T, 4) in cycles [0, 1): place across, place down, turn, size.

    The start is uniform and every coordinate wraps round, so each frame's pose is uniform too.
    """
    axis, direction = MOTIONS[label]
    start = generator.random(4)
    poses = np.tile(start, (num_frames, 1))
    poses[:, axis] = (start[axis] + cycles_per_frame * np.arange(num_frames)) % 1.0
    return poses[::direction]


def _paint_ground(look: Look, *, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX] / PERIOD_PX
    return _blend(x + shift[0], y + shift[1], waves=look.ground_waves, colours=look.ground_colours)


def _paint_frame(
    pose: NDArray[np.float64], *, look: Look, ground: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Lay the object over the ground (H, W, 3), with edges one pixel soft."""
    across, down, turn, size = pose
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX] / PERIOD_PX
    offset = _wrap(x - across) + 1j * _wrap(y - down)  # (H, W), in periods
    radius = SMALLEST_RADIUS * (LARGEST_RADIUS / SMALLEST_RADIUS) ** size
    near = np.abs(offset) < radius + 1 / PERIOD_PX  # the object and its soft edge lie in here
    local = offset[near] * np.exp(-2j * np.pi * turn) / radius  # in radii, turned with it
    inside_px = (_outline(local, look) - np.abs(local)) * radius * PERIOD_PX
    cover = np.clip(inside_px + 0.5, 0.0, 1.0)[:, None]
    colours = _blend(local.real, local.imag, waves=look.object_waves, colours=look.object_colours)
    frame = ground.copy()
    frame[near] += cover * (colours - frame[near])
    return np.rint(frame * 255).astype(np.uint8)


def _wrap(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest repetition: distances in periods, brought to [-0.5, 0.5)."""
    return (distance + 0.5) % 1.0 - 0.5


def _outline(local: NDArray[np.complex128], look: Look) -> NDArray[np.float64]:
    """Distance from the object's centre to its edge in each pixel's direction, at most 1."""
    lobes = np.cos(look.lobes * np.angle(local))
    return 1.0 - look.lobe_depth * (1.0 - lobes)


def _blend(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    waves: NDArray[np.float64],
    colours: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mix two colours by the mean of plane waves; the result is (..., 3)."""
    heights = np.stack([np.cos(2 * np.pi * (fx * x + fy * y)) for fx, fy in waves])
    share = 0.5 + 0.5 * heights.mean(axis=0)[..., None]
    mixed: NDArray[np.float64] = colours[0] + share * (colours[1] - colours[0])
    return mixed
