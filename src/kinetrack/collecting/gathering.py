"""Putting a planned collection together: files in their places, every clip opened once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kinetrack.collecting.collections import Plan
from kinetrack.data.clips import Clip, list_clips
from kinetrack.data.containers import VideoProbe
from kinetrack.data.manifest import MANIFEST_NAME, write_manifest
from kinetrack.data.probing import try_probe
from kinetrack.errors import InputError
from kinetrack.files import copy_file
from kinetrack.parallel import map_clips, with_progress

# A first frame that takes longer is taken for one that never comes.
_STALL_S = 60


class OpenedClip(NamedTuple):
    """A clip and what opening it told: a probe, or the problem.

    `duration_s` is the clip's, which may be a segment of the video; `num_bytes` the video's.
    """

    clip: Clip
    num_bytes: int
    probe: VideoProbe | None = None
    duration_s: float = 0
    problem: str = ""


def gather(
    plan: Plan, folder: Path, *, group_pattern: str | None, may_move: bool
) -> list[OpenedClip]:
    """Put the planned videos and the manifest below an empty folder, and open every clip.

    `may_move` is for sources that are ours, as an unpacked archive. Others stay as they are, and
    the copy shares their blocks where the file system can.

    Raises:
        InputError: a name without group, or clips whose names are one on some file systems.
    """
    placements = with_progress(plan.placements, total=len(plan.placements), description="files")
    for source, place in placements:
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if may_move:
            source.replace(target)
        else:
            copy_file(source, target)
    if plan.manifest:
        write_manifest(folder / MANIFEST_NAME, plan.manifest)
    clips = list_clips(folder, classes="all", group_pattern=group_pattern)
    paths = sorted({clip.path for clip in clips})  # a long video is opened once, not for each clip
    probes = dict(
        zip(
            paths,
            map_clips(
                partial(try_probe, stall_s=_STALL_S),
                [path.absolute() for path in paths],  # for workers in other folders
                description="opening",
            ),
            strict=True,
        )
    )
    return [_describe(clip, probes[clip.path]) for clip in clips]


def _describe(clip: Clip, probed: VideoProbe | str) -> OpenedClip:
    num_bytes = clip.path.stat().st_size
    if isinstance(probed, str):
        return OpenedClip(clip, num_bytes, problem=probed)
    start_s, video_s = clip.start_s or 0, probed.duration_s
    if 0 < video_s <= start_s:
        problem = f"starts at {start_s:g} s, the video ends at {video_s:g} s"
        return OpenedClip(clip, num_bytes, probed, problem=problem)
    end_s = min(video_s, clip.end_s or video_s)
    return OpenedClip(clip, num_bytes, probed, max(end_s - start_s, 0))


def _remove_empty(place: Path, folder: Path) -> None:
    """Remove a folder that holds nothing: DVC would not keep it, and a colleague not see it."""
    while place != folder and not any(place.iterdir()):
        place.rmdir()
        place = place.parent


def leave_out(opened: Sequence[OpenedClip], folder: Path, plan: Plan) -> list[OpenedClip]:
    """Remove the clips that have a problem from the folder and its manifest; return the others.

    Raises:
        InputError: none is left.
    """
    good = [one for one in opened if not one.problem]
    if not good:
        raise InputError(folder.name, "holds no video that can be opened", found=opened[0].problem)
    kept = {one.clip.path for one in good}
    for path in {one.clip.path for one in opened} - kept:
        path.unlink()
        _remove_empty(path.parent, folder)
    if plan.manifest:
        names = {(one.clip.label, one.clip.name) for one in good}
        rows = [row for row in plan.manifest if (row.label, row.clip_name) in names]
        write_manifest(folder / MANIFEST_NAME, rows)
    return good
