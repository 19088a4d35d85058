"""Ctrl-C and SIGTERM while MLflow is written to: real signals to this process."""

import os
import signal
import threading

import pytest

from kinetrack.tracking.interrupts import held_back


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_one_waits_for_the_end_of_the_block():
    done = []

    def write() -> None:
        with held_back():
            interrupt()
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]


def test_the_second_one_does_not_wait():
    done = []

    def write() -> None:
        with held_back():
            interrupt()
            interrupt()
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == []


def test_sigterm_reaches_the_handler_that_was_there():
    came = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_handlers_are_put_back_after_an_error():
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="full"), held_back():
        raise ValueError("full")
    assert signal.getsignal(signal.SIGINT) is usual


def test_another_thread_leaves_the_handlers_alone():
    usual, seen = signal.getsignal(signal.SIGINT), []

    def block() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [usual]


def test_it_is_not_lost_when_the_block_fails() -> None:
    def write() -> None:
        with held_back():
            interrupt()
            raise TimeoutError

    with pytest.raises(KeyboardInterrupt):
        write()
