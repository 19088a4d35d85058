"""`kinetrack disk` on versions made up for the purpose."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinetrack.cli import disk
from kinetrack.cli.disk import Use, measure_disk, print_disk

from tracked_files import CACHE, object_file, overwrite, put_object
from versions_made import add_videos, commit, git, make_experiment, make_output, start

FRAMES = "data/frames/mine"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = start(tmp_path / "my project")
    monkeypatch.setattr(disk, "cache_folder", lambda _: root / CACHE)
    return root


def list_size(root: Path, md5: str) -> int:
    return object_file(root, md5).stat().st_size


def by_name(uses: list[Use]) -> dict[str, tuple[int, int, int, int]]:
    return {" ".join(use.of).strip(): use[1:] for use in uses}


def test_project_without_data_takes_nothing(root: Path) -> None:
    use = measure_disk(root)
    assert (use.stages, use.cache_bytes, use.unreferenced_bytes) == ([], 0, 0)
    assert use.free_bytes > 0


def test_content_of_many_versions_counts_once_and_is_nobodys_own(root: Path) -> None:
    old = add_videos(root, {"Walk/a.avi": b"1" * 100, "Walk/b.avi": b"2" * 1000})
    commit(root, "one")
    new = add_videos(root, {"Walk/a.avi": b"1" * 100, "Walk/c.avi": b"3" * 10_000})
    commit(root, "two", time_s=1_700_000_001)
    old_list, new_list = list_size(root, old), list_size(root, new)
    use = measure_disk(root)
    total = 11_100 + old_list + new_list
    assert by_name(use.stages) == {"mine videos": (5, total, total, 0)}
    assert by_name(use.versions) == {
        "the workspace": (3, 10_100 + new_list, 0, 0),
        "main": (3, 10_100 + new_list, 0, 0),
        "older commits": (3, 1100 + old_list, 1000 + old_list, 0),
    }
    assert use.cache_bytes == total


def test_stages_data_sets_tags_and_experiments_have_rows(root: Path) -> None:
    add_videos(root, {"Walk/a.avi": b"1"})
    make_output(root, FRAMES, {"Walk/a.zip": b"2"})
    make_output(root, "data/splits", {"split.json": b"3"})
    commit(root, "one")
    git(root, "tag", "v1")
    add_videos(root, {"Run/x.avi": b"4"}, dataset="other")
    make_output(root, "data/model", {"model.json": b"5"})
    make_experiment(root, "deep-owl")
    use = measure_disk(root)
    assert set(by_name(use.stages)) == {
        "mine videos",
        "mine frames",
        "other videos",
        "splits",
        "model",
    }
    assert set(by_name(use.versions)) == {"the workspace", "main, v1", "DVC's experiments"}


def test_what_the_cache_lacks_and_what_no_version_has_is_told(root: Path) -> None:
    md5 = add_videos(root, {"Walk/a.avi": b"123", "Walk/b.avi": b"4"})
    (root / CACHE / "files/md5").rename(root / CACHE / "files/away")
    size = (root / CACHE / "files/away" / md5[:2] / md5[2:]).stat().st_size
    (root / CACHE / "files/md5" / md5[:2]).mkdir(parents=True)
    (root / CACHE / "files/away" / md5[:2] / md5[2:]).rename(object_file(root, md5))
    put_object(root, b"nobody's")
    use = measure_disk(root)
    assert by_name(use.stages) == {"mine videos": (3, size, size, 2)}
    assert use.unreferenced_bytes == len(b"nobody's")


def test_damaged_list_is_left_to_verify(root: Path) -> None:
    overwrite(object_file(root, add_videos(root, {"Walk/a.avi": b"123"})), b"{")
    assert by_name(measure_disk(root).stages) == {"mine videos": (1, 1, 1, 0)}


def test_other_folders_are_measured_without_following_links(root: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"1" * 1_000_000)
    (root / "mlruns/1").mkdir(parents=True)
    (root / "mlruns/1/a").write_bytes(b"12345")
    (root / "mlruns/link").symlink_to(tmp_path)
    assert 5 <= measure_disk(root).folders["mlruns"] < 1000


def test_text_and_json_say_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_videos(root, {"Walk/a.avi": b"1" * 5000}, dataset="a[red]x")
    print_disk(root, as_json=True)
    report: Any = json.loads(capsys.readouterr().out)
    assert report["stages"][0]["of"] == ["a[red]x", "videos"]
    print_disk(root, as_json=False)
    text = capsys.readouterr().out
    assert "a[red]x" in text
    assert "5.1 kB" in text
    assert "free on the disk" in text
