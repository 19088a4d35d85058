"""Functions that the child imports by name are the standard library's, or `exec` of a text."""

import contextlib
import ctypes
import multiprocessing
import operator
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import pytest

import kinetrack
from kinetrack.isolation import (
    CrashedError,
    StalledError,
    end_idle_children,
    report_progress,
    run_isolated,
)

# Tries for ever, inside C and without letting any other Python thread run.
HANG_IN_C = (re.match, "(a+)+$", "a" * 60 + "b")


def run(code: str, *, stall_s: float = 30) -> None:
    run_isolated(exec, code, {}, stall_s=stall_s)


def child_pid() -> int:
    return run_isolated(os.getpid, stall_s=30)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def test_result_comes_back_from_another_process() -> None:
    assert run_isolated(operator.neg, 3, stall_s=30) == -3
    assert child_pid() != os.getpid()


def test_child_is_kept_for_the_next_call() -> None:
    assert child_pid() == child_pid()


def test_what_the_function_raises_is_raised_here_and_the_child_kept() -> None:
    pid = child_pid()
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run_isolated(operator.truediv, 1, 0, stall_s=30)
    with pytest.raises(FileNotFoundError) as error:
        run_isolated(os.stat, "/no such file", stall_s=30)
    assert error.value.filename == "/no such file"
    assert child_pid() == pid


@pytest.mark.parametrize("hang", [(time.sleep, 1000), HANG_IN_C], ids=["sleep", "holds Python"])
def test_call_that_hangs_is_ended_and_the_next_one_works(
    hang: tuple[Callable[..., object]],
) -> None:
    pid, start = child_pid(), time.monotonic()
    with pytest.raises(StalledError, match=r"no progress for 0\.3 s"):
        run_isolated(*hang, stall_s=0.3)
    assert 0.3 <= time.monotonic() - start < 10
    assert not is_running(pid)
    assert run_isolated(operator.neg, 3, stall_s=30) == -3


def test_call_that_reports_progress_may_take_longer() -> None:
    code = "import time; from kinetrack.isolation import report_progress\n"
    run(code + "for _ in range(6): time.sleep(0.2); report_progress()", stall_s=0.8)
    with pytest.raises(StalledError):
        run(code + "report_progress(); time.sleep(60)", stall_s=0.8)


def test_child_runs_the_same_code() -> None:
    code = "__import__('kinetrack').__file__"
    assert run_isolated(eval, code, {}, stall_s=30) == kinetrack.__file__


def test_time_between_calls_is_no_stall() -> None:
    pid = run_isolated(os.getpid, stall_s=0.2)
    time.sleep(0.5)
    assert child_pid() == pid


def test_progress_outside_of_a_child_is_nothing() -> None:
    before, _ = signal.getitimer(signal.ITIMER_REAL)  # pytest's own limit may run
    report_progress()
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= before


@pytest.mark.parametrize(
    ("function", "args", "how"),
    [
        (ctypes.string_at, (0,), "SIGSEGV"),
        (os.abort, (), "SIGABRT"),
        (exec, ("import os; os.kill(os.getpid(), 9)", {}), "SIGKILL, perhaps for lack of memory"),
        (os._exit, (3,), "exit code 3"),
        (sys.exit, (4,), "exit code 4"),
    ],
)
def test_crash_is_told_and_the_next_call_works(
    function: Callable[..., object], args: tuple[object, ...], how: str
) -> None:
    with pytest.raises(CrashedError, match=f"^{how}$"):
        run_isolated(function, *args, stall_s=30)
    assert run_isolated(operator.neg, 3, stall_s=30) == -3


def test_child_that_was_ended_between_calls_is_no_crash() -> None:
    pid = child_pid()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not is_running(pid), seconds=5)
    assert child_pid() != pid


def test_what_cannot_be_sent_is_an_error_and_the_next_call_works() -> None:
    with pytest.raises(Exception, match="pickle"):
        run_isolated(lambda: 3, stall_s=30)
    with pytest.raises(TypeError, match="the answer cannot be sent: cannot pickle"):
        run_isolated(threading.Lock, stall_s=30)
    assert run_isolated(operator.neg, 3, stall_s=30) == -3


