"""What a split holds, in one line of text."""

import hashlib
from collections.abc import Iterable

from kinetrack.data.index import FramesRow, Side, TensorsRow


def fingerprint_split(clips: Iterable[tuple[FramesRow | TensorsRow, Side]]) -> str:
    """Sha256 over the frames on each side and their classes, whatever the clips are called.

    It changes when a clip changes, comes, goes, or is given another side or class.
    """
    # No class name holds a NUL byte, so no two splits make one text.
    lines = sorted(f"{side}\0{row.label}\0{row.frames_sha256}\0" for row, side in clips)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
