import operator
import os
from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.parallel import WORKERS_VARIABLE, count_workers, map_clips
from kinetrack.params import load_params


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
