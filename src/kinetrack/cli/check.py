"""`kinetrack check`: find what is wrong before DVC removes the outputs of a stage."""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kinetrack.cli.presets import find_preset
from kinetrack.data.clips import Clip, choose_classes, list_clips
from kinetrack.data.containers import VideoProbe
from kinetrack.data.index import SIDES, Side
from kinetrack.data.motion import MOTIONS, ClipKey, list_keys
from kinetrack.data.probing import try_probe
from kinetrack.data.sampling import (
    SHORT_CLIP_REMEDY,
    ClipGeometry,
    is_short,
    needed_frames,
)
from kinetrack.errors import InputError
from kinetrack.learning.augment import AugmentParams
from kinetrack.learning.device import choose_device, count_loaders
from kinetrack.learning.inputs import ClipInput
from kinetrack.learning.mirroring import mirror_classes
from kinetrack.learning.models import build_model
from kinetrack.learning.processes import wanted_processes
from kinetrack.parallel import count_workers, map_clips
from kinetrack.params import PARAMS_FILE, load_params, parse_section
from kinetrack.splitting.coverage import find_absent
from kinetrack.splitting.strategies import UCF101_RULE, GroupedClip, Sides, is_by_ucf101_rule
from kinetrack.stages.evaluate import EvaluateParams, check_views
from kinetrack.stages.frames import FramesParams
from kinetrack.stages.sample import SampleParams
from kinetrack.stages.split import SplitParams, plan_split
from kinetrack.stages.train_params import ModelParams, TrainParams
from kinetrack.stages.train_start import check_start
from kinetrack.tracking.artifacts import find_root
from kinetrack.tracking.database import check_database, database_path
from kinetrack.tracking.settings import named_tracking_uri

_MODEL = Path("data/model")


class AllParams(NamedTuple):
    """The whole of `params.yaml`."""

    dataset: str
    sample: SampleParams
    frames: FramesParams
    split: SplitParams
    pack: ClipGeometry
    input: ClipInput
    augment: AugmentParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams


class Checked(NamedTuple):
    """Params and a data set in which nothing is wrong, and what a person may not have meant."""

    dataset: str
    num_clips: int | None = None
    """None where they are generated."""
    num_classes: int | None = None
    sides: dict[Side, int] | None = None
    """Clips by side, before any is dropped; None where they are generated."""
    notes: tuple[str, ...] = ()
    preset: str | None = None
    """None where params.yaml was edited."""

    def describe(self) -> str:
        """One line, and one for each note."""
        origin = f"preset {self.preset}" if self.preset else "edited"
        held = "is generated"
        if self.num_clips is not None:
            sides = (f"{number} {side}" for side, number in (self.sides or {}).items() if number)
            held = f"{self.num_clips} clips of {self.num_classes} classes; {', '.join(sides)}"
        told = f"data set {self.dataset}{' ' if self.num_clips is None else ': '}{held}"
        lines = [f"check: params.yaml is fine ({origin}); {told}"]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def check_project(root: Path) -> Checked:
    """Check params and data set.

    Raises:
        InputError: the first thing that a stage would stumble over.
    """
    params = read_params(root / PARAMS_FILE)
    _check_contradictions(params)
    _check_machine()
    preset = find_preset(root)
    return _check_dataset(params, root)._replace(preset=preset)


def read_params(path: Path) -> AllParams:
    """Read every section of a params file.

    Raises:
        InputError: the first mistake, in the order of the pipeline.
    """
    values = load_params(path)
    kinds = {name: kind for name, kind in AllParams.__annotations__.items() if name != "dataset"}
    sections: dict[str, Any] = {
        name: parse_section(kind, name, values, path) for name, kind in kinds.items()
    }
    return AllParams(dataset=values["dataset"], **sections)


def _check_contradictions(params: AllParams) -> None:
    with torch.device("meta"):  # nothing is allocated; a window too small for the network raises
        build_model(
            params.model.name,
            num_classes=2,
            num_frames=params.pack.num_frames,
            size_px=params.pack.size_px,
        )
    check_views(params.evaluate, params.pack)  # else it is told when the training is over
    if params.train.init_from and Path(params.train.init_from).resolve() == _MODEL.resolve():
        raise InputError(
            params.train.init_from,
            "is what the stage train writes: DVC removes it before",
            remedy="copy it elsewhere, or name its run: train.init_from: run:ID",
        )
    check_start(
        params.model.name,
        weights=params.model.weights,
        weights_sha256=params.model.weights_sha256,
        init_from=params.train.init_from,
    )


def _check_machine() -> None:
    count_loaders(choose_device())
    wanted_processes()
    count_workers()
    if named_tracking_uri() is None:
        check_database(database_path(find_root()))


def _check_dataset(params: AllParams, root: Path) -> Checked:
    if params.dataset == "sample":
        sides = _check_sample(params)
        mirrored = _describe_mirrored(params, {clip.label for clip in sides})
        return Checked(params.dataset, notes=(*_describe_absent(sides), *mirrored))
    folder = Path("data/videos") / params.dataset
    if not (root / folder).exists() and (root / f"{folder}.dvc").exists():
        raise InputError(folder, "is not here", remedy=f"dvc pull {folder}.dvc")
    clips = list_clips(
        folder, classes=params.frames.classes, group_pattern=params.frames.group_pattern
    )
    labels = {clip.label for clip in clips}
    _check_labels(labels, folder)
    grouped = [GroupedClip(clip.label, clip.name, clip.group, clip.official) for clip in clips]
    sides = _check_split(params, grouped, folder)
    short = _check_headers(params, clips)
    notes = [*_describe_groups(params, grouped), *_describe_absent(sides)]
    notes += _describe_mirrored(params, labels)
    notes += _describe_short(short, params.pack, num_clips=len(clips))
    counts = Counter(sides.values())
    told = {side: counts[side] for side in SIDES}
    return Checked(params.dataset, len(clips), len(labels), told, tuple(notes))


