import subprocess
import sys
from pathlib import Path

import pytest

from kinetrack.data.containers import VideoError
from kinetrack.using.measuring import measure_video

from factories import write_video


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv", "ts"])
def test_length_is_counted_whatever_the_header_promises(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", num_frames=25)
    duration_s, num_pixels = measure_video(path, stall_s=60)
    assert duration_s == pytest.approx(1, abs=0.05)
    assert num_pixels == 25 * 64 * 48


def test_avi_that_says_it_is_short_is_measured_all_the_same(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=50)
    content = path.read_bytes()
    place = content.index(b"avih") + 8 + 16  # total frames, there and in the stream's header
    stream = content.index(b"strh") + 8 + 32
    for where in (place, stream):
        assert int.from_bytes(content[where : where + 4], "little") == 50
        content = content[:where] + (1).to_bytes(4, "little") + content[where + 4 :]
    path.write_bytes(content)
    assert measure_video(path, stall_s=60).duration_s == pytest.approx(2, abs=0.1)


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_text("no video")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        measure_video(tmp_path / "a.avi", stall_s=60)


def test_children_that_measure_load_no_torch() -> None:
    code = "import sys, kinetrack.using.measuring; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
