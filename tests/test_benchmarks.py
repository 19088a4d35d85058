"""What `make bench` compares is comparable: the same clips, frames, shapes. Never a time."""

import json
import sys
from functools import partial
from pathlib import Path

import av
import pytest
import torch
import yaml
from rich.console import Console

from benchmarks import added_clip, lecture, memory, nothing_to_do, preprocess, rows, run, workers
from benchmarks.added_clip import Work, parse_work
from benchmarks.clips import VARIABLE, find_videos, join_clips, spread, write_tiny_videos
from benchmarks.figures import Figure, Findings, Line, flatten, merge_figures
from benchmarks.measure import Cost, measure
from benchmarks.scratch import ROOT
from kinetrack.data.clips import list_clips
from kinetrack.data.frames import extract_frames, read_frames
from kinetrack.errors import InputError

from factories import write_data_set, write_video

COST = Cost(wall_s=2.0, cpu_s=3.0, peak_bytes=10**9, output="")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """The lecture's folder of frames of a clip of twelve."""
    video = write_video(tmp_path / "v_Walk_g01_c01.avi", num_frames=12, width=96, height=72)
    lecture.write_frames(video, tmp_path / "frames")
    return tmp_path / "frames"


def test_the_lectures_two_ways_give_the_same_tensor(frames: Path) -> None:
    growing, stacked = lecture.read_growing(frames), lecture.read_stacked(frames)
    assert growing.shape == (3, 12, 224, 224)
    assert growing.dtype == torch.float32
    assert torch.equal(growing, stacked)


@pytest.mark.parametrize("tool", ["as installed", "without ffmpeg"])
def test_the_lecture_has_the_frames_that_kinetrack_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    if tool == "without ffmpeg":
        monkeypatch.setattr("shutil.which", lambda _: None)
    video = write_video(tmp_path / "v_Walk_g01_c01.avi", num_frames=12, width=96, height=72)
    lecture.write_frames(video, tmp_path / "frames")
    report = extract_frames(
        video, tmp_path / "a.zip", gaps="repeat", jpeg_quality=95, jpeg_subsampling="4:2:0"
    )
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"frame_{number:04d}.jpg" for number in range(1, report.num_frames + 1)]
    theirs = lecture.read_stacked(tmp_path / "frames")
    ours = torch.stack(
        [lecture.TO_INPUT(image) for image in read_frames(tmp_path / "a.zip", range(12))], dim=1
    )
    assert (theirs - ours).abs().mean() < 0.03  # another JPEG quality
    assert (theirs - ours.flip(1)).abs().mean() > (theirs - ours).abs().mean()


def test_a_cost_counts_grandchildren_and_orphans(tmp_path: Path) -> None:
    """Each of the two burns half a second; the first process waits for the grandchild only."""
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    script = f"""
import os, subprocess, sys
subprocess.run([sys.executable, "-c", {burn!r}], check=True)
subprocess.Popen([sys.executable, "-c", {burn!r}])
"""
    assert measure([sys.executable, "-c", script], folder=tmp_path).cpu_s > 0.95


def test_a_cost_has_the_memory_of_the_largest_process(tmp_path: Path) -> None:
    hold = "import time; held = b'x' * 100_000_000; time.sleep(0.4)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    peak_bytes = measure([sys.executable, "-c", script], folder=tmp_path).peak_bytes
    assert 100e6 < peak_bytes < 180e6


def test_a_command_that_fails_ends_the_benchmark_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno such clip"):
        measure(["sh", "-c", "echo no such clip; exit 3"], folder=tmp_path)


def test_the_cost_of_two_commands_adds_up_but_for_the_memory() -> None:
    assert COST.then(COST._replace(peak_bytes=1, output="b")) == Cost(4.0, 6.0, 10**9, "b")


