import errno
import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import pytest

from kinetrack import disk, files
from kinetrack.errors import InputError, WriteError
from kinetrack.files import (
    append_line,
    atomic_file,
    atomic_folder,
    copy_file,
    file_md5,
    is_being_written,
    open_unfinished,
    remove_partials,
    remove_partials_of,
    write_alone,
    write_json,
    write_text,
)

from failing_disk import FailingDisk, Trouble


class Stop(BaseException):
    """Stands for Ctrl-C: no `Exception`."""


def fail_in_file(path: Path, error: type[BaseException]) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise error


def fail_in_folder(path: Path, error: type[BaseException]) -> None:
    with atomic_folder(path) as folder:
        (folder / "half.txt").touch()
        raise error


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_file_appears_with_the_folders_above_it(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a/b/c.bin") as file:
        file.write(b"new")
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"new"
    assert names_below(tmp_path) == ["a", "a/b", "a/b/c.bin"]


def test_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_file(path) as file:
        file.write(b"half")
        assert not path.exists()
        assert all(name.startswith(".") for name in names_below(tmp_path))


def test_bytes_are_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, found = tmp_path / "a.bin", os.fsync, []

    def note(number: int) -> None:
        found.append((os.fstat(number).st_size, path.exists()))
        sync(number)

    monkeypatch.setattr(os, "fsync", note)
    with atomic_file(path) as file:
        file.write(b"new")
    assert found == [(3, False)]
    append_line(path, "line")
    assert found[1:] == [(9, True)]


@pytest.fixture
def common_umask() -> Iterator[None]:
    """What a new file may not have, as on most machines."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("common_umask")
def test_others_may_read_a_file_and_nobody_runs_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_two_files_of_a_folder_may_be_written_at_once(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as a, atomic_file(tmp_path / "b") as b:
        a.write(b"a")
        b.write(b"b")
    assert (tmp_path / "a").read_bytes() == b"a"
    assert (tmp_path / "b").read_bytes() == b"b"


def test_two_machines_may_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for machine in ("one", "other"):  # in a folder that they share, and with one process id
        monkeypatch.setattr(platform, "node", lambda machine=machine: machine)
        with atomic_file(tmp_path / "a") as file:
            names.add(file.name)
    assert len(names) == 2


def test_an_unfinished_file_may_be_written_by_its_name(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as file, open_unfinished(Path(file.name)) as again:
        again.write(b"new")
        again.seek(0)
        assert again.read() == b"new"
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_file_after_an_error_is_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error):
        fail_in_file(path, error)
    assert path.read_bytes() == b"old"
    assert names_below(tmp_path) == ["a.bin"]


def test_file_that_cannot_take_its_name_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(WriteError, match="Is a directory"), atomic_file(tmp_path / "a") as file:
        file.write(b"new")
    assert names_below(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "name",
    [
        "-a.txt",
        "a b\n🏃.txt",
        "a" * 251 + ".txt",
        pytest.param(
            "あ" * 83 + ".txt",
            id="253 bytes",
        ),
    ],
)
def test_file_may_have_any_name_that_a_disk_takes(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "new")
    assert names_below(tmp_path) == [name]


def test_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a/data"
    path.mkdir(parents=True)
    (path / "old.txt").touch()
    with atomic_folder(path) as folder:
        (folder / "new.txt").touch()
        assert names_below(path) == ["old.txt"]
    assert names_below(tmp_path) == ["a", "a/data", "a/data/new.txt"]


def test_folder_appears_with_those_above_it(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a/b/data") as folder:
        (folder / "new.txt").touch()
    assert names_below(tmp_path) == ["a", "a/b", "a/b/data", "a/b/data/new.txt"]


class Clock:
    """Time that only sleeping takes; it calls once when so much has gone by."""

    def __init__(self, call: Callable[[], object], *, after_s: float) -> None:
        self.slept_s, self._asked = 0.0, 0
        self._call, self._after_s = call, after_s

    def monotonic(self) -> float:
        self._asked += 1
        assert self._asked < 1000, "nobody sleeps"
        return 1000 + self.slept_s

    def sleep(self, duration_s: float) -> None:
        is_before = self.slept_s < self._after_s
        self.slept_s += duration_s
        if is_before and self.slept_s >= self._after_s:
            self._call()


def test_a_second_writer_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as first:
        first.enter_context(write_alone(tmp_path / "data"))
        clock = Clock(first.close, after_s=3)
        monkeypatch.setattr(files, "time", clock)
        with atomic_folder(tmp_path / "data") as folder:
            (folder / "new.txt").touch()
    assert clock.slept_s == pytest.approx(3, abs=0.1)
    assert names_below(tmp_path) == ["data", "data/new.txt"]


def test_a_second_writer_is_refused_after_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(lambda: None, after_s=99)
    monkeypatch.setattr(files, "time", clock)
    with (
        write_alone(tmp_path / "data"),
        pytest.raises(InputError, match="data: is being written by another process"),
        write_alone(tmp_path / "data"),
    ):
        pytest.fail("two write")
    assert clock.slept_s == pytest.approx(5, abs=0.2)
    assert names_below(tmp_path) == []


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(WriteError, match="data: cannot be written, found No locks available"),
        write_alone(tmp_path / "data"),
    ):
        pytest.fail("nobody knows who writes")


def test_whether_something_is_being_written_can_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert is_being_written(path) is False
    with write_alone(path):
        assert is_being_written(path) is True
    (tmp_path / ".data.lock").touch()  # as a killed writer leaves it
    assert is_being_written(path) is False


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_folder_after_an_error_is_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(error):
        fail_in_folder(path, error)
    assert (path / "old.txt").read_text() == "old"
    assert names_below(tmp_path) == ["data", "data/old.txt"]


def test_folder_does_not_keep_what_a_killed_writer_left(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "data") as folder:
        place = folder
    place.mkdir()
    (place / "half.txt").touch()
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "new.txt").touch()
    assert names_below(tmp_path) == ["data", "data/new.txt"]


def test_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ß\n走る\n")
    assert (tmp_path / "a.txt").read_bytes() == "ß\n走る\n".encode()


def test_json_is_readable_and_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ß": [1, 0.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "ß": [\n    1,\n    0.5\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_refuses_what_it_has_no_word_for(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": value})
    assert names_below(tmp_path) == []


def test_md5_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert file_md5(tmp_path / "a") == hashlib.md5(b"x" * 100_000).hexdigest()


def test_folder_that_cannot_take_its_name_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.mkdir()
    write_text(path / "old.txt", "old")

    class Refusing(disk.Operations):
        def rename(self, source: Path, target: Path) -> None:
            if source.name.endswith(".partial"):
                raise OSError(errno.EACCES, "no")
            super().rename(source, target)

    monkeypatch.setattr(disk, "operations", Refusing())
    with (
        pytest.raises(WriteError, match="data: cannot be written, found no"),
        atomic_folder(path) as folder,
    ):
        (folder / "new.txt").touch()
    assert names_below(tmp_path) == ["data", "data/old.txt"]


@pytest.mark.parametrize("content", [b"", b"x" * 100_000])
@pytest.mark.parametrize("shares_blocks", [True, False])
def test_copy_has_the_content_whatever_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, shares_blocks: bool
) -> None:
    if not shares_blocks:
        monkeypatch.setattr(os, "copy_file_range", _refuse)
    (tmp_path / "source").write_bytes(content)
    copy_file(tmp_path / "source", tmp_path / "folder/copy")
    assert (tmp_path / "folder/copy").read_bytes() == content
    (tmp_path / "folder/copy").write_bytes(b"edited")
    assert (tmp_path / "source").read_bytes() == content


def test_copy_that_breaks_off_in_the_middle_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_range = os.copy_file_range

    def copy_a_part(source: int, target: int, count: int) -> int:
        monkeypatch.setattr(os, "copy_file_range", _refuse)
        return copy_range(source, target, 10)

    monkeypatch.setattr(os, "copy_file_range", copy_a_part)
    (tmp_path / "source").write_bytes(b"0123456789" * 3)
    copy_file(tmp_path / "source", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"0123456789" * 3


def _refuse(*_: object) -> int:
    raise OSError(18, "Invalid cross-device link")


def test_partials_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".1234abcd.77.partial", "kept.partial", ".kept"):
        (tmp_path / name).write_text("")
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kept", "kept.partial"]
    remove_partials(tmp_path / "absent")


def test_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.txt"
    for line in ("one", "zwei ü"):
        append_line(path, line)
    assert path.read_text(encoding="utf-8") == "one\nzwei ü\n"


def test_line_that_a_kill_has_torn_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one\ntw")
    append_line(path, "three")
    assert path.read_text() == "one\ntw\nthree\n"


def test_a_single_letter_that_a_kill_has_left_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("t")
    append_line(path, "three")
    assert path.read_text() == "t\nthree\n"


def test_line_without_room_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.mkdir()
    with pytest.raises(WriteError, match=r"lines\.txt: cannot be written"):
        append_line(path, "one")


def write_a_file(place: Path) -> None:
    write_text(place / "a", "new" * 10_000)


def write_a_folder(place: Path) -> None:
    with atomic_folder(place / "a") as folder:
        write_text(folder / "one", "new")
        write_text(folder / "two", "new")


def copy_to_a_file(place: Path) -> None:
    copy_file(place.with_name("source"), place / "a")


def add_a_line(place: Path) -> None:
    append_line(place / "a", "new")


def contents(place: Path) -> dict[str, str]:
    """All files but those that are hidden, as text by path."""
    paths = [path for path in place.rglob("*") if path.is_file()]
    named = {path.relative_to(place).as_posix(): path.read_text() for path in paths}
    return {name: text for name, text in named.items() if not name.startswith(".")}


@pytest.mark.parametrize("trouble", ["full", "dead"])
@pytest.mark.parametrize("write", [write_a_file, write_a_folder, copy_to_a_file, add_a_line])
def test_disk_that_fails_at_any_operation(
    write: Callable[[Path], None],
    trouble: Trouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old content stays or the new one is there, and the next try ends well."""
    (tmp_path / "source").write_text("new")
    for passing in count():
        place = tmp_path / str(passing)
        place.mkdir()
        if write is write_a_folder:
            (place / "a").mkdir()
        (place / ("a/one" if write is write_a_folder else "a")).write_text("old\n")
        old, marker = contents(place), tmp_path / f"failed {passing}"
        with monkeypatch.context() as failing:
            failing.setattr(disk, "operations", FailingDisk(passing, trouble, marker))
            with suppress(WriteError):
                write(place)
        half = contents(place)
        if not half:  # between the two renames of a folder: the next try finds it
            assert (place / ".a.earlier/one").read_text() == "old\n"
        write(place)
        new = contents(place)
        if write is add_a_line:  # it may be there twice, or half
            assert half["a"].startswith("old\n")
            assert new["a"].endswith("\nnew\n")
        else:
            assert half in (old, new, {}), passing
        assert [path.name for path in place.iterdir()] == ["a"], passing
        if not marker.exists():
            break
    assert passing >= 3
    assert new != old


def test_folder_that_lies_between_two_renames_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".data.earlier").mkdir()
    (tmp_path / ".data.earlier/old.txt").touch()
    with pytest.raises(ValueError, match="no"), atomic_folder(tmp_path / "data"):
        raise ValueError("no")
    assert names_below(tmp_path) == ["data", "data/old.txt"]


