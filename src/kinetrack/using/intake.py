"""Videos that strangers send: what a server takes of them, and by which way to the network."""

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.containers import VideoError, identify
from kinetrack.errors import InputError, printable
from kinetrack.files import atomic_file
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.using.measuring import measure_video
from kinetrack.using.prediction import Prepared, prepare
from kinetrack.using.scratch import scratch_folder

PREFIX = "KINETRACK_SERVE_"
# Who waits for an answer waits no longer: MLflow's server gives a request 60 s.
_STALL_S = 20.0
_BYTES_OF_MB = 1_000_000


class Limits(NamedTuple):
    """What a server takes; each is an environment variable, as KINETRACK_SERVE_VIDEO_MB."""

    video_mb: float = 64
    """Of one file."""
    duration_s: float = 300
    megapixels: float = 4000
    """Of all frames of a video together: decoding, and room for its JPEG files, go by it."""
    videos: float = 64
    """Of one request."""
    root: Path | None = None
    """Folder of videos that may be named by their path; None: paths are refused."""


def read_limits(variables: Mapping[str, str]) -> Limits:
    """Read the limits of a server from environment variables.

    Raises:
        InputError: a variable is no number above 0, or names no folder.
    """
    numbers = {
        name: _read_number(PREFIX + name.upper(), text)
        for name in ("video_mb", "duration_s", "megapixels", "videos")
        if (text := variables.get(PREFIX + name.upper()))
    }
    root = variables.get(PREFIX + "ROOT")
    return Limits(**numbers, root=_read_root(root) if root else None)


def _read_number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(name, "is no limit", found=text, expected="a number above 0")
    return number


def _read_root(text: str) -> Path:
    root = Path(text).resolve()
    if not root.is_dir():
        raise InputError(PREFIX + "ROOT", "names no folder", found=text)
    return root


@contextmanager
def stored(content: str | bytes, limits: Limits) -> Iterator[Path]:
    """Hold a video that was sent, base64 text or bytes, as a file for as long as the block.

    Raises:
        InputError: it is larger than allowed, or no base64.
        WriteError: there is no room for it.
    """
    if isinstance(content, str):
        content = _decode(content, limits)
    _check_size(len(content), limits)
    with scratch_folder() as scratch:
        path = scratch / "video"
        with atomic_file(path) as file:
            file.write(content)
        yield path


def _decode(text: str, limits: Limits) -> bytes:
    num_digits = len(text) - text.count("\n") - text.count("\r")
    _check_size(num_digits * 3 // 4 - 2, limits)  # before there is a second copy
    try:
        # `base64 FILE` breaks its lines; anything else that does not belong there is refused.
        # Not by `split`: of a text of single letters that would be gigabytes.
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("the video", "is no base64", found=error) from None


def _check_size(size_bytes: int, limits: Limits) -> None:
    if size_bytes > limits.video_mb * _BYTES_OF_MB:
        _refuse("is too large", f"{size_bytes} bytes", f"{limits.video_mb:g} MB")


def _refuse(problem: str, found: str, most: str) -> None:
    raise InputError("the video", problem, found=found, expected=f"at most {most}")


def find_allowed(name: str, limits: Limits) -> Path:
    """Find a video by its path, absolute or from the root of the server.

    Raises:
        InputError: the server takes no paths, or this one leads out of its root, also by links.
    """
    if limits.root is None:
        problem = "no path is taken by this server"
        raise InputError("the row", problem, remedy="send the video, or set KINETRACK_SERVE_ROOT")
    try:
        path = Path(limits.root, name).resolve()
    except (OSError, ValueError, RuntimeError):  # a zero byte, a loop of links, too long
        path = Path()
    # Before it is looked at: nobody learns what lies elsewhere.
    if not path.is_relative_to(limits.root):
        raise InputError("the row", "its path does not lead into the folder of this server")
    return path


def prepare_within(
    video: Path,
    *,
    card: ModelCard,
    limits: Limits,
    views: int | None = None,
    stall_s: float = _STALL_S,
) -> Prepared:
    """Prepare a video as `kinetrack predict` does, if it is within the limits.

    Raises:
        InputError: it is not, or it cannot be used.
        WriteError: there is no room for its frames.
    """
    try:
        _check_size(identify(video)[0], limits)
        duration_s, num_pixels = measure_video(video, stall_s=stall_s)
    except VideoError as error:
        raise InputError(video, str(error)) from None
    if duration_s > limits.duration_s:
        _refuse("is too long", f"{duration_s:.1f} s", f"{limits.duration_s:g} s")
    if num_pixels > limits.megapixels * 1e6:
        found = f"{num_pixels / 1e6:.0f} million pixels in all frames"
        _refuse("is too much to decode", found, f"{limits.megapixels:g} million")
    return prepare(
        video, decoding=card.decoding, geometry=card.clip, windows=views, stall_s=stall_s
    )


def reason_of(error: InputError) -> str:
    """What was wrong with a video, without the name that its file had here."""
    return str(error).removeprefix(f"{printable(str(error.path))}: ")
