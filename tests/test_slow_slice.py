"""The slow tests that run in continuous integration: others every day, and all of them some day."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from slow_slice import PARTS, choose


@pytest.mark.parametrize("number", [0, 1, 5, PARTS, 331])
def test_in_so_many_days_all_have_their_turn_once(number: int) -> None:
    seen = Counter(item for day in range(PARTS) for item in choose(range(number), day))
    assert seen == dict.fromkeys(range(number), 1)


def test_each_comes_first_some_day() -> None:
    first = {choose(range(331), day)[0] for day in range(PARTS * 331)}
    assert first == set(range(331))


SUITE = """
import time, pytest

@pytest.mark.slow
@pytest.mark.parametrize("number", range(16))
def test_slow(number):
    {body}

def test_fast():
    raise AssertionError("no slow one")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "minutes", "exit_code", "told"),
    [
        ("pass", 5, 0, "1 passed"),
        ("assert number != 3", 5, 1, "1 failed"),
        ("time.sleep(300)", 0.1, 0, "left for another day:\n  test_some.py::test_slow[3]"),
    ],
    ids=["fits", "fails", "does-not-fit"],
)
def test_a_day_runs_its_part_and_names_what_did_not_fit(
    body: str, minutes: float, exit_code: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "test_some.py").write_text(SUITE.format(body=body))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    gpu\n")
    script = Path(__file__).with_name("slow_slice.py")
    ended = subprocess.run(
        [sys.executable, script, "--day", "3", "--minutes", str(minutes)],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == exit_code, ended.stdout + ended.stderr
    assert told in ended.stdout
    assert "slow tests: 1 of 16, those of day 3" in ended.stdout
