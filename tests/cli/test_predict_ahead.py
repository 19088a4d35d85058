import threading
import time
from pathlib import Path

import psutil
import pytest

from kinetrack.cli.predict.ahead import map_ahead
from kinetrack.isolation import run_isolated


def test_results_come_in_the_order_of_the_items() -> None:
    def slower_first(number: int) -> int:
        time.sleep(0.02 / (number + 1))
        return number * number

    found = map_ahead(slower_first, range(20), workers=4, at_once=6)
    assert list(found) == [number * number for number in range(20)]


@pytest.mark.parametrize("at_once", [1, 3])
def test_only_some_are_begun_and_not_taken(at_once: int) -> None:
    begun: list[int] = []
    results = map_ahead(begun.append, range(10), workers=2, at_once=at_once)
    for taken in range(1, 11):
        next(results)
        assert len(begun) < taken + at_once
    assert sorted(begun) == list(range(10))


def test_items_are_named_when_they_are_due() -> None:
    named: list[int] = []

    def items() -> object:
        for number in range(10):
            named.append(number)
            yield number

    results = map_ahead(str, items(), workers=1, at_once=2)  # type: ignore[arg-type]
    assert next(results) == "0"
    assert named == [0, 1]
    results.close()


def test_error_comes_through_and_ends_the_rest() -> None:
    begun: list[int] = []
    first_may_end = threading.Event()

    def fail(number: int) -> None:
        begun.append(number)
        first_may_end.wait(5)
        raise ValueError(f"number {number}")

    results = map_ahead(fail, range(10), workers=1, at_once=10)
    first_may_end.set()
    with pytest.raises(ValueError, match="number 0"):
        next(results)
    assert len(begun) < 10


def test_child_processes_that_decode_are_ended(tmp_path: Path) -> None:
    ended: list[str] = []

    def decode(number: int) -> None:
        if number == 0:
            return
        try:
            run_isolated(time.sleep, 1000, stall_s=1000)
        except Exception as error:
            ended.append(str(error))

    results = map_ahead(decode, range(5), workers=2, at_once=5)
    next(results)
    while not _decoding():
        time.sleep(0.02)
    results.close()
    assert _decoding() == []
    assert 1 <= len(ended) <= 2
    assert "SIGKILL" in ended[0] or "did not start" in ended[0]


def _decoding() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [one for one in children if any("kinetrack.isolation" in part for part in one.cmdline())]
