"""What of a cache goes and what stays; objects, locks and links are real, DVC is not run."""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.errors import InputError, WriteError
from kinetrack.versioning import garbage
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.garbage import (
    Need,
    Plan,
    amount,
    hold_dvc,
    list_objects,
    plan_collection,
    remove_objects,
    require_own_cache,
    without_derived,
)

from tracked_files import CACHE, md5_of, object_file, put_object, track_folder

LATER = 4e9


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.setattr(garbage, "_read_config", lambda _: {})
    return tmp_path


def plan(root: Path, **needs: set[str]) -> Plan:
    listed = [Need(reason, frozenset(md5s)) for reason, md5s in needs.items()]
    return plan_collection(root, root / CACHE, listed, started_s=LATER)


def collect(root: Path, **needs: set[str]) -> None:
    remove_objects(plan(root, **needs).unneeded)


def left(root: Path) -> set[str]:
    return {one.md5 for one in list_objects(root / CACHE)}


@given(
    folders=st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=2), max_size=4), max_size=5
    ),
    needed=st.sets(st.integers(0, 4)),
)
def test_needed_folders_stay_whole_and_everything_else_goes(
    tmp_path_factory: pytest.TempPathFactory,
    folders: list[Mapping[str, bytes]],
    needed: set[int],
) -> None:
    root = tmp_path_factory.mktemp("cache")
    md5s = [track_folder(root, f"f{number}", files) for number, files in enumerate(folders)]
    spared = [number for number in range(len(folders)) if number in needed]
    collect(root, some={md5s[number] for number in spared})
    expected = {md5s[number] for number in spared}
    expected |= {md5_of(content) for number in spared for content in folders[number].values()}
    assert left(root) == expected
    for one in list_objects(root / CACHE):
        assert md5_of(one.path.read_bytes()) == one.md5.removesuffix(".dir")


def test_each_object_is_spared_for_its_first_reason(root: Path) -> None:
    first = track_folder(root, "one", {"a": b"12", "b": b"345"})
    second = track_folder(root, "two", {"a": b"12", "c": b"6789"})
    unneeded = put_object(root, b"nobody's")
    found = plan(root, workspace={first}, runs={second})
    sizes = {reason: amount(objects) for reason, objects in found.spared.items()}
    lists = [object_file(root, md5).stat().st_size for md5 in (first, second)]
    assert sizes == {"workspace": (3, 5 + lists[0]), "runs": (2, 4 + lists[1])}
    assert [one.path for one in found.unneeded] == [unneeded]


def test_folder_without_its_list_is_counted(root: Path) -> None:
    found = plan(root, runs={"a" * 32 + ".dir", "b" * 32 + ".dir"}, tips={"c" * 32})
    assert found.unlisted == {"runs": 2}


@pytest.mark.parametrize("content", [b"[]", b"{", b'[{"md5": "x", "relpath": "a"}]'])
def test_damaged_list_of_a_needed_folder_is_refused(root: Path, content: bytes) -> None:
    md5 = track_folder(root, "one", {"a": b"12"})
    path = object_file(root, md5)
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(InputError, match="is a damaged list of a folder's files"):
        plan(root, tips={md5})


def test_what_came_after_the_start_stays(root: Path) -> None:
    started_s = time.time()
    path = put_object(root, b"new")
    os.utime(path, (0, 0))  # as a file that DVC has moved into the cache
    found = plan_collection(root, root / CACHE, [], started_s=started_s - 1)
    assert list(found.spared) == ["newer than this command"]


def test_what_a_link_leads_to_stays(root: Path) -> None:
    hard, soft, gone = (put_object(root, content) for content in (b"hard", b"soft", b"none"))
    (root / "data/Walk").mkdir(parents=True)
    (root / "data/Walk/a.avi").hardlink_to(hard)
    (root / "data/Walk/b.avi").symlink_to(soft)
    assert [one.path for one in plan(root).unneeded] == [gone]
    collect(root)
    assert (hard.exists(), soft.exists(), gone.exists()) == (True, True, False)


def test_whatever_is_no_object_of_dvcs_is_left_alone(root: Path) -> None:
    home = root / CACHE / "files/md5"
    elsewhere = root / "elsewhere"
    foreign = [home / "README", home / "ab" / "notes", elsewhere / ("c" * 30)]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (home / "cc").symlink_to(elsewhere)
    (home / "ab" / ("d" * 30)).symlink_to(foreign[0])
    (home / "ee" / ("e" * 30)).mkdir(parents=True)
    runs = root / CACHE / "runs/ab/abcd/ef"
    runs.parent.mkdir(parents=True)
    runs.write_text("cmd: train")
    collect(root)
    assert all(path.read_text() == "mine" for path in foreign)
    assert (home / "ab" / ("d" * 30)).is_symlink()
    assert runs.exists()