def test_folder_that_is_put_back_can_be_read_while_the_new_one_is_written(tmp_path: Path) -> None:
    (tmp_path / ".data.earlier").mkdir()
    (tmp_path / ".data.earlier/old.txt").touch()
    with atomic_folder(tmp_path / "data"):
        assert names_below(tmp_path / "data") == ["old.txt"]
    assert names_below(tmp_path) == ["data"]


def test_only_what_dead_writers_of_one_file_have_left_is_removed(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as file:
        name = Path(file.name).name
    start = name.split(".")[1]
    for kept in (f".{start}.{os.getppid()}.partial", ".00000000.99999999.partial"):
        (tmp_path / kept).touch()
    (tmp_path / f".{start}.99999999.partial").touch()  # beyond the largest process id
    remove_partials_of(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["a", f".{start}.{os.getppid()}.partial", ".00000000.99999999.partial"]
    )


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    monkeypatch.setattr(disk, "operations", FailingDisk(0, "dead", tmp_path / "marker"))
    with pytest.raises(WriteError, match=r"a: cannot be removed, found Input/output error"):
        files.remove(tmp_path / "a")
    files.discard(tmp_path / "a")
    assert (tmp_path / "a").exists()
    files.remove(tmp_path / "nothing there")


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/kept.txt").touch()
    (tmp_path / "link").symlink_to("folder")
    files.remove(tmp_path / "link")
    assert names_below(tmp_path) == ["folder", "folder/kept.txt"]


def test_disk_that_answers_nothing_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    monkeypatch.setattr(disk, "operations", FailingDisk(0, "dead", tmp_path / "marker"))
    with pytest.raises(WriteError, match=r"a: .*found Input/output error; unknown room there"):
        write_text(tmp_path / "a", "new")


def test_error_of_what_is_read_meanwhile_is_not_one_of_writing(tmp_path: Path) -> None:
    error = OSError(errno.EIO, "Input/output error", "another file")
    with pytest.raises(OSError, match="another file"), atomic_file(tmp_path / "a"):
        raise error
    assert names_below(tmp_path) == []
