"""Where a file is, by versions made up for the purpose."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from kinetrack.errors import InputError
from kinetrack.versioning.erasing import (
    Search,
    describe_version,
    find_objects,
    find_remembered_runs,
    search_versions,
)
from kinetrack.versioning.versions import list_versions

from tracked_files import CACHE, md5_of, object_file, overwrite
from versions_made import add_videos, commit, git, make_experiment, make_output, start

VIDEOS, FRAMES = "data/videos/mine", "data/frames/mine"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return start(tmp_path / "my project")


def search(root: Path, name: str = "Walk/a") -> Search:
    def choose(path: str, md5: str, files: Mapping[str, str]) -> set[str]:
        assert md5.endswith(".dir")
        wanted = {VIDEOS: f"{name}.avi", FRAMES: f"{name}.zip"}
        return {wanted.get(path, "")} & files.keys()

    places = (VIDEOS, FRAMES)
    return search_versions(list_versions(root), root / CACHE, choose, places=places)


def test_all_contents_that_a_clip_ever_had_are_found_with_their_versions(root: Path) -> None:
    add_videos(root, {"Walk/a.avi": b"old", "Walk/b.avi": b"b"})
    frames = make_output(root, FRAMES, {"Walk/a.zip": b"frames"})
    old = commit(root, "one")
    videos = add_videos(root, {"Walk/a.avi": b"new", "Walk/b.avi": b"b"})
    new = commit(root, "two", time_s=1_700_000_001)
    add_videos(root, {"Walk/b.avi": b"b"})
    make_output(root, FRAMES, {"Walk/b.zip": b"others"})
    found = search(root)
    assert {one.md5: one.paths for one in found.holders} == {
        md5_of(b"old"): (f"{VIDEOS}/Walk/a.avi",),
        md5_of(b"new"): (f"{VIDEOS}/Walk/a.avi",),
        md5_of(b"frames"): (f"{FRAMES}/Walk/a.zip",),
    }
    assert [one.origin.commit for one in found.versions] == [new, old]
    assert {(VIDEOS, videos), (FRAMES, frames)} < found.folders
    assert found.unlisted == []


def test_equal_folder_of_another_data_set_is_not_this_one_s(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"same"})
    assert add_videos(root, {"Walk/a.avi": b"same"}, dataset="other") == md5
    commit(root, "both")
    (root / "data/videos/mine.dvc").unlink()
    commit(root, "the other alone", time_s=1_700_000_001)
    found = search(root)
    assert found.folders == {(VIDEOS, md5)}
    assert len(found.versions) == 1  # not the workspace, not the last commit


def test_content_that_another_clip_has_too_is_shared(root: Path) -> None:
    add_videos(root, {"Walk/a.avi": b"same", "Walk/b.avi": b"b"})
    commit(root, "one")
    add_videos(root, {"Run/c.avi": b"same"})
    (holder,) = search(root).holders
    assert holder.shared_with == (f"{VIDEOS}/Run/c.avi",)


def test_version_whose_list_is_not_here_is_unknown(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"a"})
    made = commit(root, "one")
    model = make_output(root, "data/model", {"model.json": b"{}"})
    add_videos(root, {"Walk/b.avi": b"b"})
    for lost in (md5, model):  # a model holds no clips
        object_file(root, lost).unlink()
    found = search(root)
    assert [one.origin.commit for one in found.unlisted] == [made]
    assert (found.holders, found.versions) == ([], [])


def test_damaged_list_is_refused(root: Path) -> None:
    overwrite(object_file(root, add_videos(root, {"Walk/a.avi": b"a"})), b"[]")
    with pytest.raises(InputError, match="damaged list"):
        search(root)


def test_versions_are_named_by_what_leads_to_them(root: Path) -> None:
    add_videos(root, {"Walk/a.avi": b"a"})
    old = commit(root, "one")
    git(root, "tag", "v1")
    add_videos(root, {"Walk/a.avi": b"b"})
    new = commit(root, "two", time_s=1_700_000_001)
    add_videos(root, {"Walk/a.avi": b"c"})
    experiment = make_experiment(root, "deep-owl")
    told = [describe_version(one, root=root) for one in list_versions(root)]
    assert told == [
        "the workspace",
        f"{new[:7]} (main)",
        f"{old[:7]} (main, v1)",
        f"{experiment[:7]} (DVC's experiment deep-owl)",
    ]


def test_run_cache_of_what_was_made_of_a_folder_is_found(tmp_path: Path) -> None:
    tainted = "a" * 32 + ".dir"
    entries = {
        "ab/abcd/1": {"cmd": "train", "deps": [{"path": "x", "md5": tainted}], "outs": []},
        "ab/abcd/2": {"cmd": "train", "deps": [{"path": "x", "md5": "b" * 32}]},
        "cd/cdef/3": {"cmd": "sample", "outs": [{"path": "x", "md5": tainted}]},
        "cd/cdef/4": ["no entry"],
        "cd/cdef/5": {"cmd": "sample", "outs": [{"path": "of others", "md5": tainted}]},
    }
    for name, entry in entries.items():
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(entry))
    found = find_remembered_runs(tmp_path, {("x", tainted)})
    assert [path.relative_to(tmp_path / "runs").as_posix() for path in found] == [
        "ab/abcd/1",
        "cd/cdef/3",
    ]


def test_objects_that_the_cache_lacks_are_left_out(root: Path) -> None:
    add_videos(root, {"Walk/a.avi": b"a"})
    assert find_objects(root / CACHE, [md5_of(b"a"), "b" * 32]) == {
        md5_of(b"a"): object_file(root, md5_of(b"a"))
    }
