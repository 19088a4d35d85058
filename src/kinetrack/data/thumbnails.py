"""Small pictures of a clip, and which of its frames are repeats, at little cost."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from kinetrack.data.frame_archives import frame_name, open_archive, open_picture


def read_thumbnails(
    archive: Path, indices: Sequence[int], *, size_px: tuple[int, int]
) -> list[Image.Image]:
    """Read frames as RGB pictures that fit into (width, height); `indices` count from 0.

    Raises:
        InputError: the archive cannot be read, or lacks a frame.
    """
    with open_archive(archive) as zipped:
        return [_read_thumbnail(zipped, index, size_px) for index in indices]


def list_repeats(archive: Path, *, num_frames: int) -> set[int]:
    """Indices of the frames whose JPEG has the bytes of the one before; no picture is read.

    Raises:
        InputError: the archive cannot be read, or lacks a frame.
    """
    with open_archive(archive) as zipped:
        members = [zipped.getinfo(frame_name(number)) for number in range(1, num_frames + 1)]
    checksums = [(member.CRC, member.file_size) for member in members]
    return {place for place in range(1, num_frames) if checksums[place] == checksums[place - 1]}


def _read_thumbnail(zipped: zipfile.ZipFile, index: int, size_px: tuple[int, int]) -> Image.Image:
    with open_picture(zipped, index) as image:
        # Decodes at a half, a quarter or an eighth where that is still large enough.
        image.draft("RGB", size_px)
        small = image.convert("RGB")
    small.thumbnail(size_px)
    return small
