"""Stage `tensors`: pack the window of every clip that the split names into one uint8 tensor."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import typer

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.incremental import Wanted, describe_work, update_folder
from kinetrack.data.index import (
    INDEX_NAME,
    SIDES,
    DroppedRow,
    FramesRow,
    Side,
    TensorsRow,
    read_index,
    tensor_path,
    write_index,
)
from kinetrack.data.sampling import (
    SHORT_CLIP_REMEDY,
    ClipGeometry,
    is_short,
    needed_frames,
    packed_indices,
    packed_px,
)
from kinetrack.data.staging import How, Obtained, Record
from kinetrack.errors import InputError
from kinetrack.files import make_folder
from kinetrack.params import load_section
from kinetrack.splitting.splits import Split, clip_id, read_split
from kinetrack.stages.door import run
from kinetrack.stages.earlier import Earlier, Reading, make_key, read_earlier
from kinetrack.versioning.recipes import Recipe

DROPPED_NAME = "dropped.csv"


class Packing(NamedTuple):
    """The index of all packed clips, how the tensor of each was come by, and what was left out."""

    rows: list[TensorsRow]
    how: list[How]
    dropped: list[DroppedRow]


class _Clip(NamedTuple):
    row: FramesRow
    side: Side


def pack_all(
    geometry: ClipGeometry,
    *,
    frames: Path,
    split: Path,
    tensors: Path,
    earlier: Earlier[TensorsRow] | None = None,
) -> Packing:
    """Pack every clip of the split; what earlier runs packed is not packed again.

    Nothing in `tensors` is touched before every tensor is there.

    Raises:
        InputError: index or split is not usable, the split names a clip that has no frames or was
            made of other ones, an archive is damaged, a clip is shorter than the window and
            `short_clips` is "fail", dropping the short ones leaves a class or side without clips,
            or there is no room.
    """
    rows = read_index(frames / INDEX_NAME, FramesRow, remedy="dvc repro frames")
    clips = _find_clips(rows, read_split(split), split)
    if geometry.short_clips == "fail":
        _refuse_short(clips, geometry, frames)
    clips, dropped = _drop_short(clips, geometry)
    earlier = earlier or Earlier.none()
    reading = read_rows(earlier.recipe)
    with update_folder(
        tensors, known=reading.learn(earlier), find_cached=earlier.find_cached
    ) as update:
        wanted = [_to_wanted(clip, frames.absolute(), earlier.recipe) for clip in clips]
        obtained = update.obtain(wanted, partial(_pack, geometry=geometry), description="tensors")
        _refuse_damaged(obtained)
        packed = [
            _to_row(clip, one.record, geometry) for clip, one in zip(clips, obtained, strict=True)
        ]
        tables = {
            DROPPED_NAME: partial(write_index, kind=DroppedRow, rows=dropped),
            INDEX_NAME: partial(write_index, kind=TensorsRow, rows=packed),
        }
        if earlier.memory:
            write_index(earlier.memory, TensorsRow, reading.merge(earlier, packed))
        update.finish(tables)
    return Packing(packed, [one.how for one in obtained], dropped)


def _find_clips(rows: Iterable[FramesRow], split: Split, path: Path) -> list[_Clip]:
    decoded = {clip_id(row): row for row in rows if row.status != "broken"}
    absent = [clip for side in SIDES for clip in split.side(side) if clip not in decoded]
    if absent:
        raise InputError(
            path, f"names clip {absent[0]} that has no frames", remedy="dvc repro -f split"
        )
    clips = [_Clip(decoded[clip], side) for side in SIDES for clip in split.side(side)]
    # Only of the frames that it was made of has somebody seen that they share nothing.
    if fingerprint_split(clips) != split.fingerprint:
        raise InputError(
            path, "is of other frames, or was edited by hand", remedy="dvc repro -f split"
        )
    return clips


def _refuse_short(clips: Sequence[_Clip], geometry: ClipGeometry, frames: Path) -> None:
    short = [clip.row for clip in clips if is_short(geometry, clip.row.num_frames)]
    if short:
        raise InputError(
            frames / short[0].label / f"{short[0].clip}.zip",
            "is shorter than the window" + (f", {len(short)} such clips" * (len(short) > 1)),
            found=f"{short[0].num_frames} frames",
            expected=f"{needed_frames(geometry)}, by section pack",
            remedy=SHORT_CLIP_REMEDY,
        )


def _drop_short(
    clips: Sequence[_Clip], geometry: ClipGeometry
) -> tuple[list[_Clip], list[DroppedRow]]:
    """Take the clips out that the policy leaves out, and say why."""
    if geometry.short_clips != "drop":
        return list(clips), []
    kept = [clip for clip in clips if not is_short(geometry, clip.row.num_frames)]
    dropped = [
        DroppedRow(
            clip=row.clip,
            label=row.label,
            side=side,
            reason=f"{row.num_frames} frames, the window needs {needed_frames(geometry)}",
        )
        for row, side in clips
        if is_short(geometry, row.num_frames)
    ]
    _refuse_emptied(dropped, kept)
    return kept, dropped


def _refuse_emptied(dropped: Iterable[DroppedRow], kept: Iterable[_Clip]) -> None:
    sides = {clip.side for clip in kept}
    trained = {clip.row.label for clip in kept if clip.side == "train"}
    for row in dropped:
        if row.side not in sides or row.label not in trained:
            emptied = f"the {row.side} side" if row.side not in sides else f"class {row.label}"
            raise InputError(
                f"{row.label}/{row.clip}",
                f"is short and would be dropped, which leaves {emptied} without"
                f" {'a' if row.side not in sides else 'a training'} clip",
                found=row.reason,
                remedy=SHORT_CLIP_REMEDY,
            )


def _refuse_damaged(obtained: Sequence[Obtained]) -> None:
    problems = [one.problem for one in obtained if one.problem]
    if problems:
        first = problems[0]
        raise InputError(
            first.path,
            first.problem + (f", {len(problems)} such clips" * (len(problems) > 1)),
            found=first.found,
            remedy=first.remedy,
        )


def _to_wanted(clip: _Clip, frames: Path, recipe: str) -> Wanted:
    """Its key has no side: a clip that changes its side is moved."""
    row = clip.row
    return Wanted(
        path=_path_of(clip.side, row.label, row.clip),
        key=make_key(recipe, row.archive_md5, row.num_frames),
        source=(frames / row.label / f"{row.clip}.zip", row.num_frames),
    )


def _path_of(side: Side, label: str, clip: str) -> str:
    return tensor_path(Path(), side, label, clip).as_posix()


def read_rows(recipe: str) -> Reading[TensorsRow]:
    """How to read a row of an index that a recipe made."""
    return Reading(
        key=lambda row: make_key(recipe, row.archive_md5, row.num_frames),
        path=lambda row: _path_of(row.side, row.label, row.clip),
        record=lambda row: Record(row.tensor_md5, {"packed_frames": row.packed_frames}),
    )


def _pack(source: tuple[Path, int], path: Path, *, geometry: ClipGeometry) -> Record:
    # Here, so that torch is loaded by the workers only, and where nothing is packed by nobody.
    from kinetrack.data.packing import pack_window
    from kinetrack.data.tensors import save_tensor

    archive, num_frames = source
    indices = packed_indices(geometry, num_frames)
    make_folder(path.parent)
    clip = pack_window(archive, indices, geometry, scratch=path.parent)
    return Record(save_tensor(path, clip), {"packed_frames": len(indices)})


def _to_row(clip: _Clip, record: Record, geometry: ClipGeometry) -> TensorsRow:
    row = clip.row
    return TensorsRow(
        clip=row.clip,
        label=row.label,
        group=row.group,
        video=row.video,
        side=clip.side,
        num_frames=row.num_frames,
        packed_frames=record.facts["packed_frames"],
        is_short=is_short(geometry, row.num_frames),
        frames_sha256=row.frames_sha256,
        archive_md5=row.archive_md5,
        tensor_md5=record.md5,
    )


def summarise(packing: Packing, geometry: ClipGeometry) -> str:
    """One line on what was packed, and one for each clip that was too short."""
    lengths = sorted({row.packed_frames for row in packing.rows})
    frames = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    short = [row for row in packing.rows if row.is_short]
    side_px = packed_px(geometry)
    policy = {"stretch": "stretched", "loop": "looped"}.get(geometry.short_clips, "short")
    lines = [
        f"tensors: {len(packing.rows)} clips of 3 x {frames} x {side_px} x {side_px} bytes;"
        f" {describe_work(packing.how, made='packed')}"
    ]
    lines += [f"  {policy} {row.label}/{row.clip}: {row.num_frames} frames" for row in short]
    lines += [f"  dropped {row.label}/{row.clip}: {row.reason}" for row in packing.dropped]
    return "\n".join(lines)


def main(frames: Path, split: Path, tensors: Path) -> None:
    """Pack the clips of SPLIT from the archives below FRAMES into TENSORS."""
    geometry = load_section(ClipGeometry, "pack")
    recipe = Recipe(
        "tensors",
        section="pack",
        settings=geometry.model_dump(),
        libraries=("numpy", "pillow", "torch"),
        root=Path.cwd(),
    )
    earlier = read_earlier(recipe, tensors, TensorsRow, read_rows(recipe.sha256))
    packing = pack_all(geometry, frames=frames, split=split, tensors=tensors, earlier=earlier)
    typer.echo(summarise(packing, geometry))


if __name__ == "__main__":
    run("tensors")
