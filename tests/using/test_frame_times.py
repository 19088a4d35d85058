from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetrack.data.decoding import Gaps
from kinetrack.data.frames import ExtractionReport, extract_frames
from kinetrack.using.frame_times import FrameTimes, constant_times, read_times

from factories import draw_frames, write_pictures, write_video

UNEVEN_MS = [0, 40, 110, 120, 210, 240, 333, 350, 400, 490, 555, 560]


def decoded(
    tmp_path: Path, video: Path, *, gaps: Gaps = "keep"
) -> tuple[ExtractionReport, FrameTimes, tuple[str, ...]]:
    encoding: dict[str, Any] = {"jpeg_quality": 95, "jpeg_subsampling": "4:2:0"}
    report = extract_frames(video, tmp_path / "clip.zip", gaps=gaps, **encoding)
    return report, *read_times(video, report, gaps=gaps, stall_s=60)


def write_at(path: Path, times_ms: list[int]) -> Path:
    images = list(draw_frames(len(times_ms), width=64, height=48))
    return write_pictures(path, images, times_ms=times_ms)


def test_constant_rate_is_that_of_the_file(tmp_path: Path) -> None:
    report, times, notes = decoded(tmp_path, write_video(tmp_path / "v.avi", num_frames=30, fps=20))
    np.testing.assert_array_equal(times.starts_s, np.arange(30) / 20)
    assert (times.end_s, times.fps, times.is_constant, notes) == (1.5, 20, True, ())
    assert report.num_frames == 30


def test_after_a_gap_the_time_stamps_tell(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mkv", num_frames=50, gaps=[(10, 35)])
    _, times, notes = decoded(tmp_path, video)
    assert not times.is_constant
    assert notes == ()
    np.testing.assert_allclose(times.starts_s[[0, 9, 10, 24]], [0, 0.36, 1.4, 1.96], atol=1e-3)
    assert times.end_s == pytest.approx(2, abs=2e-3)
    assert times.frames_within(0, 1) == range(10)
    assert times.frames_within(0.4, 1.4) == range(10, 10)
    assert times.frames_within(1.4, 2) == range(10, 25)


def test_gaps_that_were_filled_leave_a_constant_rate(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mkv", num_frames=50, gaps=[(10, 35)])
    report, times, notes = decoded(tmp_path, video, gaps="repeat")
    assert report.repeated_frames == 25
    assert (times.is_constant, times.end_s, notes) == (True, 2, ())


def test_of_a_variable_rate_the_time_stamps_tell(tmp_path: Path) -> None:
    video = write_at(tmp_path / "v.mkv", UNEVEN_MS)
    report, times, notes = decoded(tmp_path, video)
    assert "variable frame rate" in report.notes
    assert notes == ()
    np.testing.assert_allclose(times.starts_s, np.array(UNEVEN_MS) / 1000)


def test_a_variable_rate_that_was_filled_is_told(tmp_path: Path) -> None:
    video = write_at(tmp_path / "v.mkv", UNEVEN_MS)
    _, times, notes = decoded(tmp_path, video, gaps="repeat")
    assert times.is_constant
    assert notes == (f"times are those of a constant {times.fps:.5g} frames a second",)


def test_stamps_that_step_back_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def jumbled(function: Any, *args: Any, stall_s: float) -> Any:
        return 25.0, [0.0, 0.08, 0.04, 0.12], 0.16

    monkeypatch.setattr("kinetrack.using.frame_times.decode_isolated", jumbled)
    report = ExtractionReport(num_frames=4, gap_frames=1, fps=25)
    times, notes = read_times(tmp_path, report, gaps="keep", stall_s=60)
    assert (times.is_constant, times.end_s, notes) == (True, 0.16, ())


def test_a_frame_belongs_to_a_part_a_little_before_its_time() -> None:
    times = constant_times(100, 30000 / 1001)
    assert times.frames_within(1.001, 2.002) == range(30, 60)
    assert times.frames_within(1.0014, 2.0024) == range(30, 60)
    assert times.frames_within(1.0016, 2.0026) == range(31, 61)
