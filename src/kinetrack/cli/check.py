"""`kinetrack check`: find what is wrong before DVC removes the outputs of a stage."""

import re
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kinetrack.cli.presets import find_preset
from kinetrack.data.clips import Clip, choose_classes, list_clips
from kinetrack.data.motion import MOTIONS
from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.video import VideoError, open_video
from kinetrack.errors import InputError
from kinetrack.learning.device import choose_device
from kinetrack.learning.models import build_model
from kinetrack.parallel import count_workers, map_clips
from kinetrack.params import PARAMS_FILE, load_params, parse_section
from kinetrack.stages.evaluate import EvaluateParams
from kinetrack.stages.frames import FramesParams
from kinetrack.stages.sample import SampleParams
from kinetrack.stages.split import SplitParams
from kinetrack.stages.train import ModelParams, TrainParams
from kinetrack.tracking.artifacts import find_root
from kinetrack.tracking.store import check_database, database_path, named_tracking_uri


class AllParams(NamedTuple):
    """The whole of `params.yaml`."""

    dataset: str
    sample: SampleParams
    frames: FramesParams
    split: SplitParams
    pack: ClipGeometry
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams


def check_project(root: Path) -> str:
    """Check params and data set; return one line on them.

    Raises:
        InputError: the first thing that a stage would stumble over.
    """
    params = read_params(root / PARAMS_FILE)
    _check_contradictions(params)
    _check_machine()
    kind = find_preset(root)
    origin = f"preset {kind}" if kind else "edited"
    return f"check: params.yaml is fine ({origin}); {_check_dataset(params, root)}"


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
    if "val" in params.train.watch and params.split.val_groups == 0:
        raise InputError(
            PARAMS_FILE,
            "train.watch names val, but split.val_groups is 0",
            remedy="take val out of train.watch, or raise split.val_groups",
        )
    with torch.device("meta"):  # nothing is allocated; a window too small for the network raises
        build_model(
            params.model.name,
            num_classes=2,
            num_frames=params.pack.num_frames,
            size_px=params.pack.size_px,
        )


def _check_machine() -> None:
    choose_device()
    count_workers()
    if named_tracking_uri() is None:
        check_database(database_path(find_root()))


def _check_dataset(params: AllParams, root: Path) -> str:
    if params.dataset == "sample":
        _check_sample(params)
        return "data set sample is generated"
    folder = Path("data/videos") / params.dataset
    if not (root / folder).exists() and (root / f"{folder}.dvc").exists():
        raise InputError(folder, "is not here", remedy=f"dvc pull {folder}.dvc")
    clips = list_clips(
        folder, classes=params.frames.classes, group_pattern=params.frames.group_pattern
    )
    labels = {clip.label for clip in clips}
    _check_labels(labels, folder)
    _check_groups(folder, _most_groups(clips), params.split.train_groups)
    _check_headers(params, clips)
    return f"data set {params.dataset}: {len(clips)} clips of {len(labels)} classes"


def _check_labels(labels: Collection[str], place: Path) -> None:
    if len(labels) < 2:
        raise InputError(place, "gives one class only", expected="two or more to tell apart")


def _check_sample(params: AllParams) -> None:
    place = Path("params.yaml: data set sample")
    labels = choose_classes(sorted(MOTIONS), classes=params.frames.classes, folder=place)
    _check_labels(labels, place)
    if re.search(params.frames.group_pattern, "v_Grow_g01_c01") is None:
        raise InputError(place, "frames.group_pattern finds no group", found="v_Grow_g01_c01")
    _check_groups("params.yaml: sample.groups", params.sample.groups, params.split.train_groups)
    shortest = params.sample.num_frames
    if params.pack.short_clips == "fail" and shortest < params.pack.num_frames:
        raise _too_short(Path("params.yaml: sample.num_frames"), shortest, params)


def _most_groups(clips: list[Clip]) -> int:
    groups = Counter(label for label, _ in {(clip.label, clip.group) for clip in clips})
    return max(groups.values())


def _check_groups(place: Path | str, groups: int, train_groups: int) -> None:
    if groups <= train_groups:
        raise InputError(
            place,
            "leaves no group for the test",
            found=f"at most {groups} groups in a class",
            expected=f"more than split.train_groups {train_groups}",
            remedy="lower split.train_groups",
        )


def _check_headers(params: AllParams, clips: list[Clip]) -> None:
    """Open every file, decode none: what a header can tell costs milliseconds."""
    problems = map_clips(partial(_header_problem, params=params), clips, description="check")
    for problem in problems:
        if problem is not None:
            raise problem


def _header_problem(clip: Clip, *, params: AllParams) -> InputError | None:
    try:
        with open_video(clip.path) as reader:
            promised = reader.header.promised_frames
    except VideoError as error:
        remedy = "remove or replace it, or set frames.on_broken: skip"
        is_fatal = params.frames.on_broken == "fail"
        return InputError(clip.path, str(error), remedy=remedy) if is_fatal else None
    if params.pack.short_clips == "fail" and 0 < promised < params.pack.num_frames:
        return _too_short(clip.path, promised, params)
    return None


def _too_short(path: Path, num_frames: int, params: AllParams) -> InputError:
    return InputError(
        path,
        "is shorter than the window",
        found=f"{num_frames} frames",
        expected=f"pack.num_frames {params.pack.num_frames}",
        remedy="lower pack.num_frames, or set pack.short_clips: stretch",
    )