@pytest.mark.parametrize(
    ("output", "stage", "expected"),
    [
        ("frames: 238 clips, 44000 frames; 1 decoded, 0 moved, 237 kept", "frames", (1, 0, 237)),
        (
            "Running stage 'tensors':\n> PYTHONPATH=src python ...\n"
            "tensors: 238 clips of 3 x 16 x 48 x 48 bytes; 1 packed, 2 moved, 235 kept\n  short",
            "tensors",
            (1, 2, 235),
        ),
        (
            "frames: 9 clips, 90 frames; 1 decoded, 2 moved, 3 from the cache, 3 kept",
            "frames",
            (1, 5, 3),
        ),
        ("frames: 237 clips, 44000 frames", "frames", (237, 0, 0)),
        ("Stage 'frames' didn't change, skipping", "frames", (0, 0, 0)),
    ],
)
def test_the_summary_of_a_stage_tells_what_it_did(
    output: str, stage: str, expected: tuple[int, int, int]
) -> None:
    assert parse_work(output, stage) == Work(*expected)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", "", 4.0, at_least=4), ">= 4: met"),
        (Figure("a", "", 3.9, at_least=4), ">= 4: MISSED"),
        (Figure("a", "", 0.2, at_most=0.2), "<= 0.2: met"),
        (Figure("a", "", 1.31, at_most=1.3), "<= 1.3: MISSED"),
        (Figure("a", "", 4.0), ""),
    ],
)
def test_a_figure_says_whether_its_goal_is_met(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict


def test_figures_have_flat_keys_and_leave_those_of_other_parts(tmp_path: Path) -> None:
    path = tmp_path / "reports/bench.json"
    merge_figures(path, {"noop_625.ratio": 1.2, "worker.peak_gb": 9.0})
    findings = Findings(
        [Line("memory.long", "long", 9, COST)],
        [Figure("worker.peak_gb", "", 0.25)],
        counts={"memory.frames": 7},
    )
    merge_figures(path, flatten(findings))
    assert json.loads(path.read_text()) == {
        "memory.frames": 7,
        "memory.long.clips": 9,
        "memory.long.cpu_s": 3.0,
        "memory.long.peak_gb": 1.0,
        "memory.long.seconds": 2.0,
        "noop_625.ratio": 1.2,
        "worker.peak_gb": 0.25,
    }


def test_a_few_clips_are_spread_over_all(tmp_path: Path) -> None:
    videos = [Path(f"{number:02}.avi") for number in range(10)]
    assert [path.name[:2] for path in spread(videos, 5)] == ["00", "02", "04", "06", "08"]
    assert spread(videos, 20) == videos


def test_joined_clips_decode_to_all_their_frames(tmp_path: Path) -> None:
    videos = write_data_set(tmp_path / "videos", groups=2, num_frames=10)
    other = write_video(tmp_path / "videos/Walk/v_Zoom_g01_c01.avi", num_frames=10, width=96)
    long = join_clips([*videos, other], tmp_path / "long.avi", num_frames=95)
    with av.open(str(long)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(64, 48)] * 100


def test_tiny_videos_are_a_data_set_of_clips_that_differ(tmp_path: Path) -> None:
    write_tiny_videos(tmp_path, classes=3, clips=80)
    clips = list_clips(tmp_path, classes="all", group_pattern=r"_g(\d+)_c\d+$")
    assert (len(clips), len({clip.label for clip in clips})) == (80, 3)
    assert {clip.group for clip in clips} == {f"{group:02}" for group in range(1, 26)}
    assert len({clip.path.read_bytes() for clip in clips}) == 80


def test_the_bare_pipeline_has_the_same_data_and_neither_code_nor_params() -> None:
    real = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    bare = nothing_to_do.strip_pipeline({"stages": real})["stages"]
    assert list(bare) == list(real)
    for name, stage in bare.items():
        assert stage["cmd"] == "true"
        assert "params" not in stage
        for key in ("outs", "metrics", "plots"):
            assert stage.get(key) == real[name].get(key)
        data = [dep for dep in real[name]["deps"] if dep.startswith(("data/", "reports/"))]
        assert stage["deps"] == data


def test_generated_rows_are_of_all_classes_and_differ() -> None:
    made = rows.make_rows(1400)
    assert (len(made), len({row.label for row in made})) == (1400, 700)
    assert len({row.frames_sha256 for row in made}) == 1400
    assert made == sorted(made, key=lambda row: (row.label, row.clip))


def test_parts_run_in_their_own_order() -> None:
    assert run._check_parts(["rows", "preprocess"]) == ["preprocess", "rows"]
    assert run._check_parts(None) == list(run.PARTS)


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(InputError, match="names no part, found speed, expected preprocess"):
        run._check_parts(["speed"])


def test_a_folder_without_real_clips_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="holds no ucf101_slice"):
        find_videos(tmp_path / "scratch")


