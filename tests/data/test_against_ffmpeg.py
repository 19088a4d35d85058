"""Frames as the lecture's `ffmpeg -i V frame_%04d.jpg` writes them: Debian's ffmpeg is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kinetrack.data.frames import extract_frames

from factories import write_video

FFMPEG = shutil.which("ffmpeg")
REAL_VIDEOS = os.environ.get("KINETRACK_REAL_VIDEOS", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed: apt install ffmpeg"),
]


def count_of_ffmpeg(video: Path, folder: Path) -> int:
    folder.mkdir()
    command = [str(FFMPEG), "-loglevel", "quiet", "-i", str(video), str(folder / "frame_%04d.jpg")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return len(list(folder.iterdir()))


def count_of_ours(video: Path, folder: Path) -> int:
    archive = folder / f"{video.stem}.zip"
    return extract_frames(
        video, archive, gaps="repeat", jpeg_quality=50, jpeg_subsampling="4:2:0"
    ).num_frames


@pytest.mark.parametrize(
    "gaps",
    [
        pytest.param([], id="none"),
        pytest.param([(5, 6)], id="one frame"),
        pytest.param([(5, 9)], id="four frames"),
        pytest.param([(3, 4), (10, 13), (20, 21)], id="three gaps"),
    ],
)
@pytest.mark.parametrize("fps", [25, 30])
def test_gaps_are_filled_with_as_many_frames(
    tmp_path: Path, gaps: list[tuple[int, int]], fps: int
) -> None:
    video = write_video(tmp_path / "clip.avi", num_frames=30, gaps=gaps, fps=fps)
    assert count_of_ours(video, tmp_path) == count_of_ffmpeg(video, tmp_path / "theirs") == 30


@pytest.mark.timeout(3600)  # each clip is decoded twice
@pytest.mark.skipif(not REAL_VIDEOS, reason="KINETRACK_REAL_VIDEOS names no folder of real clips")
def test_real_clips_have_as_many_frames(tmp_path: Path) -> None:
    videos = sorted(Path(REAL_VIDEOS).glob("ucf101_slice/*/*.avi"))
    assert videos
    ours, theirs = {}, {}
    for video in videos:
        ours[video.stem] = count_of_ours(video, tmp_path)
        theirs[video.stem] = count_of_ffmpeg(video, tmp_path / video.stem)
        shutil.rmtree(tmp_path / video.stem)
    assert ours == theirs
