"""Stage `tensors`: pack the window of every clip that the split names into one uint8 tensor."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import typer

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import (
    INDEX_NAME,
    SIDES,
    FramesRow,
    Side,
    TensorsRow,
    read_index,
    write_index,
)
from kinetrack.data.packing import pack_clip
from kinetrack.data.sampling import ClipGeometry, uniform_indices
from kinetrack.data.tensors import save_tensor, tensor_path
from kinetrack.errors import InputError
from kinetrack.files import atomic_folder
from kinetrack.parallel import map_clips
from kinetrack.params import load_section
from kinetrack.splitting.splits import Split, clip_id, read_split
from kinetrack.stages.door import run


class _Job(NamedTuple):
    row: FramesRow
    side: Side


def pack_all(
    geometry: ClipGeometry, *, frames: Path, split: Path, tensors: Path
) -> list[TensorsRow]:
    """Pack every clip of the split; the folder appears whole or not at all.

    Raises:
        InputError: index or split is not usable, the split names a clip that has no frames or was
            made of other ones, an archive is damaged, or a clip is shorter than the window and
            `short_clips` is "fail".
    """
    rows = read_index(frames / INDEX_NAME, FramesRow, remedy="dvc repro frames")
    jobs = _find_jobs(rows, read_split(split), split)
    if geometry.short_clips == "fail":
        _refuse_short(jobs, geometry.num_frames, frames)
    with atomic_folder(tensors) as folder:
        pack = partial(_pack_one, geometry=geometry, frames=frames, folder=folder)
        packed = map_clips(pack, jobs, description="tensors")
        write_index(folder / INDEX_NAME, TensorsRow, packed)
    return packed


def _find_jobs(rows: list[FramesRow], split: Split, path: Path) -> list[_Job]:
    decoded = {clip_id(row): row for row in rows if row.status != "broken"}
    absent = [clip for side in SIDES for clip in split.side(side) if clip not in decoded]
    if absent:
        raise InputError(
            path, f"names clip {absent[0]} that has no frames", remedy="dvc repro -f split"
        )
    jobs = [_Job(decoded[clip], side) for side in SIDES for clip in split.side(side)]
    # Only of the frames that it was made of has somebody seen that they share nothing.
    if fingerprint_split(jobs) != split.fingerprint:
        raise InputError(
            path, "is of other frames, or was edited by hand", remedy="dvc repro -f split"
        )
    return jobs


def _refuse_short(jobs: list[_Job], num_frames: int, frames: Path) -> None:
    short = [job.row for job in jobs if job.row.num_frames < num_frames]
    if short:
        raise InputError(
            frames / short[0].label / f"{short[0].clip}.zip",
            "is shorter than the window" + (f", {len(short)} such clips" * (len(short) > 1)),
            found=f"{short[0].num_frames} frames",
            expected=f"pack.num_frames {num_frames}",
            remedy="lower pack.num_frames, or set pack.short_clips: stretch",
        )


def _pack_one(job: _Job, *, geometry: ClipGeometry, frames: Path, folder: Path) -> TensorsRow:
    row = job.row
    clip = pack_clip(
        frames / row.label / f"{row.clip}.zip",
        uniform_indices(row.num_frames, geometry.num_frames),
        resize_px=geometry.resize_px,
        size_px=geometry.size_px,
    )
    return TensorsRow(
        clip=row.clip,
        label=row.label,
        group=row.group,
        side=job.side,
        num_frames=row.num_frames,
        packed_frames=geometry.num_frames,
        is_short=row.num_frames < geometry.num_frames,
        frames_sha256=row.frames_sha256,
        archive_md5=row.archive_md5,
        tensor_md5=save_tensor(tensor_path(folder, job.side, row.label, row.clip), clip),
    )


def summarise(rows: list[TensorsRow], geometry: ClipGeometry) -> str:
    """One line on what was packed, and one for each clip that was stretched."""
    shape = f"3 x {geometry.num_frames} x {geometry.size_px} x {geometry.size_px}"
    stretched = [row for row in rows if row.is_short]
    lines = [f"tensors: {len(rows)} clips of {shape} bytes; {len(stretched)} stretched"]
    lines += [f"  stretched {row.label}/{row.clip}: {row.num_frames} frames" for row in stretched]
    return "\n".join(lines)


def main(frames: Path, split: Path, tensors: Path) -> None:
    """Pack the clips of SPLIT from the archives below FRAMES into TENSORS."""
    geometry = load_section(ClipGeometry, "pack")
    rows = pack_all(geometry, frames=frames, split=split, tensors=tensors)
    typer.echo(summarise(rows, geometry))


if __name__ == "__main__":
    run("tensors")
