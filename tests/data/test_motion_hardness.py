"""Only motion tells the classes of `sample`: what the preset's network cannot and can learn."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from scipy.stats import binom
from torch import Tensor

from kinetrack.data.frames import extract_frames
from kinetrack.data.motion import MOTIONS, OPPOSITES, PLANTED_DEFECTS, write_motion_clips
from kinetrack.data.packing import pack_clip
from kinetrack.data.sampling import ClipGeometry, packed_indices
from kinetrack.learning.batches import ClipBatches
from kinetrack.learning.checkpoint import to_channels_last
from kinetrack.learning.device import make_repeatable
from kinetrack.learning.fitting import Progress, fit
from kinetrack.learning.inputs import to_input
from kinetrack.learning.memory import MicroBatch
from kinetrack.learning.models import build_model
from kinetrack.learning.optimising import make_optimiser, make_scheduler
from kinetrack.learning.packed_clips import ClipKey, Example, PackedClips
from kinetrack.learning.processes import alone
from kinetrack.learning.training import Recipe

from factories import PLAIN_INPUT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("torch_settings")]

PRESET = yaml.safe_load((Path(__file__).parents[2] / "presets/sample.yaml").read_text())
LABELS = sorted(MOTIONS)
OPPOSITE = torch.tensor([LABELS.index(OPPOSITES[label]) for label in LABELS])
CPU = torch.device("cpu")


class Side(NamedTuple):
    """Clips uint8 (N, T, H, W, C) and their class indices (N,)."""

    clips: Tensor
    targets: Tensor


class Sides(NamedTuple):
    train: Side
    test: Side


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """The data set as the pipeline packs it; validation clips and damaged ones left out."""
    folder = tmp_path_factory.mktemp("sample")
    last_group, val_groups = (PRESET["split"][key] for key in ("train_groups", "val_groups"))
    videos = [
        path
        for path in write_motion_clips(folder, **PRESET["sample"])
        if path.stem not in PLANTED_DEFECTS
    ]
    train = [path for path in videos if group_of(path) <= last_group - val_groups]
    test = [path for path in videos if group_of(path) > last_group]
    return Sides(pack(train), pack(test))


def group_of(video: Path) -> int:
    return int(video.stem.split("_")[2][1:])


def pack(videos: list[Path]) -> Side:
    targets = torch.tensor([LABELS.index(video.parent.name) for video in videos])
    return Side(torch.stack([pack_video(video) for video in videos]), targets)


def pack_video(video: Path) -> Tensor:
    """Decode, write JPEG, resize, crop and sample one clip: uint8 (T, H, W, C)."""
    frames, geometry = PRESET["frames"], ClipGeometry.model_validate(PRESET["pack"])
    archive = video.with_suffix(".zip")
    report = extract_frames(
        video,
        archive,
        gaps=frames["gaps"],
        jpeg_quality=frames["jpeg_quality"],
        jpeg_subsampling=frames["jpeg_subsampling"],
    )
    clip_cthw = pack_clip(
        archive,
        packed_indices(geometry, report.num_frames),
        crop=geometry.crop,
        resize_px=geometry.resize_px,
        size_px=geometry.size_px,
    )
    return clip_cthw.permute(1, 2, 3, 0)


class Held(PackedClips):
    """Clips in memory, not on the disk."""

    def __init__(self, side: Side) -> None:
        self._held_side = side

    def __len__(self) -> int:
        return len(self._held_side.clips)

    def __getitem__(self, key: ClipKey) -> Example:
        clip, target = self._held_side.clips[key.place], self._held_side.targets[key.place]
        return Example(clip, int(target), torch.empty(0))


def train_and_test(train: Side, *tests: Side, seed: int = 0) -> list[Tensor]:
    """Train as the preset says; return the logits (N, K) of each side in `tests`."""
    params, size = PRESET["train"], PRESET["pack"]
    make_repeatable(seed=seed, threads=params["threads"])
    model = build_model(
        PRESET["model"]["name"],
        num_classes=len(LABELS),
        num_frames=size["num_frames"],
        size_px=size["size_px"],
    )
    to_channels_last(model)
    batches = ClipBatches(
        Held(train), batch_size=params["batch_size"], team=alone(CPU), shuffle_seed=seed
    )
    optimiser = make_optimiser(params["optimiser"], model, learning_rate=params["learning_rate"])
    scheduler = make_scheduler(
        optimiser, params["schedule"], epochs=params["epochs"], steps_per_epoch=len(batches)
    )
    fit(
        Progress(model, optimiser, scheduler, MicroBatch(params["micro_batch"])),
        batches,
        watch={},
        recipe=Recipe(PLAIN_INPUT),
        epochs=params["epochs"],
        seed=seed,
        keep="last",
        patience=None,
        device=CPU,
        team=alone(CPU),
        on_epoch=lambda _: None,
    )
    model.eval()
    with torch.inference_mode():
        return [
            model(to_input(side.clips.permute(0, 4, 1, 2, 3), CPU, PLAIN_INPUT)) for side in tests
        ]


def is_chance(right: Tensor, *, probability: float) -> bool:
    """Whether as many are right as in 95 % of all draws by chance alone."""
    low, high = binom.interval(0.95, len(right), probability)
    return bool(low <= right.sum() <= high)


def repeat_one_frame(side: Side, random: torch.Generator) -> Side:
    """Every clip becomes one of its frames, drawn at random, over and over."""
    places = [int(torch.randint(len(clip), (1,), generator=random)) for clip in side.clips]
    stills = [clip[place].expand_as(clip) for clip, place in zip(side.clips, places, strict=True)]
    return Side(torch.stack(stills), side.targets)


def shuffle_in_time(side: Side, random: torch.Generator) -> Side:
    """Every clip gets an order of its own."""
    orders = [torch.randperm(len(clip), generator=random) for clip in side.clips]
    shuffled = [clip[order] for clip, order in zip(side.clips, orders, strict=True)]
    return Side(torch.stack(shuffled), side.targets)


def test_one_frame_is_worth_nothing(sides: Sides):
    random = torch.Generator().manual_seed(0)
    train, test = (repeat_one_frame(side, random) for side in sides)
    (logits,) = train_and_test(train, test)
    assert is_chance(logits.argmax(dim=1) == test.targets, probability=1 / len(LABELS))


def test_frames_without_their_order_do_not_tell_a_class_from_its_opposite(sides: Sides):
    random = torch.Generator().manual_seed(0)
    train, test = (shuffle_in_time(side, random) for side in sides)
    (logits,) = train_and_test(train, test)
    own = logits.gather(1, test.targets[:, None])
    opposite = logits.gather(1, OPPOSITE[test.targets][:, None])
    assert is_chance((own > opposite)[:, 0], probability=0.5)


def test_motion_tells_the_class_and_backwards_the_opposite(sides: Sides):
    test = sides.test
    logits, reversed_logits = train_and_test(
        sides.train, test, Side(test.clips.flip(1), test.targets)
    )
    right = logits.argmax(dim=1) == test.targets
    turned = reversed_logits.argmax(dim=1) == OPPOSITE[test.targets]
    assert right.float().mean() >= 0.95
    assert turned.float().mean() >= 0.9
