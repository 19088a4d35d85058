"""The videos that benchmarks run on: real ones, the built-in sample, joined and tiny ones."""

import itertools
import os
import shutil
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer

from benchmarks.scratch import Scratch
from kinetrack.errors import InputError

VARIABLE = "KINETRACK_REAL_VIDEOS"
Clip = TypeVar("Clip")


def find_videos(folder: Path) -> list[Path]:
    """The clips to run on, sorted: <Class>/<clip>.avi.

    They are the real ones of `KINETRACK_REAL_VIDEOS`, or else the built-in data set, which is made
    below `folder`.

    Raises:
        InputError: the variable names no folder with real clips.
    """
    real = os.environ.get(VARIABLE, "")
    if not real:
        return _list(make_sample(folder))
    videos = _list(Path(real) / "ucf101_slice")
    if not videos:
        raise InputError(real, f"holds no ucf101_slice/<Class>/<clip>.avi ({VARIABLE})")
    return videos


def _list(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.avi"))


def make_sample(folder: Path) -> Path:
    """Make the built-in data set, with the numbers of the preset `lecture`."""
    scratch = Scratch(folder / "sample")
    scratch.stage("sample", Path("data/videos/sample"))
    return scratch.folder / "data/videos/sample"


def spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """At most `count` of the clips, evenly from the whole list, so of all classes."""
    count = min(count, len(clips))
    return [clips[place * len(clips) // count] for place in range(count)]


def copy_in(videos: Iterable[Path], target: Path) -> None:
    """Copy clips to `<target>/<Class>/`, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    for video in videos:
        (target / video.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, target / video.parent.name / video.name)


def join_clips(videos: Sequence[Path], target: Path, *, num_frames: int) -> Path:
    """Write one video of at least `num_frames` frames: packets of the clips, again and again.

    Nothing is coded anew. Clips of another codec, size or rate than the first are left out.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(videos[0])) as first, av.open(str(target), "w") as container:
        kind = _describe(first)
        stream = container.add_stream_from_template(first.streams.video[0])
        rate = first.streams.video[0].average_rate
        time_base = 1 / Fraction(rate or 25)
        written = 0
        for video in itertools.cycle(videos):
            with av.open(str(video)) as source:
                if _describe(source) != kind:
                    continue
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream, packet.time_base = stream, time_base
                        packet.pts = packet.dts = written
                        container.mux(packet)
                        written += 1
            if written >= num_frames:
                return target
    raise AssertionError("itertools.cycle ends for no clips only")


def _describe(container: InputContainer) -> tuple[object, ...]:
    """What the packets of two clips must have in common to stand in one stream."""
    stream = container.streams.video[0]
    context = stream.codec_context
    return context.name, context.width, context.height, stream.average_rate


def write_tiny_videos(folder: Path, *, classes: int, clips: int) -> None:
    """Write clips of 32 x 24 px and 2 to 10 frames, named as UCF101's, 25 groups a class.

    Each has pictures of its own: equal clips would be dropped.
    """
    for number in range(clips):
        place, label = number // classes, f"Class{number % classes + 1:03}"
        name = f"v_{label}_g{place % 25 + 1:02}_c{place // 25 + 1:02}.avi"
        _write_tiny(folder / label / name, seed=number)


def _write_tiny(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for _ in range(2 + seed % 9):
            image = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
