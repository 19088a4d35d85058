"""What tests are made of: small videos, data sets, index rows and packed clips.

Everything is drawn by arithmetic or from a fixed seed, so it is the same on every run.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinetrack.data.decoding import Decoding
from kinetrack.data.index import INDEX_NAME, SIDES, FramesRow, TensorsRow, tensor_path, write_index
from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import save_tensor
from kinetrack.learning.augment import AugmentParams
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.inputs import ClipInput
from kinetrack.learning.models import ModelName
from kinetrack.stages.frames import FramesParams

GROUP_PATTERN = r"_g(\d+)_c\d+$"
FRAMES_PARAMS = FramesParams(
    classes="all",
    group_pattern=GROUP_PATTERN,
    gaps="keep",
    jpeg_quality=95,
    jpeg_subsampling="4:2:0",
    on_broken="fail",
    max_stall_s=60,
)
GEOMETRY = ClipGeometry(
    num_frames=4,
    sampling="uniform",
    stride=1,
    spare_frames=0,
    short_clips="fail",
    resize_px=16,
    crop="center",
    size_px=16,
    spare_px=0,
)

DECODING = Decoding(gaps="keep", jpeg_quality=95, jpeg_subsampling="4:2:0")
PLAIN_INPUT = ClipInput(kind="rgb", normalise="none")
NO_AUGMENTATION = AugmentParams(
    flip=0.0,
    resized_crop=None,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    reverse=0.0,
    cutout=0.0,
    mixup=0.0,
)


def draw_frames(
    num_frames: int, *, width: int, height: int, start: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """A bright square that wanders over a ramp: RGB (H, W, 3), every frame another."""
    ramp = np.linspace(0, 120, width, dtype=np.uint8)
    for number in range(start, start + num_frames):
        image = np.repeat(np.tile(ramp, (height, 1))[..., None], 3, axis=2)
        left, top = 3 * number % (width - 8), 2 * number % (height - 8)
        image[top : top + 8, left : left + 8] = (250, 200, 40)
        yield image


def write_video(
    path: Path,
    *,
    num_frames: int,
    width: int = 64,
    height: int = 48,
    fps: int = 25,
    gaps: Sequence[tuple[int, int]] = (),
    codec: str = "mpeg4",
    b_frames: int = 0,
    key_every: int = 12,
    start: int = 0,
) -> Path:
    """Write a video of `num_frames` ticks; the frames in `gaps` [start, end) are left out.

    The suffix picks the container. A gap moves the time stamps of what follows, so the file holds
    fewer frames than ticks. `b_frames` in a row refer to later frames too. Another `start`, other
    pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = key_every
        images = draw_frames(num_frames, width=width, height=height, start=start)
        for tick, image in enumerate(images):
            if not any(start <= tick < end for start, end in gaps):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, fps)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def spoil_frame(path: Path, number: int) -> Path:
    """Overwrite the start of one MPEG-4 picture, so that its packet cannot be decoded."""
    content, start_code = path.read_bytes(), b"\x00\x00\x01\xb6"
    parts = content.split(start_code)
    spoilt = start_code.join(parts[: number + 1]) + b"\x55" * 4
    path.write_bytes(spoilt + start_code.join(parts[number + 1 :]))
    return path


