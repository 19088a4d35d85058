"""The figures of the part `train`: speeds against the lecture's, memory, waiting, arithmetic."""

from collections.abc import Iterator
from statistics import median
from typing import Literal, NamedTuple

from benchmarks.arithmetic import count_training_gflop
from benchmarks.figures import GIGABYTE, Figure
from benchmarks.lecture_training import NUM_FRAMES
from benchmarks.training_clips import Plan
from kinetrack.learning.models.lecture_3dcnn import Lecture3dCnn

Way = Literal["lecture", "fp32", "bf16", "processes2"]
Precision = Literal["fp32", "bf16"]
_TRAIN_CLIPS, _TEST_CLIPS = 492, 133  # of the lecture's data set


class Training(NamedTuple):
    """What one training did once it was warm; `score_s` is what it took to score a test clip."""

    clips_per_s: float
    load_share: float
    peak_bytes: int
    score_s: float = 0.0


class Comparison(NamedTuple):
    """The trainings of each way, one a round, and the fastest matrix product meanwhile."""

    plan: Plan
    clips: int
    trainings: dict[Way, list[Training]]
    matrix_gflops: dict[Precision, float]
    notes: list[str]

    def speed(self, way: Way) -> float:
        """Clips a second, the median."""
        return median(training.clips_per_s for training in self.trainings[way])

    def ratio(self, way: Way) -> float:
        """How many times the lecture's speed."""
        return self.speed(way) / self.speed("lecture")

    def load_share(self, way: Way) -> float:
        """Share of the time that went into waiting for clips, the median."""
        return median(training.load_share for training in self.trainings[way])

    def peak_gb(self, way: Way) -> float:
        """Memory of the largest process."""
        return max(training.peak_bytes for training in self.trainings[way]) / GIGABYTE

    def gflops(self, precision: Precision) -> float:
        """Billions of floating-point operations a second in training."""
        size_px = self.plan.size_px
        network = Lecture3dCnn(num_classes=5, num_frames=NUM_FRAMES, size_px=size_px)
        each = count_training_gflop(network, num_frames=NUM_FRAMES, size_px=size_px)
        return self.speed(precision) * each

    def whole_epoch_s(self, precision: Precision) -> float:
        """Seconds of an epoch of the lecture's data set, its test clips scored."""
        score_s = median(training.score_s for training in self.trainings[precision])
        return _TRAIN_CLIPS / self.speed(precision) + _TEST_CLIPS * score_s


def compare_speeds(large: Comparison, small: Comparison) -> list[Figure]:
    """How many times the lecture's speed, and what a second process brings."""
    return [
        Figure("train.fp32.ratio", "clips/s, Kinetrack / lecture", large.ratio("fp32"), at_least=5),
        Figure("train.bf16.ratio", "... in bf16", large.ratio("bf16"), at_least=8),
        Figure("train.px112.ratio", "... at 112 px", small.ratio("fp32"), at_least=3),
        Figure("train.px112.bf16_ratio", "... at 112 px in bf16", small.ratio("bf16")),
        Figure(
            "train.processes2.ratio",
            "clips/s, two processes / one, the same threads",
            large.speed("processes2") / large.speed("fp32"),
            at_least=1.0,
        ),
    ]


def tell_costs(large: Comparison, small: Comparison) -> list[Figure]:
    """Memory, waiting for clips, and a whole epoch."""
    return [
        Figure("train.peak_gb", "GB of the largest process", large.peak_gb("fp32"), at_most=3),
        Figure("train.bf16.peak_gb", "... in bf16", large.peak_gb("bf16")),
        Figure("train.lecture.peak_gb", "... of the lecture's loop", large.peak_gb("lecture")),
        Figure(
            "load_share",
            "share of a step, waiting for clips",
            large.load_share("fp32"),
            at_most=0.02,
        ),
        Figure("train.bf16.load_share", "... in bf16", large.load_share("bf16")),
        Figure("train.px112.load_share", "... at 112 px", small.load_share("fp32")),
        Figure(
            "train.lecture.load_share", "... of the lecture's loop", large.load_share("lecture")
        ),
        Figure(
            "train.epoch224_s",
            "s an epoch of 492 clips, 133 scored",
            large.whole_epoch_s("fp32"),
        ),
        Figure("train.bf16.epoch224_s", "... in bf16", large.whole_epoch_s("bf16")),
    ]


def tell_arithmetic(large: Comparison) -> Iterator[Figure]:
    """How much of what the processor can do the training does."""
    keys: dict[Precision, str] = {"fp32": "train", "bf16": "train.bf16"}
    for precision, key in keys.items():
        reached, peak = large.gflops(precision), large.matrix_gflops[precision]
        yield Figure(f"{key}.gflops", f"GFLOP/s of the training, {precision}", reached)
        yield Figure(f"{key}.gemm_gflops", "... of a large matrix product", peak)
        yield Figure(f"{key}.gemm_share", "... training / matrix product", reached / peak)


def tell_speeds(comparison: Comparison, key: str) -> list[Figure]:
    """Clips a second of each way."""
    return [
        Figure(f"{key}.{way}.clips_per_s", "clips/s, median", comparison.speed(way))
        for way in comparison.trainings
    ]
