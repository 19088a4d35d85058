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

from benchmarks import (
    added_clip,
    arithmetic,
    lecture,
    lecture_training,
    memory,
    nothing_to_do,
    preprocess,
    rows,
    run,
    training,
    training_clips,
    training_steps,
    workers,
)
from benchmarks.added_clip import Work, parse_work
from benchmarks.clips import VARIABLE, find_videos, join_clips, spread, write_tiny_videos
from benchmarks.figures import Figure, Findings, Line, flatten, merge_figures
from benchmarks.measure import Cost, measure
from benchmarks.scratch import ROOT
from benchmarks.training_clips import Plan
from benchmarks.training_figures import Comparison, Training, Way, compare_speeds, tell_costs
from kinetrack.data.clips import list_clips
from kinetrack.data.frame_archives import read_frames
from kinetrack.data.frames import extract_frames
from kinetrack.data.index import FramesRow
from kinetrack.data.packing import pack_clip
from kinetrack.data.sampling import uniform_indices
from kinetrack.errors import InputError
from kinetrack.learning.models.lecture_3dcnn import Lecture3dCnn

from factories import frames_row, write_data_set, write_video

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
    assert run._check_parts(None) == [part for part in run.PARTS if part != "train_steps"]
    assert run._check_parts(["train_steps", "train"]) == ["train", "train_steps"]


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(InputError, match="names no part, found speed, expected preprocess"):
        run._check_parts(["speed"])


def test_a_folder_without_real_clips_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="holds no ucf101_slice"):
        find_videos(tmp_path / "scratch")


def test_the_lectures_network_has_its_parameters() -> None:
    network = lecture_training.build_network(num_classes=5, size_px=224)
    assert sum(values.numel() for values in network.parameters()) == 74_597


def test_both_ways_train_the_same_function() -> None:
    torch.manual_seed(0)
    theirs = lecture_training.build_network(num_classes=3, size_px=40)
    ours = Lecture3dCnn(num_classes=3, num_frames=32, size_px=40)
    copied = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(copied))
    clips = torch.rand(2, 3, 32, 40, 40)
    torch.testing.assert_close(ours(clips).log_softmax(dim=1), theirs(clips))


@pytest.mark.parametrize(
    ("num_frames", "first", "last", "step"),
    [(32, 0, 31, 1), (63, 0, 31, 1), (64, 0, 62, 2), (180, 0, 155, 5)],
)
def test_the_lectures_loop_sees_the_frames_that_kinetrack_packs(
    num_frames: int, first: int, last: int, step: int
) -> None:
    clip = torch.arange(num_frames).expand(3, num_frames).reshape(3, num_frames, 1, 1)
    seen = lecture_training.pick_frames(clip)[0, :, 0, 0].tolist()
    assert (len(seen), seen[0], seen[-1], seen[1] - seen[0]) == (32, first, last, step)
    assert seen == list(uniform_indices(num_frames, 32))


def test_the_lectures_loop_trains_on_every_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side, clips in (("train", 3), ("test", 1)):
        for label in ("Jump", "Walk"):
            (tmp_path / side / label).mkdir(parents=True)
            for number in range(clips):
                torch.save(torch.rand(3, 33, 32, 32), tmp_path / side / label / f"{number}.pt")
    steps = lecture_training.train(tmp_path, epochs=2, batch_size=4, size_px=32, scores_test=True)
    assert [step.clips for step in steps] == [4, 2, 4, 2]
    assert [line[:8] for line in capsys.readouterr().out.splitlines()] == ["epoch 1:", "epoch 2:"]


def test_the_lectures_loop_takes_steps_of_its_optimiser() -> None:
    torch.manual_seed(0)
    network = lecture_training.build_network(num_classes=2, size_px=32)
    batch = (torch.rand(2, 3, 32, 32, 32), torch.tensor([0, 1]))
    loss = partial(torch.nn.functional.nll_loss, target=batch[1])
    before = loss(network(batch[0])).item()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.001)
    lecture_training.train_one_epoch(network, [batch] * 5, optimiser)  # type: ignore[arg-type]
    assert loss(network(batch[0])).item() < before


