import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetrack.versioning.at_work import find_command_at_work, is_left_alone


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(root: Path, content: object) -> None:
    path = root / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def entry(pid: object) -> dict[str, object]:
    return {"pid": pid, "cmd": f"dvc repro of {pid}"}


def test_a_dvc_that_lives_is_at_work(tmp_path: Path, dead: int) -> None:
    write(tmp_path, {"a": {"write": entry(dead)}, "b": {"read": [entry(dead), entry(os.getpid())]}})
    assert find_command_at_work(tmp_path) == f"dvc repro of {os.getpid()}"
    assert not is_left_alone(tmp_path)


def test_a_dvc_that_died_has_left_its_stage_alone(tmp_path: Path, dead: int) -> None:
    write(tmp_path, {"a": {"write": entry(dead)}, "b": {"read": [entry(dead)]}})
    assert find_command_at_work(tmp_path) is None
    assert is_left_alone(tmp_path)


@pytest.mark.parametrize("content", [None, {}, {"a": {}}])
def test_who_says_nothing_is_neither_at_work_nor_dead(tmp_path: Path, content: object) -> None:
    if content is not None:
        write(tmp_path, content)
    assert find_command_at_work(tmp_path) is None
    assert not is_left_alone(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": {"write": 7}}', "\x00"])
def test_a_file_of_another_kind_says_nothing_for_sure(tmp_path: Path, content: str) -> None:
    write(tmp_path, content)
    assert find_command_at_work(tmp_path) == "unknown"
    assert not is_left_alone(tmp_path)


@pytest.mark.parametrize("pid", ["1", None, 0, -1, 1.5])
def test_what_is_no_process_lives_no_more(tmp_path: Path, pid: object) -> None:
    write(tmp_path, {"a": {"write": entry(pid)}})
    assert find_command_at_work(tmp_path) is None
    assert is_left_alone(tmp_path)
