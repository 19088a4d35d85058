from pathlib import Path
from typing import Any

import pytest

from kinetrack.data.tensors import read_sides
from kinetrack.using.examples import surest_errors
from kinetrack.using.report import (
    Made,
    class_shares,
    describe_sides,
    least_sure_hits,
)

from factories import write_packed
from reports_made import make_report, write_test_clips


def row(clip: str, actual: str, predicted: str, probability: float) -> dict[str, str]:
    return {"clip": clip, "actual": actual, "predicted": predicted, "probability": str(probability)}


ROWS = [
    row("a", "Jump", "Walk", 0.6),
    row("b", "Jump", "Jump", 0.9),
    row("c", "Walk", "Jump", 0.8),
    row("d", "Walk", "Walk", 0.51),
    row("e", "Jump", "Walk", 0.8),
]


def test_the_surest_errors_come_first() -> None:
    assert [one["clip"] for one in surest_errors(ROWS)] == ["e", "c", "a"]


def test_the_least_sure_hits_come_first() -> None:
    assert [one["clip"] for one in least_sure_hits(ROWS, most=9)] == ["d", "b"]


def test_shares_are_sorted_and_a_column_that_is_missing_counts_as_0() -> None:
    shares = class_shares({"p_A": "0.2", "p_B": "0.8"}, ["A", "B", "C"])
    assert shares == [("B", 0.8), ("A", 0.2), ("C", 0)]


def test_sides_are_counted_by_class_and_group(tmp_path: Path) -> None:
    sides = read_sides(write_packed(tmp_path, clips_per_class=3))
    found = describe_sides([*sides["train"].rows, *sides["test"].rows])
    assert [(one.side, one.num_clips, one.num_groups) for one in found] == [
        ("train", 6, 1),
        ("test", 6, 1),
    ]
    assert found[0].clips_by_class == {"Jump": 3, "Walk": 3}


def test_confused_pairs_are_counted_the_most_frequent_first(tmp_path: Path) -> None:
    report = make_report(write_test_clips(tmp_path), wrong=(0, 1, 4))
    assert [(one.actual, one.predicted, one.num_clips) for one in report.confused] == [
        ("Jump", "Walk", 2),
        ("Walk", "Jump", 1),
    ]
    assert report.confused[0].share == pytest.approx(2 / 3, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "caveat"),
    [
        ({}, "With 6 test clips, one clip is 16.7 percentage points."),
        (
            {},
            "With only 3 groups, the interval is too narrow: "
            "it misses the truth in more than 5 of 100 cases.",
        ),
        (
            {"params": {"augment": {"mixup": 0.2}}},
            "Its training accuracy is of mixed clips (augment.mixup): low however well it goes.",
        ),
        ({"wrong": (0, 2, 4)}, "The interval holds the score of always naming the largest class."),
        (
            {"params": {"train": {"watch": ["val", "test"]}}},
            "The test side was looked at after every epoch.",
        ),
        ({"made": Made(has_changes=True)}, "The commit that trained it had uncommitted changes."),
    ],
)
def test_what_weakens_the_figures_is_said(
    tmp_path: Path, changes: dict[str, Any], caveat: str
) -> None:
    assert caveat in make_report(write_test_clips(tmp_path), **changes).caveats


@pytest.mark.parametrize(("wrong", "accuracy"), [((), 1), ((0, 2, 4), 0.5)])
def test_interval_where_all_groups_are_alike_is_not_called_too_narrow(
    tmp_path: Path, wrong: tuple[int, ...], accuracy: float
) -> None:
    report = make_report(write_test_clips(tmp_path), wrong=wrong)
    assert report.metrics["accuracy"] == accuracy
    assert not any("too narrow" in caveat for caveat in report.caveats)


def test_nothing_is_held_against_sound_figures(tmp_path: Path) -> None:
    report = make_report(write_test_clips(tmp_path))
    metrics = {**report.metrics, "num_clips": 500, "num_groups": 40, "accuracy_low": 0.8}
    assert report._replace(metrics=metrics).caveats == []
    one_group = report._replace(metrics={**metrics, "num_groups": 1})
    assert one_group.caveats == ["All test clips are of one group: it says nothing of others."]
