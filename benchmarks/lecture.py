"""The lecture's preprocessing, as a student would write it: one loop for frames, one for tensors.

It is what Kinetrack is compared with, and shares no code with it. Every frame of every video
becomes a loose JPEG, then every clip a float32 tensor of all its frames. It runs by itself:

    python -m benchmarks.lecture VIDEOS OUT --tensors growing
    python -m benchmarks.lecture VIDEOS OUT --tensors stacked

`growing` is the lecture to the letter: `torch.cat` adds one frame at a time, and copies all frames
before it each time. `stacked` is fairer to the lecture: the same tensor, by one `torch.stack`.
"""

import argparse
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

TO_INPUT = Compose([Resize(256), CenterCrop(224), ToTensor()])


def write_frames(video: Path, folder: Path) -> None:
    """Write every frame of a video as `frame_0001.jpg ...` into a folder."""
    folder.mkdir(parents=True)
    if shutil.which("ffmpeg"):
        quiet = ["-nostdin", "-loglevel", "error"]
        frames = str(folder / "frame_%04d.jpg")
        subprocess.run(["ffmpeg", *quiet, "-i", str(video), frames], check=True)
    else:
        _write_frames_by_pyav(video, folder)


def _write_frames_by_pyav(video: Path, folder: Path) -> None:
    """Do the same without the command line; gaps in the time stamps stay gaps."""
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0), start=1):
            picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
            picture.save(folder / f"frame_{number:04d}.jpg")


def read_growing(folder: Path) -> Tensor:
    """Read a folder of frames, (3, T, 224, 224) float32, as the lecture does: frame by frame."""
    clip = torch.empty(3, 0, 224, 224)
    for path in sorted(folder.iterdir()):
        clip = torch.cat([clip, _read_frame(path).unsqueeze(1)], dim=1)
    return clip


def read_stacked(folder: Path) -> Tensor:
    """Read the same tensor, put together once."""
    return torch.stack([_read_frame(path) for path in sorted(folder.iterdir())], dim=1)


def _read_frame(path: Path) -> Tensor:
    with Image.open(path) as image:
        frame: Tensor = TO_INPUT(image)  # (3, 224, 224) float32 in [0, 1]
    return frame


READERS: dict[str, Callable[[Path], Tensor]] = {"growing": read_growing, "stacked": read_stacked}


def preprocess(videos: Path, out: Path, *, tensors: str) -> None:
    """Write frames/<Class>/<clip>/ and tensors/<Class>/<clip>.pt for every video below a folder."""
    clips = sorted(videos.glob("*/*"))
    for video in clips:
        write_frames(video, out / "frames" / video.parent.name / video.stem)
    for video in clips:
        clip = READERS[tensors](out / "frames" / video.parent.name / video.stem)
        path = out / "tensors" / video.parent.name / f"{video.stem}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(clip, path)


def main() -> None:
    """Preprocess on the command line."""
    parser = argparse.ArgumentParser(description="The lecture's preprocessing.")
    parser.add_argument("videos", type=Path, help="folder with <Class>/<clip>.avi")
    parser.add_argument("out", type=Path, help="folder for frames/ and tensors/")
    parser.add_argument("--tensors", choices=sorted(READERS), default="growing")
    arguments = parser.parse_args()
    # One frame is too small a thing for several threads, which would only cost CPU time.
    torch.set_num_threads(1)
    preprocess(arguments.videos, arguments.out, tensors=arguments.tensors)


if __name__ == "__main__":
    main()
