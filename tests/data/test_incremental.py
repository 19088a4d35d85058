"""The engine by itself: files of a few letters, made in this process."""

import errno
import json
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from kinetrack import disk, files
from kinetrack.data.incremental import FolderUpdate, Known, Wanted, describe_work, update_folder
from kinetrack.data.staging import Obtained, Record
from kinetrack.errors import InputError, WriteError
from kinetrack.files import file_md5, write_text
from kinetrack.parallel import WORKERS_VARIABLE

from failing_disk import FailingDisk, Trouble


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "1")


def make(text: str, path: Path) -> Record:
    """Write the source; a source that begins with an exclamation mark cannot be made."""
    if text.startswith("!"):
        raise InputError(path, text)
    if text.startswith("?"):
        return Record("", {"reason": text})
    write_text(path, text)
    return Record(file_md5(path), {"length": len(text)})


class Store:
    """A folder that is brought up to date again and again, with a memory."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "store"
        self.memory = root / "memory.json"
        self.cache: dict[str, Path] = {}

    def known(self) -> Known:
        files.remove_partials_of(self.memory)  # as the stages do
        known = Known({}, {})
        if self.memory.exists():
            for path, key, md5, facts in json.loads(self.memory.read_text()):
                known.add(key, Record(md5, facts), path)
        return known

    def obtain(self, files: dict[str, str], update: FolderUpdate) -> list[Obtained]:
        wanted = [Wanted(path, f"k-{text}", text) for path, text in files.items()]
        return update.obtain(wanted, make, description="test")

    def bring(self, files: dict[str, str]) -> dict[str, str]:
        """Bring the folder to these files; how each one was come by."""
        with update_folder(self.folder, known=self.known(), find_cached=self.cache.get) as update:
            obtained = self.obtain(files, update)
            rows = [
                (path, f"k-{text}", one.record.md5, dict(one.record.facts))
                for (path, text), one in zip(files.items(), obtained, strict=True)
            ]
            tables = {
                "more.csv": lambda path: write_text(path, "more"),
                "index.csv": lambda path: write_text(path, json.dumps(rows)),
            }
            old = json.loads(self.memory.read_text()) if self.memory.exists() else []
            write_text(self.memory, json.dumps([*old, *rows]))
            update.finish(tables)
        return {path: one.how for path, one in zip(files, obtained, strict=True)}

    def content(self) -> dict[str, str]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder).as_posix(): path.read_text()
            for path in files
            if path.suffix != ".csv"
        }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


FIRST = {"A/a": "one", "A/b": "two", "B/c": "three"}


def test_a_first_run_makes_every_file(store: Store) -> None:
    assert set(store.bring(FIRST).values()) == {"made"}
    assert store.content() == FIRST
    assert sorted(path.name for path in store.folder.glob("*.csv")) == ["index.csv", "more.csv"]


def test_nothing_is_left_beside_the_folder(store: Store) -> None:
    store.bring(FIRST)
    assert sorted(path.name for path in store.folder.parent.iterdir()) == ["memory.json", "store"]


def test_a_second_run_makes_nothing(store: Store) -> None:
    store.bring(FIRST)
    stamps = {path: path.stat().st_mtime_ns for path in store.folder.rglob("[abc]")}
    assert set(store.bring(FIRST).values()) == {"kept"}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize(
    ("second", "work"),
    [
        (FIRST | {"B/d": "four"}, {"B/d": "made"}),
        (FIRST | {"A/a": "another"}, {"A/a": "made"}),
        ({"A/b": "two", "B/c": "three"}, {}),
        ({"A/z": "one", "A/b": "two", "B/c": "three"}, {"A/z": "moved"}),
        ({"A/a": "two", "A/b": "one", "B/c": "three"}, {"A/a": "moved", "A/b": "moved"}),
        ({"A/a": "two", "A/b": "three", "B/c": "one"}, dict.fromkeys(FIRST, "moved")),
        (FIRST | {"C/twin": "one"}, {"C/twin": "moved"}),
        ({"C/x": "one", "C/y": "one"}, {"C/x": "moved", "C/y": "moved"}),
        ({"A/a/deeper": "one", "A/b": "two"}, {"A/a/deeper": "moved"}),
        ({"A": "one"}, {"A": "moved"}),
        ({}, {}),
    ],
)
def test_only_what_changed_is_made(
    store: Store, second: dict[str, str], work: dict[str, str]
) -> None:
    store.bring(FIRST)
    assert store.bring(second) == dict.fromkeys(second, "kept") | work
    assert store.content() == second
    assert store.bring(second) == dict.fromkeys(second, "kept")


def test_what_does_not_belong_there_is_removed(store: Store) -> None:
    store.bring(FIRST)
    (store.folder / "A/notes.txt").write_text("mine")
    (store.folder / "C/deep").mkdir(parents=True)
    (store.folder / "link").symlink_to(store.folder / "A")
    store.bring(FIRST)
    assert store.content() == FIRST
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "A",
        "B",
        "index.csv",
        "more.csv",
    ]


@pytest.mark.parametrize("edited", ["edited", ""])
def test_a_file_that_was_edited_is_made_again(store: Store, edited: str) -> None:
    store.bring(FIRST)
    (store.folder / "A/a").write_text(edited)
    assert store.bring(FIRST) == dict.fromkeys(FIRST, "kept") | {"A/a": "made"}
    assert store.content() == FIRST


def test_a_folder_in_the_place_of_a_file_gives_way(store: Store) -> None:
    store.bring(FIRST)
    (store.folder / "A/a").unlink()
    (store.folder / "A/a/b").mkdir(parents=True)
    (store.folder / "A/a/c").write_text("x")
    assert store.bring(FIRST)["A/a"] == "made"
    assert store.content() == FIRST


def test_a_linked_folder_is_not_believed(store: Store, tmp_path: Path) -> None:
    store.bring(FIRST)
    (store.folder / "A").rename(tmp_path / "elsewhere")
    (store.folder / "A").symlink_to(tmp_path / "elsewhere")
    assert store.bring(FIRST) == {"A/a": "made", "A/b": "made", "B/c": "kept"}
    assert not (store.folder / "A").is_symlink()
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["a", "b"]


def test_a_folder_linked_to_another_one_of_the_output_is_not_believed(store: Store) -> None:
    store.bring({"A/a": "one", "B/c": "three"})
    (store.folder / "C").symlink_to(store.folder / "A")
    assert store.bring({"C/a": "one"}) == {"C/a": "moved"}
    assert store.content() == {"C/a": "one"}


def test_a_file_in_the_place_of_a_table_is_refused_before_anything_is_touched(store: Store) -> None:
    store.bring(FIRST)
    with pytest.raises(InputError, match="would lie where a table belongs -> rename the class"):
        store.bring({"index.csv/a": "one"})
    assert store.content() == FIRST


def test_a_folder_in_the_place_of_the_index_gives_way(store: Store) -> None:
    store.bring(FIRST)
    (store.folder / "index.csv").unlink()
    (store.folder / "index.csv/deep").mkdir(parents=True)
    assert set(store.bring(FIRST).values()) == {"kept"}
    assert (store.folder / "index.csv").is_file()


def test_an_output_on_another_file_system_is_refused_before_anything_is_touched(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.bring(FIRST)
    rename = os.replace

    def refuse(source: Path, target: Path) -> None:
        if store.folder in Path(target).parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WriteError, match=r"cannot take files.*Invalid cross-device link"):
        store.bring(FIRST | {"A/new": "new"})
    assert store.content() == FIRST
    assert (store.folder / "index.csv").is_file()


def test_a_link_in_the_place_of_the_staging_folder_is_removed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".store.partial").symlink_to(tmp_path / "elsewhere")
    store.bring(FIRST)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_comes_back_from_the_cache(store: Store, tmp_path: Path) -> None:
    store.bring(FIRST)
    (tmp_path / "object").write_text("one")
    store.cache[file_md5(tmp_path / "object")] = tmp_path / "object"
    (store.folder / "A/a").unlink()
    assert store.bring(FIRST)["A/a"] == "restored"
    assert store.content() == FIRST
    assert (tmp_path / "object").read_text() == "one"


def test_a_damaged_object_of_the_cache_is_not_believed(store: Store, tmp_path: Path) -> None:
    store.bring(FIRST)
    md5 = file_md5(store.folder / "A/a")
    (tmp_path / "object").write_text("damaged")
    store.cache[md5] = tmp_path / "object"
    (store.folder / "A/a").unlink()
    assert store.bring(FIRST)["A/a"] == "made"
    assert store.content() == FIRST


def test_a_file_that_cannot_be_made_stops_no_other(store: Store) -> None:
    store.bring(FIRST)
    with update_folder(store.folder, known=store.known(), find_cached=store.cache.get) as update:
        obtained = store.obtain({"A/a": "!broken", "A/b": "two", "B/d": "four"}, update)
    assert [str(one.problem is None) for one in obtained] == ["False", "True", "True"]
    assert store.content() == FIRST
    assert store.bring({"B/d": "four"}) == {"B/d": "kept"}, "its making is not lost"


def test_a_source_without_a_file_is_asked_again(store: Store) -> None:
    assert store.bring({"A/a": "?no frame", "A/b": "two"}) == {"A/a": "made", "A/b": "made"}
    assert store.content() == {"A/b": "two"}
    assert store.bring({"A/a": "?no frame", "A/b": "two"}) == {"A/a": "made", "A/b": "kept"}


def test_no_room_ends_the_whole_and_keeps_what_was_made(store: Store) -> None:
    def fill_up(text: str, path: Path) -> Record:
        if text == "three":
            raise WriteError(path, "cannot be written")
        return make(text, path)

    store.bring({"A/old": "old"})
    wanted = [Wanted(path, f"k-{text}", text) for path, text in FIRST.items()]
    with (
        pytest.raises(WriteError),
        update_folder(store.folder, known=store.known(), find_cached=store.cache.get) as update,
    ):
        update.obtain(wanted, fill_up, description="test")
    assert store.content() == {"A/old": "old"}
    assert store.bring(FIRST) == {"A/a": "kept", "A/b": "kept", "B/c": "made"}


def test_two_writers_at_once_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinetrack.files._PATIENCE_S", 0.0)
    with (
        update_folder(store.folder, known=store.known(), find_cached=store.cache.get),
        pytest.raises(InputError, match="store: is being written by another process"),
    ):
        store.bring(FIRST)


STEPS = ("replace", "unlink", "rename", "rmdir", "mkdir", "scandir")
SECOND = {"A/a": "two", "A/b": "one", "B/c": "three", "C/new": "new", "C/twin": "new", "D": "x"}


def dies_at_step(number: int, store: Store) -> bool:
    """Fork a run that ends at once before its n-th change of the file system; whether it did."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    steps = iter(range(number))

    def wrap(function):
        def call(*args, **kwargs):
            if next(steps, None) is None:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))
    store.bring(SECOND)
    os._exit(0)


