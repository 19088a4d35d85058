"""How long and how large a video is, told by what is in the file.

A file of its own: it is done in a child process, which must not load torch for it.
"""

import math
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.containers import open_container, pick_stream, read_packets
from kinetrack.data.video import decode_isolated
from kinetrack.isolation import report_progress


class Extent(NamedTuple):
    """What decoding a video will cost at most."""

    duration_s: float
    pixels: int
    """Of all frames together."""


def measure_video(path: Path, *, stall_s: float) -> Extent:
    """Count the packets of a video: the header may promise less. Nothing is decoded.

    Raises:
        VideoError: it is no video.
    """
    return decode_isolated(_measure, path, stall_s=stall_s)


def _measure(path: Path) -> Extent:
    with open_container(path) as container:
        stream = pick_stream(container)
        first, last, num_packets = math.inf, -math.inf, 0
        for packet in read_packets(container, stream):
            report_progress()
            num_packets += packet.size > 0  # the last one is empty
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None:
                first, last = min(first, stamp), max(last, stamp + (packet.duration or 0))
        duration_s = max(last - first, 0) * float(stream.time_base or 0)
        return Extent(duration_s, num_packets * stream.width * stream.height)
