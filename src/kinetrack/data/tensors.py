"""Packed clips on disk: one uint8 tensor a clip, in the memory order that convolutions like."""

from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from kinetrack.data.index import (
    INDEX_NAME,
    SIDES,
    Side,
    TensorsRow,
    read_index,
    tensor_path,
)
from kinetrack.data.torch_files import map_torch_file
from kinetrack.errors import InputError
from kinetrack.files import atomic_file, file_md5

_REMEDY = "dvc repro -f tensors"


class PackedSide(NamedTuple):
    """The packed clips of one side, in the order of the index."""

    folder: Path
    rows: list[TensorsRow]

    def path(self, row: TensorsRow) -> Path:
        """Where the tensor of a row lies."""
        return tensor_path(self.folder, row.side, row.label, row.clip)


def read_sides(folder: Path) -> dict[Side, PackedSide]:
    """Read the index of a folder of packed clips.

    Raises:
        InputError: no index, or a damaged one.
    """
    rows = read_index(folder / INDEX_NAME, TensorsRow, remedy="dvc repro tensors")
    return {side: PackedSide(folder, [row for row in rows if row.side == side]) for side in SIDES}


def save_tensor(path: Path, tensor: Tensor) -> str:
    """Write a tensor with `torch.save`, keeping its memory order; return the file's MD5.

    Raises:
        WriteError: no room, no permission, or the disk refuses it.
    """
    with atomic_file(path) as file:
        _write_tensor(tensor, file)
    return file_md5(path)


def _write_tensor(tensor: Tensor, file: IO[bytes]) -> None:
    try:
        # An open file: given a path, torch writes the (temporary) file name into the archive.
        torch.save(tensor, file)
    except RuntimeError as error:
        # After a failed write torch still closes its archive, and that error hides the disk's.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_clip(path: Path, *, num_frames: int, size_px: int) -> Tensor:
    """Map a packed clip of `num_frames` into memory: uint8 (3, T, H, W), read where it is used.

    Nothing is unpickled but the tensor.

    Raises:
        InputError: no such file, damaged, or of another shape.
    """
    shape = (3, num_frames, size_px, size_px)
    try:
        clip = map_torch_file(path)
    except Exception as error:  # torch raises half a dozen kinds on a damaged file
        problem = str(error).splitlines()[0][:200]
        raise InputError(path, "is no packed clip", found=problem, remedy=_REMEDY) from None
    if not isinstance(clip, Tensor) or clip.dtype != torch.uint8 or tuple(clip.shape) != shape:
        found = f"{clip.dtype} {tuple(clip.shape)}" if isinstance(clip, Tensor) else type(clip)
        raise InputError(
            path, "is of another shape", found=found, expected=f"uint8 {shape}", remedy=_REMEDY
        )
    return clip
