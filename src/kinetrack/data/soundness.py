"""Whether indexes, archives and tensors belong together and can be read: every one is opened."""

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch

from kinetrack.data.clips import check_file
from kinetrack.data.frame_archives import frame_name, open_archive, open_picture
from kinetrack.data.index import INDEX_NAME, FramesRow, TensorsRow, read_index, tensor_path
from kinetrack.data.manifest import read_manifest
from kinetrack.data.torch_files import map_torch_file
from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.parallel import map_clips


class Flaw(NamedTuple):
    """A file that is not what it should be, and how so."""

    path: Path
    problem: str


class Opened(NamedTuple):
    """How many files were opened, and what is wrong with them or with their index."""

    num_files: int
    flaws: list[Flaw]


RowType = TypeVar("RowType", FramesRow, TensorsRow)


class _Job(NamedTuple, Generic[RowType]):
    """A file to open: what its index says of it, and its MD5 where that is known already."""

    path: Path
    row: RowType
    known_md5: str


def check_manifest(path: Path) -> list[Flaw]:
    """Check that every video that a manifest names is there."""
    try:
        rows = read_manifest(path)
    except InputError as error:
        return [as_flaw(error)]
    flaws = []
    for name in sorted({row.path for row in rows}):
        try:
            check_file(path.parent / name, root=path.parent)
        except InputError as error:
            flaws.append(Flaw(path.parent / name, f"{path.name} names it, but it {_tell(error)}"))
    return flaws


def check_frames(folder: Path, *, md5s: Mapping[Path, str]) -> Opened:
    """Open every archive of a folder of frames, compare it with the index and read every member.

    `md5s` are those of files that somebody has hashed already.
    """
    try:
        rows = read_index(folder / INDEX_NAME, FramesRow, remedy="")
    except InputError as error:
        return Opened(0, [as_flaw(error)])
    jobs = [
        _Job(path, row, md5s.get(path, ""))
        for row in rows
        if row.status != "broken"
        for path in [folder / row.label / f"{row.clip}.zip"]
    ]
    return _open_all(folder, jobs, _check_archive, suffix=".zip")


def check_tensors(folder: Path, *, md5s: Mapping[Path, str]) -> Opened:
    """Open every tensor of a folder of packed clips and compare it with the index.

    `md5s` are those of files that somebody has hashed already.
    """
    try:
        rows = read_index(folder / INDEX_NAME, TensorsRow, remedy="")
    except InputError as error:
        return Opened(0, [as_flaw(error)])
    jobs = [
        _Job(path, row, md5s.get(path, ""))
        for row in rows
        for path in [tensor_path(folder, row.side, row.label, row.clip)]
    ]
    return _open_all(folder, jobs, _check_tensor, suffix=".pt")


def as_flaw(error: InputError) -> Flaw:
    """What an error says, without what to do about it."""
    return Flaw(Path(error.path), _tell(error))


def _tell(error: InputError) -> str:
    found = "" if error.found is None else f", found {error.found}"
    expected = "" if error.expected is None else f", expected {error.expected}"
    return f"{error.problem}{found}{expected}"


def _open_all(
    folder: Path,
    jobs: Sequence[_Job[RowType]],
    check: Callable[[_Job[RowType]], str],
    *,
    suffix: str,
) -> Opened:
    problems = map_clips(check, jobs, description=f"verify: open {suffix[1:]}")
    flaws = [Flaw(job.path, text) for job, text in zip(jobs, problems, strict=True) if text]
    named = {job.path for job in jobs}
    flaws += [
        Flaw(path, f"is not in {INDEX_NAME}") for path in _walk(folder, suffix) if path not in named
    ]
    return Opened(len(jobs), flaws)


def _walk(folder: Path, suffix: str) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(files) if name.endswith(suffix))


def _check_archive(job: _Job[FramesRow]) -> str:
    """What is wrong with an archive; "" when nothing is."""
    if problem := _check_md5(job, job.row.archive_md5):
        return problem
    try:
        with open_archive(job.path) as zipped:
            return _check_members(zipped, job.row)
    except InputError as error:
        return _tell(error)


def _check_members(zipped: zipfile.ZipFile, row: FramesRow) -> str:
    expected = [frame_name(number) for number in range(1, row.num_frames + 1)]
    names = zipped.namelist()
    if not expected or names != expected:
        return f"does not hold frames 1 to {row.num_frames}, found {len(names)} members"
    if damaged := zipped.testzip():
        return f"has a damaged {damaged}"
    size, _ = _decode(zipped, 0), _decode(zipped, row.num_frames - 1)
    if size != (row.width, row.height):
        return f"starts with a picture of {size}, expected {(row.width, row.height)}"
    return ""


def _decode(zipped: zipfile.ZipFile, index: int) -> tuple[int, int]:
    with open_picture(zipped, index) as image:
        image.load()
        return image.size


def _check_tensor(job: _Job[TensorsRow]) -> str:
    """What is wrong with a tensor; "" when nothing is."""
    if problem := _check_md5(job, job.row.tensor_md5):
        return problem
    try:
        clip = map_torch_file(job.path)
    except Exception as error:  # torch raises half a dozen kinds on a damaged file
        return f"is no packed clip, found {str(error).splitlines()[0][:200]}"
    if not isinstance(clip, torch.Tensor):
        return f"is no packed clip, found {type(clip).__name__}"
    # Square pictures, of whatever size the pack was made with.
    side = clip.shape[-1] if clip.ndim else 0
    expected = (3, job.row.packed_frames, side, side)
    if clip.dtype != torch.uint8 or tuple(clip.shape) != expected:
        return f"is of another shape, found {clip.dtype} {tuple(clip.shape)}, expected {expected}"
    return ""


def _check_md5(job: _Job[FramesRow] | _Job[TensorsRow], expected: str) -> str:
    if not job.path.is_file():
        return f"is named by {INDEX_NAME}, but is not there"
    try:
        found = job.known_md5 or file_md5(job.path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if found == expected else f"is not the file that {INDEX_NAME} names by its MD5"