def test_the_first_step_of_the_lectures_loop_is_told_apart() -> None:
    steps = [lecture_training.Step(*values) for values in ((32, 90.0, 5.0), (32, 8.0, 1.0))]
    expected = {"clips": 32, "seconds": 8.0, "load_s": 1.0, "clips_per_s": 4.0}
    assert lecture_training.summarise(steps) == {**expected, "first_step_s": 90.0}
    assert lecture_training.summarise(steps[:1])["seconds"] == 90.0


@pytest.mark.parametrize("network", ["lecture's", "Kinetrack's"])
def test_a_training_clip_costs_45_9_gflop(network: str) -> None:
    if network == "lecture's":
        built: torch.nn.Module = lecture_training.build_network(num_classes=5, size_px=224)
    else:
        built = Lecture3dCnn(num_classes=5, num_frames=32, size_px=224)
    gflop = arithmetic.count_training_gflop(built, num_frames=32, size_px=224)
    assert gflop == pytest.approx(45.93, abs=0.005)


def test_the_matrix_product_leaves_the_threads_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arithmetic, "_SIDES", (16, 32))
    monkeypatch.setattr(arithmetic, "_SECONDS_EACH", 1e-6)
    threads = torch.get_num_threads()
    assert arithmetic.measure_matrix_gflops(torch.bfloat16, threads=threads + 1) > 0
    assert torch.get_num_threads() == threads


def _rows(count: int, *, num_frames: int = 100) -> list[FramesRow]:
    return [
        frames_row(f"{number:03}", label=f"Class{number * 4 // count}", group="").model_copy(
            update={"num_frames": num_frames}
        )
        for number in range(count)
    ]


# Of 100 frames of 224 px, the lecture's file of a clip takes 60.2 MB, and its loop 9.6 GB.
@pytest.mark.parametrize(
    ("rows", "disk_gb", "memory_gb", "expected"),
    [
        (200, 50, 20, 64),
        (200, 3, 20, 32),
        (200, 50, 12, 32),
        (200, 50, 1, 32),
        (79, 50, 20, 32),
        (80, 50, 20, 64),
    ],
)
def test_as_many_clips_are_trained_on_as_there_is_room_for(
    rows: int, disk_gb: int, memory_gb: int, expected: int
) -> None:
    found = training_clips.count_clips(
        _rows(rows), training.LARGE, disk_bytes=disk_gb * 1e9, memory_bytes=memory_gb * 1e9
    )
    assert found == expected


@pytest.mark.parametrize(("rows", "disk_gb"), [(200, 1.9), (39, 50), (0, 50)])
def test_too_little_for_one_batch_is_said(rows: int, disk_gb: float) -> None:
    with pytest.raises(InputError, match="no room or clips for one batch of 32 at 224 px"):
        training_clips.count_clips(
            _rows(rows), training.LARGE, disk_bytes=disk_gb * 1e9, memory_bytes=20e9
        )


def test_the_clips_to_train_on_are_of_all_classes() -> None:
    sides = training_clips.choose_sides(_rows(200), clips=64)
    trained = [row.label for row, side in sides if side == "train"]
    assert (len(trained), len(sides)) == (64, 80)
    assert {trained.count(label) for label in set(trained)} == {16}


