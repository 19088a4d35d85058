import operator
import os
import re
import time
from functools import partial
from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.parallel import (
    WORKERS_VARIABLE,
    count_workers,
    describe_progress,
    map_clips,
    with_progress,
)
from kinetrack.params import load_params

from dask_cluster import die


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_come_in_the_order_of_the_items(
    monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, workers)
    numbers = list(range(50))
    assert map_clips(operator.neg, numbers, description="test") == [-n for n in numbers]


def test_no_items_give_no_results() -> None:
    assert map_clips(operator.neg, [], description="test") == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_input_error_keeps_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, workers)
    paths = [tmp_path / f"{number}\n.yaml" for number in range(2)]
    with pytest.raises(InputError) as here:
        load_params(paths[0])
    with pytest.raises(InputError) as there:
        map_clips(load_params, paths[:1] * 4, description="test")
    assert str(there.value) == str(here.value)


def test_nothing_is_printed_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    map_clips(operator.neg, [1], description="test")
    assert capfd.readouterr() == ("", "")


def test_without_a_number_there_is_at_most_one_worker_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WORKERS_VARIABLE)
    assert 1 <= count_workers() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5", "²", "10000"])
def test_what_is_no_number_of_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, wanted)
    with pytest.raises(InputError, match=f"{WORKERS_VARIABLE}: is no number of workers"):
        count_workers()


def test_number_of_workers_is_a_fact_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "7")
    assert count_workers() == 7


def test_killed_worker_process_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    with pytest.raises(InputError, match=r"frames: a worker process .* -> set KINETRACK_WORKERS"):
        map_clips(partial(die, deadly=3), range(10), description="frames")
    assert map_clips(operator.neg, [1, 2], description="frames") == [-1, -2]


def test_lines_of_progress_come_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(0, 100_000, 25))
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    items = with_progress(range(100), total=100, description="frames")
    assert next(iter(items)) == 0
    assert list(items) == list(range(1, 100))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "frames: 3 of 100, 0.04 a second, 40 min left"
    assert len(lines) == 33


def test_bar_on_a_terminal_tells_rate_and_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    items = (number for number in range(30) if not time.sleep(0.02))
    assert list(with_progress(items, total=30, description="frames")) == list(range(30))
    assert re.search(r"frames.*30/30.* a second.*\d:\d\d:\d\d", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("done", "elapsed_s", "line"),
    [
        (1200, 91.6, "1200 of 13320, 13.1 a second, 15 min left"),
        (1, 100, "1 of 13320, 0.01 a second, 370.0 h left"),
        (13300, 13300, "13300 of 13320, 1.0 a second, 20 s left"),
        (8000, 8000, "8000 of 13320, 1.0 a second, 89 min left"),
    ],
)
def test_progress_in_words(done: int, elapsed_s: float, line: str) -> None:
    assert describe_progress(done, total=13320, elapsed_s=elapsed_s) == line
