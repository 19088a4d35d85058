"""Run some of the slow tests, others every day, for so many minutes: `make test-slice`.

Parts follow each other day by day, and each part begins elsewhere the next time. So each test has
its turn, whatever fits. What does not fit is named and is no failure.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count
from math import gcd
from threading import Timer
from typing import TypeVar

import pytest

PARTS = 16
Item = TypeVar("Item")


def choose(items: Sequence[Item], day: int) -> list[Item]:
    """The part of a day, and where in it the day begins."""
    turn, number = divmod(day, PARTS)
    first, end = (len(items) * each // PARTS for each in (number, number + 1))
    part = list(items[first:end])
    if not part:
        return []
    # In leaps of a third that miss nobody: all have their turn in a part that never fits whole.
    leap = next(n for n in count(len(part) // 3 + 1) if gcd(n, len(part)) == 1)
    start = turn * leap % len(part)
    return part[start:] + part[:start]


class Slice:
    """Has pytest run the part of a day, as long as there is time."""

    def __init__(self, day: int) -> None:
        self._day = day
        self.waiting: list[str] = []
        self.has_failed = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Take the part of the day."""
        slow = [item for item in items if item.get_closest_marker("slow")]
        chosen = choose([item for item in slow if not item.get_closest_marker("gpu")], self._day)
        sys.stdout.write(f"slow tests: {len(chosen)} of {len(slow)}, those of day {self._day}\n")
        items[:] = chosen
        self.waiting = [item.nodeid for item in chosen]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what failed."""
        self.has_failed |= report.failed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note what has run."""
        self.waiting.remove(nodeid)


def run(day: int, *, minutes: float) -> int:
    """Run a day's part; the exit code."""
    chosen = Slice(day)
    bell = Timer(minutes * 60, os.kill, (os.getpid(), signal.SIGINT))
    bell.daemon = True
    bell.start()
    code = pytest.main(["-q", "--durations=10"], plugins=[chosen])
    is_over = not bell.is_alive()
    bell.cancel()
    if not is_over:
        return code
    left = "".join(f"  {name}\n" for name in chosen.waiting)
    sys.stdout.write(f"\nafter {minutes:g} minutes, left for another day:\n{left}")
    return int(chosen.has_failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--day", type=int, default=int(time.time() // 86_400))
    options = parser.parse_args()
    sys.exit(run(options.day, minutes=options.minutes))
