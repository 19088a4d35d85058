"""Frame archives for tests of what reads them."""

import io
import zipfile
from collections.abc import Collection
from pathlib import Path

from PIL import Image

from kinetrack.data.frame_archives import frame_name

from factories import draw_frames


def write_archive(
    path: Path,
    *,
    num_frames: int = 10,
    width: int = 64,
    height: int = 48,
    repeats: Collection[int] = (),
) -> Path:
    """Write the archive of a clip; the frames at the indices `repeats` are as the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    jpeg = b""
    with zipfile.ZipFile(path, "w") as zipped:
        for index, image in enumerate(draw_frames(num_frames, width=width, height=height)):
            if index not in repeats:
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "JPEG", quality=95)
                jpeg = buffer.getvalue()
            zipped.writestr(frame_name(index + 1), jpeg)
    return path
