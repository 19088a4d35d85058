import os
from pathlib import Path

import pytest

from kinetrack.collecting.collections import Plan, find_top, plan_folders, plan_manifest
from kinetrack.data.manifest import ManifestRow
from kinetrack.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def places_of(plan: Plan, source: Path) -> dict[str, str]:
    return {path.relative_to(source).as_posix(): place for path, place in plan.placements}


@pytest.mark.parametrize(
    ("files", "top"),
    [
        (["Jump/1.avi", "Walk/1.avi"], "."),
        (["UCF-101/Jump/1.avi", "UCF-101/Walk/1.avi"], "UCF-101"),
        (["a/b/Jump/1.avi", "a/b/Walk/1.avi", "a/readme.txt"], "a/b"),
        (["Jump/1.avi"], "."),
        (["Jump/anna/1.avi", "Walk/anna/1.avi"], "."),
        (["data/Jump/1.avi", "__MACOSX/data/x", ".hidden/x"], "data"),
        (["1.avi", "more/Jump/1.avi"], "."),
    ],
)
def test_wrappers_around_the_class_folders_are_skipped(
    tmp_path: Path, files: list[str], top: str
) -> None:
    assert find_top(touch(tmp_path, *files)) == tmp_path / top


@pytest.mark.parametrize(
    ("label_from", "file", "place"),
    [
        ("top", "Jump/1.avi", "Jump/1.avi"),
        ("top", "Jump/anna/day 1/1.avi", "Jump/anna_day 1_1.avi"),
        ("parent", "Jump/1.avi", "Jump/1.avi"),
        ("parent", "train/Jump/1.avi", "Jump/1.avi"),
        ("top", "Jump/-x 🤸\n.MP4", "Jump/-x 🤸\n.MP4"),
    ],
)
def test_label_is_the_first_folder_or_the_innermost(
    tmp_path: Path, label_from: str, file: str, place: str
) -> None:
    touch(tmp_path, file, "Walk/2.avi")
    plan = plan_folders(tmp_path, label_from=label_from)
    assert places_of(plan, tmp_path) == {file: place, "Walk/2.avi": "Walk/2.avi"}


def test_what_is_no_video_is_left_out_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "up/Jump/1.avi", "up/Jump/notes.txt", "up/Walk/1.mp4", "up/a.csv", "up/.x.avi")
    assert plan_folders(tmp_path, label_from="top").left_out == ["up/Jump/notes.txt", "up/a.csv"]


@pytest.mark.parametrize(
    ("files", "label_from", "reason"),
    [
        (["readme.txt"], "top", "holds no video"),
        (["1.avi", "Jump/1.avi"], "top", r"1\.avi: lies in no class folder"),
        (["Jump/a/b_1.avi", "Jump/a_b/1.avi", "Walk/1.avi"], "top", r"would be Jump/a_b_1\.avi"),
        (["train/Jump/1.avi", "val/Jump/1.avi"], "parent", r"would be Jump/1\.avi"),
        (["Jump/a\\b.avi", "Walk/1.avi"], "top", "is no plain file name"),
        ([f"Jump/{'x' * 200}/{'y' * 100}.avi", "Walk/1.avi"], "top", "is longer than 251 bytes"),
    ],
)
def test_folder_that_is_no_collection_is_named(
    tmp_path: Path, files: list[str], label_from: str, reason: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=reason):
        plan_folders(tmp_path, label_from=label_from)


def test_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"Jump/\xff.avi"), "Walk/1.avi")
    with pytest.raises(InputError, match="surrogates not allowed"):
        plan_folders(tmp_path, label_from="top")


def test_entries_that_are_no_files_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "Jump/1.avi", "Walk/1.avi")
    os.mkfifo(tmp_path / "Walk/2.avi")
    with pytest.raises(InputError, match=r"2\.avi: is no regular file, found a device, pipe"):
        plan_folders(tmp_path, label_from="top")


@pytest.mark.parametrize("name", ["Walk/2.avi", "Run"])
def test_links_out_of_the_collection_and_to_folders_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "in/Jump/1.avi", "in/Walk/1.avi", "out/2.avi")
    target = tmp_path / ("out/2.avi" if name.endswith("avi") else "out")
    (tmp_path / "in" / name).symlink_to(target)
    with pytest.raises(InputError, match="is a link"):
        plan_folders(tmp_path / "in", label_from="top")


def test_manifest_takes_what_it_names_from_where_it_lies(tmp_path: Path) -> None:
    touch(tmp_path, "up/long/a.mp4", "up/b.avi", "up/c.avi", "up/notes.txt")
    rows = [
        ManifestRow(path="long/a.mp4", label="Jump", group="1", start_s=0, end_s=2),
        ManifestRow(path="long/a.mp4", label="Walk", group="1", start_s=2, end_s=4),
        ManifestRow(path="b.avi", label="Walk", group="2"),
    ]
    plan = plan_manifest(tmp_path, rows, manifest=Path("list.csv"))
    assert places_of(plan, tmp_path) == {"up/b.avi": "b.avi", "up/long/a.mp4": "long/a.mp4"}
    assert plan.manifest == rows
    assert plan.left_out == ["up/c.avi"]


def test_video_that_only_the_manifest_has_is_named(tmp_path: Path) -> None:
    rows = [ManifestRow(path=path, label="Jump") for path in ("a.avi", "b.avi")]
    with pytest.raises(InputError, match=r"list\.csv: names b\.avi, which is not in"):
        plan_manifest(touch(tmp_path, "a.avi"), rows, manifest=Path("list.csv"))


def test_what_a_manifest_does_not_name_hinders_nothing(tmp_path: Path) -> None:
    """As in a person's own folder, with links and broken things elsewhere."""
    top = touch(tmp_path / "in", "clips/a.avi", "clips/b.avi", "notes.txt")
    (top / "music").symlink_to(tmp_path)
    (top / "gone.avi").symlink_to("nowhere")
    rows = [ManifestRow(path="clips/a.avi", label="Walk")]
    plan = plan_manifest(top, rows, manifest=Path("list.csv"))
    assert [place for _, place in plan.placements] == ["clips/a.avi"]
    assert plan.left_out == ["clips/b.avi", "gone.avi"]


def test_manifest_that_names_a_link_out_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "out/private.avi", "in/b.avi")
    (tmp_path / "in/a.avi").symlink_to(tmp_path / "out/private.avi")
    rows = [ManifestRow(path="a.avi", label="Jump")]
    with pytest.raises(InputError, match="is a link out of the data set"):
        plan_manifest(tmp_path / "in", rows, manifest=Path("list.csv"))