def test_what_changes_between_plan_and_removal_stays(root: Path) -> None:
    linked, gone, plain = (put_object(root, content) for content in (b"1", b"2", b"3"))
    found = plan(root)
    (root / "link").hardlink_to(linked)
    gone.unlink()
    assert remove_objects(found.unneeded) == (1, 1)
    assert (linked.exists(), plain.exists()) == (True, False)


def test_after_a_kill_no_list_is_left_whose_files_went(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        track_folder(root, f"f{number}", {"a": f"{number}".encode(), "b": b"same"})
    found, unlink, done = plan(root), Path.unlink, []

    def unlink_some(path: Path) -> None:
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(path)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", unlink_some)
    with pytest.raises(KeyboardInterrupt):
        remove_objects(found.unneeded)
    assert not [md5 for md5 in left(root) if md5.endswith(".dir")]
    monkeypatch.undo()
    collect(root)
    assert left(root) == set()


def test_object_that_cannot_be_removed_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_object(root, b"1")

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WriteError, match="cannot be removed, found Permission denied"):
        collect(root)


OUTPUTS = {
    "data/videos/mine": "v",
    "data/frames/mine": "f",
    "data/tensors/mine": "t",
    "data/frames/other": "o",
    "data/splits": "s",
    "data/model": "m",
}


def test_only_what_videos_make_again_is_left_out() -> None:
    kept = without_derived(OUTPUTS, is_held=lambda md5: md5 == "v")
    assert set(kept.values()) == {"v", "o", "s", "m"}  # the other's videos are unknown
    assert without_derived(OUTPUTS, is_held=lambda _: False) == OUTPUTS


def test_cache_of_the_project_may_be_freed(root: Path) -> None:
    require_own_cache(root, root / CACHE, consent=None)


@pytest.mark.parametrize("place", ["outside", "link"])
def test_cache_outside_of_the_project_needs_consent_that_names_it(
    root: Path, tmp_path_factory: pytest.TempPathFactory, place: str
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    cache = shared
    if place == "link":
        cache = root / CACHE
        cache.symlink_to(shared)
    with pytest.raises(InputError, match="may be the cache of other projects") as refusal:
        require_own_cache(root, cache, consent=None)
    assert f"--shared-cache {shared}" in str(refusal.value)
    with pytest.raises(InputError, match="may be the cache of other projects"):
        require_own_cache(root, cache, consent=root)
    require_own_cache(root, cache, consent=shared)


def test_cache_that_is_set_up_as_shared_needs_consent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_read_config", lambda _: {"cache.shared": "group"})
    with pytest.raises(InputError, match="may be the cache of other projects"):
        require_own_cache(root, root / CACHE, consent=None)


def test_consent_to_another_cache_than_the_own_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the cache of this project"):
        require_own_cache(root, root / CACHE, consent=tmp_path / "x")


@pytest.mark.parametrize("checkout", ["", ".dvc/tmp/exps/tmp1/"])
def test_dvc_at_work_is_waited_for_by_the_person(root: Path, checkout: str) -> None:
    lock = root / checkout / ".dvc/tmp/lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="DVC is at work here"), hold_dvc(root):
            pass
    with hold_dvc(root), lock.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_stage_at_work_keeps_all_from_going(root: Path, kind: str) -> None:
    path = str(root / "data/frames")
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    held = {"read": {path: [info]}, "write": {path: info}}[kind]
    (root / ".dvc/tmp/rwlock").write_text(json.dumps({kind: held}))
    with pytest.raises(InputError, match="DVC is at work here, found dvc repro"), hold_dvc(root):
        pass


@pytest.mark.parametrize("text", ["{}", '{"write": {"a": {"pid": 999999999, "cmd": "killed"}}}'])
def test_stage_that_was_killed_keeps_nothing(root: Path, text: str) -> None:
    (root / ".dvc/tmp/rwlock").write_text(text)
    with hold_dvc(root):
        pass


def test_lock_that_cannot_be_read_counts_as_held(root: Path) -> None:
    (root / ".dvc/tmp/rwlock").write_text("{")
    with pytest.raises(InputError, match="found unknown"), hold_dvc(root):
        pass


def test_locks_by_hard_links_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_read_config", lambda _: {"core.hardlink_lock": "true"})
    with pytest.raises(InputError, match="has DVC lock by hard links"), hold_dvc(root):
        pass


def test_objects_are_listed_under_the_names_that_dvc_has_for_them(root: Path) -> None:
    md5 = track_folder(root, "one", {"a": b"12"})
    found = {one.md5: one for one in list_objects(root / CACHE)}
    assert found.keys() == {md5, md5_of(b"12")}
    assert found[md5].path == object_path(root / CACHE, md5)
    assert list(list_objects(root / "nowhere")) == []
