import os
import shutil

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning import hashing, verify
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.hashing import hash_files
from kinetrack.versioning.tracked import list_tracked
from kinetrack.versioning.verify import verify_tracked

from tracked_files import (
    CACHE,
    md5_of,
    object_file,
    overwrite,
    put_object,
    track_folder,
    track_listing,
)

FILES = {"Jump/a.avi": b"first", "Jump/b.avi": b"second", "Walk/c d.avi": b"third"}


@pytest.fixture
def root(tmp_path):
    track_folder(tmp_path, "videos", FILES)
    return tmp_path


def check(root):
    outputs, _ = verify_tracked(list_tracked(root), root=root, cache=root / CACHE)
    [output] = outputs
    return output


def states(root):
    """Of every file that is not right: its path, here, and in the cache."""
    return [(f.path, f.here, f.cached) for f in check(root).files if not f.is_right]


def object_of(root, name):
    return object_file(root, md5_of(FILES[name]))


def test_what_is_as_recorded_is_right(root):
    found = check(root)
    assert found.is_right
    assert sum(file.num_bytes for file in found.files) == 16


def test_an_object_with_other_bytes_is_found_whatever_its_mode(root):
    overwrite(object_of(root, "Jump/b.avi"), b"sEcond")
    assert object_of(root, "Jump/b.avi").stat().st_mode & 0o777 == 0o444
    assert states(root) == [("videos/Jump/b.avi", "right", "wrong")]


def test_a_file_with_other_bytes_is_found_though_time_and_size_are_the_same(root):
    path = root / "videos/Jump/b.avi"
    before = path.stat()
    path.write_bytes(b"sEcond")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert states(root) == [("videos/Jump/b.avi", "wrong", "right")]


def test_an_edit_through_a_hard_link_is_found_on_both_sides(root):
    path = root / "videos/Jump/b.avi"
    path.unlink()
    path.hardlink_to(object_of(root, "Jump/b.avi"))
    overwrite(path, b"edited")
    assert states(root) == [("videos/Jump/b.avi", "wrong", "wrong")]


def test_missing_copies_are_found(root):
    (root / "videos/Jump/a.avi").unlink()
    object_of(root, "Jump/b.avi").unlink()
    assert states(root) == [
        ("videos/Jump/a.avi", "missing", "right"),
        ("videos/Jump/b.avi", "right", "missing"),
    ]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (os.mkfifo, "is no file"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda path: path.symlink_to("nowhere"), "is a broken link"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file"),
    ],
)
def test_what_is_no_file_is_not_read(root, spoil, problem):
    path = root / "videos/Jump/a.avi"
    path.unlink()
    spoil(path)
    [file] = [file for file in check(root).files if not file.is_right]
    assert (file.here, file.cached) == ("wrong", "right")
    assert problem in file.problem


def test_links_to_one_file_are_hashed_once(root, monkeypatch):
    hashed = []
    monkeypatch.setattr(hashing, "file_md5", lambda path: hashed.append(path) or "0" * 32)
    content = root / "content"
    content.write_text("x")
    (root / "hard").hardlink_to(content)
    (root / "soft").symlink_to(content)
    found = hash_files([root / name for name in ("soft", "hard", "content")])
    assert len(hashed) == 1
    assert {one.md5 for one in found.values()} == {"0" * 32}


def test_extra_files_are_named(root):
    (root / "videos/Jump/new.avi").write_text("new")
    assert check(root).extra == ("videos/Jump/new.avi",)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "", "a\0b"])
def test_a_list_that_leads_out_of_its_folder_is_not_followed(tmp_path, monkeypatch, name):
    put_object(tmp_path, b"x")
    (tmp_path / "videos").mkdir()
    (tmp_path / "x").write_bytes(b"x")
    track_listing(tmp_path, "videos", {"a": md5_of(b"x"), name: md5_of(b"x")})
    hashed = []
    monkeypatch.setattr(verify, "hash_files", lambda paths: hashed.extend(paths) or {})
    found = check(tmp_path)
    assert (found.hostile, found.is_right, found.files, hashed) == (name, False, [], [])


def test_a_list_that_names_objects_outside_of_the_cache_is_no_list(tmp_path):
    track_listing(tmp_path, "videos", {"a": "../../../../etc/passwd"})
    found = check(tmp_path)
    assert (found.list_state, found.is_known) == ("wrong", False)


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: overwrite(path, b"[]"), "wrong"),
        (lambda path: overwrite(path, b"{"), "wrong"),
        (lambda path: overwrite(path, b"[1]"), "wrong"),
    ],
)
def test_without_its_list_a_folder_is_compared_as_a_whole(root, spoil, state):
    [listing] = (root / CACHE).rglob("*.dir")
    spoil(listing)
    object_of(root, "Jump/a.avi").unlink()
    found = check(root)
    assert (found.list_state, found.is_known) == (state, True)
    assert states(root) == [("videos/Jump/a.avi", "right", "missing")]
    (root / "videos/Jump/b.avi").write_text("other")
    found = check(root)
    assert (found.list_state, found.is_known, found.files) == (state, False, [])


def test_an_empty_cache_and_no_folder_is_told_as_such(root):
    shutil.rmtree(root / CACHE)
    assert {file.cached for file in check(root).files} == {"missing"}
    shutil.rmtree(root / "videos")
    found = check(root)
    assert (found.is_here, found.is_known, found.files) == (False, False, [])


def test_a_report_that_is_not_in_the_cache_is_compared_with_its_record(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"1")
    (tmp_path / "dvc.yaml").write_text("stages: {make: {metrics: [{x.csv: {cache: false}}]}}")
    lock = f"stages: {{make: {{outs: [{{path: x.csv, hash: md5, md5: {md5_of(b'1')}}}]}}}}"
    (tmp_path / "dvc.lock").write_text(lock)
    assert check(tmp_path).is_right
    (tmp_path / "x.csv").write_bytes(b"2")
    assert states(tmp_path) == [("x.csv", "wrong", "none")]


def test_nothing_is_changed(root):
    overwrite(object_of(root, "Jump/b.avi"), b"sEcond")
    (root / "videos/Jump/a.avi").unlink()

    def snapshot():
        paths = sorted(root.rglob("*"))
        return [(p, p.stat().st_mtime_ns, p.stat().st_mode, p.stat().st_ino) for p in paths]

    before = snapshot()
    check(root)
    assert snapshot() == before


def test_outside_of_dvc_it_says_so(tmp_path):
    with pytest.raises(InputError, match=r"is not under DVC.* -> dvc init"):
        cache_folder(tmp_path)