@pytest.mark.slow
def test_both_ways_preprocess_the_same_clips(tmp_path: Path) -> None:
    videos = write_data_set(tmp_path / "videos", groups=2, num_frames=40)
    values = flatten(preprocess.run(videos, tmp_path / "scratch"))
    assert values["preprocess.fair.clips"] == values["preprocess.ours.clips"] == 4
    pixels = 3 * 224 * 224
    # All frames as float32 against the window as uint8; what torch adds to a file is small.
    assert values["tensor_bytes.lecture"] == pytest.approx(4 * 40 * pixels, rel=0.001)
    assert values["tensor_bytes.ours"] == pytest.approx(32 * pixels, rel=0.001)


@pytest.mark.slow
def test_one_worker_and_two_pack_the_same_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ROUNDS", 1)
    videos = write_data_set(tmp_path / "videos", groups=2, num_frames=10)
    values = flatten(workers.run(videos, tmp_path / "scratch"))
    assert values["workers.1.round_1.clips"] == values["workers.2.round_1.clips"] == 4


@pytest.mark.slow
def test_the_long_clip_is_decoded_whole(tmp_path: Path) -> None:
    videos = write_data_set(tmp_path / "videos", groups=2, num_frames=10)
    values = flatten(memory.run(videos, tmp_path / "scratch", long_frames=500))
    assert values["memory.long_frames"] >= 500
    assert values["memory.long.clips"] == 5


@pytest.mark.slow
def test_a_change_of_one_clip_does_one_clip_again(tmp_path: Path) -> None:
    videos = write_data_set(tmp_path / "videos", groups=6, num_frames=10)
    counts = added_clip.run(videos, tmp_path / "scratch").counts
    found = {
        change: tuple(
            counts[f"added_clip.{change}.{stage}_{name}"]
            for stage in ("frames", "tensors")
            for name in Work._fields
        )
        for change in ("cold", "added", "changed", "renamed", "side", "removed")
    }
    assert found == {
        "cold": (10, 0, 0, 10, 0, 0),
        "added": (1, 0, 10, 1, 0, 10),
        "changed": (1, 0, 10, 1, 0, 10),
        "renamed": (0, 1, 10, 0, 1, 10),
        "side": (0, 0, 11, 0, 1, 10),
        "removed": (0, 0, 10, 0, 0, 10),
    }


@pytest.mark.slow
def test_both_pipelines_find_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nothing_to_do, "ROUNDS", 1)
    values = flatten(nothing_to_do.run(tmp_path / "scratch", sizes={60: 2}))
    assert values["noop_60.kinetrack.clips"] == values["noop_60.bare.clips"] == 60


@pytest.mark.slow
def test_a_part_is_printed_and_written_with_what_it_ran_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run._ON_THEIR_OWN, "rows", partial(rows.run, num_rows=7000))
    path = tmp_path / "bench.json"
    with (tmp_path / "printed.txt").open("w") as printed:
        run.run_parts(["rows"], output=path, console=Console(file=printed, width=120))
    values = json.loads(path.read_text())
    assert values["rows.run.data"] == "generated data"
    assert values["index_650k.write.clips"] == values["index_650k.split.clips"] == 7000
    assert "index_650k.seconds" in (tmp_path / "printed.txt").read_text()
