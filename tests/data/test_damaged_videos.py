"""Damage of many kinds, at many places: a clip is never shorter or spoilt without a word."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinetrack.data.containers import VideoError
from kinetrack.data.frames import ExtractionReport, extract_frames

from factories import write_video

NUM_FRAMES = 60


def zero_block(content: bytes, at: float) -> bytes:
    start = int(len(content) * at)
    return content[:start] + bytes(600) + content[start + 600 :]


def cut(content: bytes, at: float) -> bytes:
    return content[: int(len(content) * at)]


def flip_bits(content: bytes, at: float) -> bytes:
    """One bit in a thousand bytes, from a place on."""
    spoilt = np.frombuffer(content, dtype=np.uint8).copy()
    spoilt[int(len(content) * at) :: 1000] ^= 0x10
    return spoilt.tobytes()


def extract(video: Path, archive: Path) -> ExtractionReport:
    return extract_frames(video, archive, gaps="keep", jpeg_quality=50, jpeg_subsampling="4:2:0")


@pytest.fixture(scope="module", params=["avi", "mp4", "mkv"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole clip of 60 frames."""
    path = tmp_path_factory.mktemp("whole") / f"clip.{request.param}"
    return write_video(path, num_frames=NUM_FRAMES, width=192, height=144)


@pytest.fixture
def damaged(video: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the clip with the damage that the test is about."""
    damage, at = request.param
    path = tmp_path / f"damaged{video.suffix}"
    path.write_bytes(damage(video.read_bytes(), at))
    return path


def at_many_places(damage: Callable[[bytes, float], bytes]) -> pytest.MarkDecorator:
    places = [(damage, at) for at in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9)]
    return pytest.mark.parametrize(
        "damaged", places, indirect=True, ids=[f"{at:.0%}" for _, at in places]
    )


def read_report(video: Path, tmp_path: Path) -> ExtractionReport | None:
    """What comes of it; None when it is refused, and then nothing is written."""
    try:
        return extract(video, tmp_path / "a.zip")
    except VideoError:
        assert not (tmp_path / "a.zip").exists()
        return None


@at_many_places(cut)
def test_cut_off_video_is_named(video: Path, damaged: Path, tmp_path: Path) -> None:
    assert_named_or_whole(read_report(damaged, tmp_path), video, tmp_path)


@at_many_places(zero_block)
def test_zeroed_block_is_named(video: Path, damaged: Path, tmp_path: Path) -> None:
    assert_named_or_whole(read_report(damaged, tmp_path), video, tmp_path)


def assert_named_or_whole(report: ExtractionReport | None, video: Path, tmp_path: Path) -> None:
    """What lies behind the last frame, or between the chunks, may be damaged unnoticed."""
    if report is not None and not report.notes:
        assert report.frames_sha256 == extract(video, tmp_path / "whole.zip").frames_sha256


@at_many_places(flip_bits)
def test_flipped_bits_never_shorten_a_clip_without_a_word(damaged: Path, tmp_path: Path) -> None:
    report = read_report(damaged, tmp_path)
    assert report is None or report.decoded_frames == NUM_FRAMES or report.notes


def test_whole_clip_has_nothing_to_note(video: Path, tmp_path: Path) -> None:
    report = extract(video, tmp_path / "a.zip")
    assert (report.decoded_frames, report.notes) == (NUM_FRAMES, ())