def test_killed_at_any_step_the_next_run_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    number, lost = 0, []
    while True:
        store = Store(tmp_path / str(number))
        store.folder.parent.mkdir()
        store.bring(FIRST)
        died = dies_at_step(number, store)
        how = store.bring(SECOND)
        assert store.content() == SECOND, number
        assert sorted(p.name for p in store.folder.parent.iterdir()) == ["memory.json", "store"]
        lost.append([how[path] for path in ("A/a", "A/b", "B/c")].count("made"))
        if not died:
            break
        number += 1
    assert number > 20
    assert set(lost) == {0}, "what the first run made is never made again"


@pytest.mark.parametrize("trouble", ["full", "dead"])
def test_disk_that_fails_at_any_operation(
    trouble: Trouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is as it was, or lacks its index; the next run ends as if nothing had been."""
    for passing in count():
        store = Store(tmp_path / str(passing))
        store.folder.parent.mkdir()
        store.bring(FIRST)
        marker = tmp_path / f"failed {passing}"
        with monkeypatch.context() as failing, suppress(WriteError):
            failing.setattr(disk, "operations", FailingDisk(passing, trouble, marker))
            store.bring(SECOND)
        if (store.folder / "index.csv").exists():
            here = store.content()
            if trouble == "dead":  # it could not be taken away
                here = {path: text for path, text in here.items() if not path.endswith(".probe")}
            assert here in (FIRST, SECOND), passing
        store.bring(SECOND)
        assert store.content() == SECOND, passing
        left = sorted(path.name for path in store.folder.parent.iterdir())
        assert left == ["memory.json", "store"], passing
        if not marker.exists():
            break
    assert passing > 20


def test_work_is_counted() -> None:
    assert describe_work(["made", "kept", "kept"], made="decoded") == "1 decoded, 0 moved, 2 kept"
    assert describe_work(["moved", "restored"], made="packed") == (
        "0 packed, 1 moved, 1 from the cache, 0 kept"
    )