def test_relative_path_is_the_same_file_in_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_pid()
    monkeypatch.chdir(tmp_path)
    Path("here").touch()
    assert run_isolated(os.listdir, ".", stall_s=30) == ["here"]


def test_threads_call_at_once(tmp_path: Path) -> None:
    meet = (
        "import os, time\nos.mkdir(str(os.getpid()))\nwhile len(os.listdir()) < 3: time.sleep(0.01)"
    )
    call = f"import os; os.chdir({str(tmp_path)!r})\n{meet}"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, [call] * 3))
    assert len(list(tmp_path.iterdir())) == 3


def test_ctrl_c_ends_the_child() -> None:
    pid = child_pid()

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_isolated(time.sleep, 1000, stall_s=1000)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, old)
    assert not is_running(pid)


CALLER = """
import os, sys, threading, time
from kinetrack.isolation import run_isolated
print(run_isolated(os.getpid, stall_s=60), flush=True)
{then}
"""
HANGS = {
    "idle": "time.sleep(1000)",
    "busy": "run_isolated(time.sleep, 1000, stall_s=1000)",
    "hangs in C": "import re; run_isolated(re.match, '(a+)+$', 'a' * 60 + 'b', stall_s=1000)",
}


def start_caller(then: str) -> tuple[subprocess.Popen[str], int]:
    """A process that calls in a child; and the child's id."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER.format(then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def test_child_has_the_code_of_its_parent_after_a_model_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinetrack").mkdir()  # the package as a model carries it
    (tmp_path / "kinetrack" / "__init__.py").write_text("raise RuntimeError('the other one')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    end_idle_children()
    run(f"import kinetrack; assert kinetrack.__file__ == {kinetrack.__file__!r}")


@pytest.mark.parametrize("then", HANGS.values(), ids=HANGS)
def test_child_is_gone_within_a_second_of_its_killed_parent(then: str) -> None:
    process, pid = start_caller(then)
    time.sleep(0.3)
    assert is_running(pid)
    process.kill()
    process.communicate()
    assert wait_until(lambda: not is_running(pid), seconds=1)


def test_ctrl_c_on_the_terminal_does_not_reach_the_child() -> None:
    assert os.getpgid(child_pid()) != os.getpgid(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_process_group_leaves_no_child_and_no_noise_of_it(
    number: signal.Signals,
) -> None:
    process, pid = start_caller(HANGS["busy"])
    time.sleep(0.3)
    os.killpg(process.pid, number)
    _, noise = process.communicate(timeout=10)
    assert noise.count("KeyboardInterrupt") == (number == signal.SIGINT)  # the parent's own
    assert wait_until(lambda: not is_running(pid), seconds=1)


def test_end_of_the_program_ends_the_child_without_a_word() -> None:
    process, pid = start_caller("import warnings; warnings.simplefilter('always')")
    assert process.communicate(timeout=10) == ("", "")
    assert wait_until(lambda: not is_running(pid), seconds=1)


def call_from_here(number: int) -> int:
    return run_isolated(operator.neg, number, stall_s=30)


def test_it_works_in_worker_processes() -> None:
    results = joblib.Parallel(n_jobs=2)(
        joblib.delayed(run_isolated)(operator.neg, number, stall_s=30) for number in range(20)
    )
    assert results == [-number for number in range(20)]


def test_it_works_in_a_daemonic_process_and_in_a_fork() -> None:
    here = child_pid()
    process = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(7 if call_from_here(3) == -3 and child_pid() != here else 1),
        daemon=True,
    )
    process.start()
    process.join()
    assert process.exitcode == 7
    assert is_running(here)
    assert child_pid() == here


def test_child_that_cannot_start_is_no_crash_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    end_idle_children()
    monkeypatch.setattr("kinetrack.isolation._START", "raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="did not start"):
        run_isolated(operator.neg, 3, stall_s=30)
