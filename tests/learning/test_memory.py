import ctypes
import sys

import pytest

from kinetrack.learning import memory


class Libc:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, option: int, value: int) -> int:
        self.calls.append((option, value))
        return 1


def test_nothing_is_mapped_and_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    memory.reuse_heap()
    m_mmap_max, m_trim_threshold = -4, -1  # of <malloc.h>
    assert dict(libc.calls) == {m_mmap_max: 0, m_trim_threshold: 2**31 - 1}


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    libc = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    monkeypatch.setattr(sys, "platform", platform)
    memory.reuse_heap()
    assert libc.calls == []