def test_the_lectures_tensors_have_the_pixels_that_kinetrack_packs(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v_Walk_g01_c01.avi", num_frames=12, width=96, height=72)
    archive = tmp_path / "frames/Walk/v_Walk_g01_c01.zip"
    archive.parent.mkdir(parents=True)
    extract_frames(video, archive, gaps="repeat", jpeg_quality=95, jpeg_subsampling="4:2:0")
    row = frames_row("v_Walk_g01_c01", label="Walk", group="01").model_copy(
        update={"num_frames": 12}
    )
    other = frames_row("v_Walk_g02_c01", label="Walk", group="02")
    training_clips.write_lecture_tensors(
        tmp_path / "frames",
        tmp_path / "lecture",
        [(row, "train"), (other, "test")],
        Plan(32, 40, clips=1),
    )
    (path,) = (tmp_path / "lecture").rglob("*.pt")
    assert path == tmp_path / "lecture/train/Walk/v_Walk_g01_c01.pt"
    packed = pack_clip(archive, range(12), crop="center", resize_px=40, size_px=32)
    assert torch.equal(torch.load(path, weights_only=True), packed / 255)


def _compare(plan: Plan, speeds: dict[Way, tuple[float, float]]) -> Comparison:
    trainings = {
        way: [Training(speed, 0.01, 10**9, score_s=0.1) for speed in pair]
        for way, pair in speeds.items()
    }
    return Comparison(plan, plan.clips, trainings, {"fp32": 400.0, "bf16": 800.0}, notes=[])


def test_the_figures_of_training_are_medians_over_the_rounds() -> None:
    large = _compare(
        training.LARGE,
        {"lecture": (0.8, 1.2), "fp32": (6, 8), "bf16": (9, 11), "processes2": (7, 7.7)},
    )
    small = _compare(training.SMALL, {"lecture": (4, 6), "fp32": (20, 22), "bf16": (25, 35)})
    ratios = {figure.key: figure.value for figure in compare_speeds(large, small)}
    assert ratios == pytest.approx(
        {
            "train.fp32.ratio": 7.0,
            "train.bf16.ratio": 10.0,
            "train.px112.ratio": 4.2,
            "train.px112.bf16_ratio": 6.0,
            "train.processes2.ratio": 1.05,
        }
    )
    costs = {figure.key: figure.value for figure in tell_costs(large, small)}
    assert costs["train.epoch224_s"] == pytest.approx(492 / 7 + 13.3)
    assert large.gflops("bf16") == pytest.approx(459.3, abs=0.1)


@pytest.mark.parametrize(
    "techniques", [["pool_first"], ["channels_last"], ["pool_first", "micro_batches"]]
)
def test_a_step_towards_faster_training_keeps_the_gradient(techniques: list[str]) -> None:
    torch.manual_seed(0)
    clips = torch.randint(256, (5, 3, 32, 32, 32), dtype=torch.uint8)
    targets = torch.tensor([0, 1, 2, 3, 4])
    plain = training_steps.make_network([], size_px=32)
    faster = training_steps.make_network(techniques, size_px=32)
    faster.load_state_dict(dict(zip(faster.state_dict(), plain.state_dict().values(), strict=True)))
    for network, used in ((plain, []), (faster, techniques)):
        still = torch.optim.SGD(network.parameters(), lr=0)
        training_steps.take_step(network, clips, targets, still, used)
    for expected, found in zip(plain.parameters(), faster.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-6)


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
def test_both_ways_train_on_the_same_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "ROUNDS", 1)
    monkeypatch.setattr(training, "measure_matrix_gflops", lambda _, threads: 100.0)
    videos = write_data_set(tmp_path / "videos", groups=3, num_frames=33)
    write_video(tmp_path / "videos/Walk/v_Walk_g09_c01.avi", num_frames=20)  # too short
    videos = sorted((tmp_path / "videos").glob("*/*.avi"))
    tiny = Plan(32, 40, clips=4, batch_size=2)
    values = flatten(training.run(videos, tmp_path / "scratch", large=tiny, small=tiny))
    assert values["train.clips"] == values["train.px112.clips"] == 4
    assert values["train.gemm_share"] == pytest.approx(values["train.gflops"] / 100, abs=1e-3)
    assert {key for key in values if key.endswith("ratio")} == {
        "train.fp32.ratio",
        "train.bf16.ratio",
        "train.px112.ratio",
        "train.px112.bf16_ratio",
        "train.processes2.ratio",
    }
    assert 0 < values["load_share"] < 1
    assert values["train.epoch224_s"] > 492 / values["train.fp32.clips_per_s"]
    assert not (tmp_path / "scratch/kinetrack/lecture").exists()


@pytest.mark.slow
def test_each_step_towards_faster_training_is_timed_on_top_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_steps, "_has_compiler", lambda: False)
    found = training_steps.run(tmp_path / "scratch", size_px=32, batch_size=8)
    names = ["plain", "heap", "pool_first", "channels_last", "micro_batches", "bf16"]
    speeds = [figure.key for figure in found.figures if figure.key.endswith(".clips_per_s")]
    assert speeds == [f"train_steps.{name}.clips_per_s" for name in names]
    assert "No C++ compiler here" in found.notes[-1]


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
