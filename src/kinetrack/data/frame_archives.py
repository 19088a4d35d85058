"""Frame archives read: the JPEGs of a clip out of their stored zip."""

import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from kinetrack.data.containers import MOST_PIXELS
from kinetrack.errors import InputError

# What a damaged or forged archive raises. zipfile: RuntimeError for an encrypted member,
# NotImplementedError for a method of packing; Pillow: SyntaxError for what is no JPEG.
_UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    SyntaxError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


def frame_name(number: int) -> str:
    """Name of a frame in its archive; `number` counts from 1."""
    return f"frame_{number:04d}.jpg"


def read_frames(archive: Path, indices: Sequence[int]) -> Iterator[Image.Image]:
    """Yield the RGB pictures of these frames; `indices` count from 0 and may repeat.

    Raises:
        InputError: the archive cannot be read, or lacks a frame.
    """
    with open_archive(archive) as zipped:
        for index in indices:
            with open_picture(zipped, index) as image:
                yield image.convert("RGB")


@contextmanager
def open_archive(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a frame archive for reading members and pictures.

    Raises:
        InputError: now or within the block: it cannot be read, or lacks a member.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            # Packed members could unpack to any size.
            if any(info.compress_type != zipfile.ZIP_STORED for info in zipped.infolist()):
                raise zipfile.BadZipFile("packed members, expected stored ones")
            yield zipped
    except _UNREADABLE as error:
        raise InputError(
            archive, "is no whole frame archive", found=error, remedy="dvc repro -f frames"
        ) from None


@contextmanager
def open_picture(zipped: zipfile.ZipFile, index: int) -> Iterator[JpegImageFile]:
    """Open the JPEG of a frame, which counts from 0; its pixels are not decoded yet.

    Raises:
        Exception: it lacks, or is no picture that `extract_frames` writes; `open_archive` tells.
    """
    name = frame_name(index + 1)
    # Without `Image.open`, which warns of large pictures instead of refusing them.
    with zipped.open(name) as file, JpegImageFile(file) as image:
        # A progressive one is held whole, in six bytes a pixel, beside its pixels.
        is_progressive = "progressive" in image.info
        if image.width * image.height > MOST_PIXELS or image.mode != "RGB" or is_progressive:
            found = f"{image.width} x {image.height} px, {image.mode}"
            raise zipfile.BadZipFile(f"{name} of {found}{', progressive' * is_progressive}")
        yield image
