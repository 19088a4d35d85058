"""Frames as a video whose bytes are the same on every machine: MPEG-4 in AVI."""

import io
from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray

FRAMES_PER_SECOND = 25

# Whole pictures only (`g`) at one quantiser near the finest, so that a frame's coding does not
# depend on its neighbours. One thread, whole-number transform and no version strings, so that the
# bytes do not depend on the machine.
CODING = {
    "g": "1",
    "qmin": "3",
    "qmax": "3",
    "threads": "1",
    "dct": "int",
    "flags": "+bitexact",
}
LUMA_256THS = np.array([66, 129, 25], dtype=np.int32)
CHROMA_256THS = np.array([[-38, -74, 112], [112, -94, -18]], dtype=np.int32)


def encode_clip(frames: NDArray[np.uint8], *, gaps: Sequence[tuple[int, int]] = ()) -> bytes:
    """Encode RGB frames (T, H, W, 3) as MPEG-4 in AVI, the coding of UCF101.

    Frames in `gaps`, intervals [start, end), are left out and the time stamps jump over them.
    """
    lost = {number for start, end in gaps for number in range(start, end)}
    file = io.BytesIO()
    with av.open(file, "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND, options=CODING)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, planes in enumerate(_to_yuv420(frames)):
            if number not in lost:
                picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                picture.pts = number
                container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def _to_yuv420(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert RGB (T, H, W, 3) to BT.601 planes Y, Cb, Cr, one below the other: (T, H * 3/2, W).

    In whole numbers, since FFmpeg's own conversion rounds by the machine's instruction set.
    """
    num_frames, height, width, _ = frames.shape
    rgb = np.moveaxis(frames, -1, 0).astype(np.int32)  # (3, T, H, W)
    rows = rgb[..., ::2, :] + rgb[..., 1::2, :]
    blocks = rows[..., ::2] + rows[..., 1::2]  # sums of 2 x 2 pixels
    luma = ((np.tensordot(LUMA_256THS, rgb, axes=1) + 128) >> 8) + 16
    chroma = ((np.tensordot(CHROMA_256THS, blocks, axes=1) + 512) >> 10) + 128
    planes = np.moveaxis(chroma, 0, 1).reshape(num_frames, height // 2, width)
    return np.concatenate([luma, planes], axis=1).astype(np.uint8)