def write_pictures(
    path: Path, images: Sequence[NDArray[np.uint8]], *, times_ms: Sequence[int]
) -> Path:
    """Write RGB pictures, of any sizes, with these time stamps, each by itself (MJPEG)."""
    sizes = {image.shape for image in images}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, _ = images[0].shape
        stream.pix_fmt, stream.time_base = "yuvj420p", Fraction(1, 1000)
        encoders = {size: av.CodecContext.create("mjpeg", "w") for size in sizes}
        for (height, width, _), encoder in encoders.items():
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 1000)
        for image, time_ms in zip(images, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            for packet in encoders[image.shape].encode(frame):
                packet.stream = stream
                container.mux(packet)
    return path


def rewrap_video(path: Path, target: Path, *, rotation_deg: int = 0) -> Path:
    """Put the packets of a video into another container, not decoded; the suffix picks it."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


def write_audio(path: Path) -> Path:
    """Write a container that holds sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_data_set(
    folder: Path,
    *,
    labels: Sequence[str] = ("Jump", "Walk"),
    groups: int = 3,
    clips_per_group: int = 1,
    num_frames: int = 8,
) -> list[Path]:
    """Write `<folder>/<Class>/v_<Class>_gNN_cNN.avi`, groups and clips counted from 1."""
    return [
        write_video(
            folder / label / f"v_{label}_g{group:02}_c{number:02}.avi",
            num_frames=num_frames,
            start=zlib.crc32(f"{label} {group} {number}".encode()) % 2000,
        )
        for label in labels
        for group in range(1, groups + 1)
        for number in range(1, clips_per_group + 1)
    ]


def frames_row(clip: str, *, label: str, group: str, status: str = "ok", missing: int = 0):
    """One row of a frames index, of a clip of ten frames; a broken one holds none."""
    whole = status != "broken"
    content = hashlib.sha256(f"{label}/{clip}".encode()).hexdigest() if whole else ""
    return FramesRow(
        clip=clip,
        label=label,
        group=group,
        official="",
        video=f"{label}/{clip}.avi",
        start_s=None,
        end_s=None,
        container="avi" * whole,
        codec="mpeg4" * whole,
        pixel_format="yuv420p" * whole,
        width=64 * whole,
        height=48 * whole,
        rotation_deg=0,
        fps=25.0 * whole,
        promised_frames=(10 + missing) * whole,
        decoded_frames=10 * whole,
        gap_frames=0,
        repeated_frames=0,
        num_frames=10 * whole,
        missing_frames=missing,
        corrupt_frames=0,
        video_sha256=content,
        frames_sha256=content,
        archive_md5=content[:32],
        status=status,
        reason="" if whole else "cannot be opened as a video",
    )


def write_packed(
    folder: Path,
    *,
    labels: Sequence[str] = ("Jump", "Walk"),
    clips_per_class: int = 3,
    num_frames: int = 4,
    spare_frames: int = 0,
    size_px: int = 16,
    spare_px: int = 0,
) -> Path:
    """Write packed clips of noise, as many on every side, and their index.

    The later a class in `labels`, the brighter its clips: a network can learn them in a few steps.
    """
    random = np.random.default_rng(0)
    packed_frames, packed_px = num_frames + spare_frames, size_px + spare_px
    rows = []
    for side in SIDES:
        for place, label in enumerate(labels):
            for number in range(1, clips_per_class + 1):
                clip = f"v_{label}_g{SIDES.index(side) + 1:02}_c{number:02}"
                shape = (packed_frames, packed_px, packed_px, 3)
                noise = random.integers(0, 128, shape, dtype=np.uint8)
                pixels_thwc = torch.from_numpy(noise + np.uint8(127 * place // len(labels)))
                md5 = save_tensor(
                    tensor_path(folder, side, label, clip), pixels_thwc.permute(3, 0, 1, 2)
                )
                rows.append(
                    TensorsRow(
                        clip=clip,
                        label=label,
                        group=clip[-6:-4],
                        video=f"{label}/{clip}.avi",
                        side=side,
                        num_frames=packed_frames,
                        packed_frames=packed_frames,
                        is_short=False,
                        frames_sha256=md5,
                        archive_md5=md5,
                        tensor_md5=md5,
                    )
                )
    write_index(folder / INDEX_NAME, TensorsRow, rows)
    return folder


def draw_clips(num_clips: int, num_frames: int, size_px: int) -> Tensor:
    """Noise in [0, 1], the same on every call: (N, 3, T, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_clips, 3, num_frames, size_px, size_px, generator=generator)


def model_card(
    model: ModelName = "small_3dcnn",
    *,
    labels: Sequence[str] = ("Jump", "Walk"),
    num_frames: int = 4,
    size_px: int = 16,
) -> ModelCard:
    """A card for `save_model`, which puts in the checksum."""
    return ModelCard(
        model=model,
        labels=list(labels),
        decoding=DECODING,
        clip=GEOMETRY.model_copy(
            update={"num_frames": num_frames, "resize_px": size_px, "size_px": size_px}
        ),
        input=PLAIN_INPUT,
        parameters=1,
        gflop_per_clip=0.5,
        precision="fp32",
        micro_batch=2,
        threads=1,
        split_fingerprint="0" * 64,
        trained_sha256="",
        weights_sha256="",
    )
