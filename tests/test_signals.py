"""Signals in processes of their own."""

import signal
import subprocess
import sys

import pytest

CODE = """
import gc, signal, sys, time
from kinetrack.signals import exit_when_asked

class Cycle:
    def __del__(self):
        signal.raise_signal({number})
        time.sleep(0)  # where Python looks for signals

exit_when_asked()
cycle = Cycle()
cycle.itself = cycle
del cycle
gc.collect()
print("goes on", flush=True)
try:
    time.sleep(60)
finally:
    print("cleared up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_exception_that_python_drops_comes_again(number: signal.Signals) -> None:
    ended = run(CODE.format(number=int(number)))
    assert ended.stdout.splitlines() == ["goes on", "cleared up"], ended.stderr
    assert ended.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("raised", ["SystemExit(1)", "ValueError('other')"])
def test_other_exceptions_are_told_as_python_tells_them(raised: str) -> None:
    ended = run(
        "from kinetrack.signals import exit_when_asked\n"
        "exit_when_asked()\n"
        "class Ending:\n"
        "    def __del__(self):\n"
        f"        raise {raised}\n"
        "Ending()\n"
        "print('done')\n"
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")
    assert "Exception ignored" in ended.stderr


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