def _describe_groups(params: AllParams, clips: Sequence[GroupedClip]) -> list[str]:
    """What a person may not have meant."""
    notes = []
    if len({clip.group for clip in clips}) == len(clips):
        notes.append("every clip is a group of its own: figures may flatter")
    if params.split.strategy == "official" and is_by_ucf101_rule(clips):
        notes.append(UCF101_RULE)
    return notes


def _check_labels(labels: Collection[str], place: Path) -> None:
    if len(labels) < 2:
        raise InputError(
            place,
            "gives one class only",
            expected="two or more to tell apart",
            remedy="raise frames.classes, or give each class a folder of its own"
            " (import: --label-from parent)",
        )


def _check_split(params: AllParams, clips: Sequence[GroupedClip], place: Path | str) -> Sides:
    sides = plan_split(params.split, clips, place=place)
    if "val" in params.train.watch and "val" not in sides.values():
        key = "val_groups" if params.split.strategy == "first_groups" else "val_share"
        raise InputError(
            PARAMS_FILE,
            f"train.watch names val, but split.{key} is 0",
            remedy=f"take val out of train.watch, or raise split.{key}",
        )
    return sides


def _describe_absent(sides: Sides) -> list[str]:
    return [f"{side} has no clip of {label}" for side, label in find_absent(sides)]


def _describe_mirrored(params: AllParams, labels: Collection[str]) -> list[str]:
    names = sorted(labels)
    pairs = enumerate(mirror_classes(names))
    swapped = [f"{names[one]} and {names[other]}" for one, other in pairs if one < other]
    if params.augment.flip == 0 or not swapped:
        return []
    return [f"augment.flip: in a mirror these change places: {', '.join(swapped)}"]


def _check_sample(params: AllParams) -> Sides:
    place = Path("params.yaml: data set sample")
    labels = choose_classes(sorted(MOTIONS), classes=params.frames.classes, folder=place)
    _check_labels(labels, place)
    keys = list_keys(
        labels, groups=params.sample.groups, clips_per_group=params.sample.clips_per_group
    )
    clips = [_group_sample(key, params, place) for key in keys]
    sides = _check_split(params, clips, place)
    shortest = params.sample.num_frames
    if params.pack.short_clips == "fail" and is_short(params.pack, shortest):
        raise _too_short(Path("params.yaml: sample.num_frames"), shortest, params.pack)
    return sides


def _group_sample(clip: ClipKey, params: AllParams, place: Path) -> GroupedClip:
    """As `list_clips` will see the clip once it is there."""
    group, pattern = f"{clip.label}/{clip.name}", params.frames.group_pattern
    if pattern is not None:
        match = re.search(pattern, clip.name)
        if match is None or not match.group(1):
            raise InputError(place, "frames.group_pattern finds no group", found=clip.name)
        group = match.group(1)
    return GroupedClip(clip.label, clip.name, group)


class _ShortClip(NamedTuple):
    path: Path
    num_frames: int


def _check_headers(params: AllParams, clips: Sequence[Clip]) -> list[_ShortClip]:
    """Open every file and decode its first frame, no more, so that it takes little time.

    Returns:
        The clips whose headers promise less than the window.
    """
    paths = sorted({clip.path for clip in clips})
    probe = partial(try_probe, stall_s=params.frames.max_stall_s)
    absolute = [path.absolute() for path in paths]  # for workers in other folders
    probes = dict(zip(paths, map_clips(probe, absolute, description="check"), strict=True))
    short = []
    for clip in clips:
        probed = probes[clip.path]
        if isinstance(probed, VideoProbe):
            promised = _count_promised(clip, probed)
            if promised and is_short(params.pack, promised):
                short.append(_ShortClip(clip.path, promised))
        elif params.frames.on_broken == "fail":
            remedy = "remove or replace it, or set frames.on_broken: skip"
            raise InputError(clip.path, probed, remedy=remedy)
    return short


def _count_promised(clip: Clip, probe: VideoProbe) -> int:
    """Frames by the header and the segment's own end; 0 where neither tells."""
    promised = probe.promised_frames
    if clip.end_s is not None and probe.fps:
        in_segment = math.ceil((clip.end_s - (clip.start_s or 0)) * probe.fps)
        promised = min(promised, in_segment) if promised else in_segment
    return promised


def _describe_short(
    short: Sequence[_ShortClip], geometry: ClipGeometry, *, num_clips: int
) -> list[str]:
    if not short or geometry.short_clips in ("stretch", "loop"):
        return []
    if geometry.short_clips == "fail" or len(short) == num_clips:
        raise _too_short(*short[0], geometry)
    return [f"{len(short)} of {num_clips} clips are shorter than the window, will be dropped"]


def _too_short(path: Path, num_frames: int, geometry: ClipGeometry) -> InputError:
    return InputError(
        path,
        "is shorter than the window",
        found=f"{num_frames} frames",
        expected=f"{needed_frames(geometry)}, by section pack",
        remedy=SHORT_CLIP_REMEDY,
    )
