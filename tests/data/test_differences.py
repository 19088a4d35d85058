import pytest

from kinetrack.data.differences import (
    Differences,
    Member,
    compare_members,
    members_of_folder,
    members_of_manifest,
)
from kinetrack.data.manifest import ManifestRow

NOTHING = Differences([], [], [], [], [], [])


def compare(old, new, *, modified=(), renamed=None):
    return compare_members(old, new, modified=set(modified), renamed=renamed or {})


def test_a_folder_gives_its_videos_and_nothing_else():
    paths = [
        "Jump/a.avi",
        "Jump/notes.txt",
        "top.avi",
        "Jump/deep/b.avi",
        ".trash/c.avi",
        "W/d.MP4",
    ]
    assert members_of_folder(paths) == {
        "Jump/a": Member(video="Jump/a.avi"),
        "W/d": Member(video="W/d.MP4"),
    }


@pytest.mark.parametrize(
    ("old", "new", "more", "expected"),
    [
        (["J/a.avi"], ["J/a.avi"], {}, {}),
        (
            ["J/a.avi"],
            ["J/a.avi", "W/b.avi"],
            {},
            {"added": ["W/b"], "classes_added": ["W"]},
        ),
        (["J/a.avi", "J/b.avi"], ["J/a.avi"], {}, {"removed": ["J/b"]}),
        (["J/a.avi"], ["J/a.avi"], {"modified": ["J/a.avi"]}, {"changed": [("J/a", "content")]}),
        (["J/a.avi"], ["J/a.mp4"], {}, {"changed": [("J/a", "content")]}),
        (
            ["J/a.avi", "J/b.avi"],
            ["J/a.avi", "W/b.avi"],
            {"renamed": {"J/b.avi": "W/b.avi"}},
            {"moved": [("J/b", "W/b")], "classes_added": ["W"]},
        ),
        (
            ["J/a.avi"],
            ["J/b.avi"],
            {"renamed": {"J/a.avi": "J/b.avi"}},
            {"moved": [("J/a", "J/b")]},
        ),
    ],
    ids=["same", "added", "removed", "content", "container", "other label", "other name"],
)
def test_changes_of_a_folder_are_named(old, new, more, expected):
    found = compare(members_of_folder(old), members_of_folder(new), **more)
    assert found == NOTHING._replace(**expected)


def row(path="v.avi", label="Jump", **values):
    return ManifestRow(path=path, label=label, **values)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (row(label="Jump"), row(label="Walk"), {"moved": [("Jump/v", "Walk/v")]}),
        (row(group="01"), row(group="02"), {"changed": [("Jump/v", "group 01 -> 02")]}),
        (row(), row(official="test"), {"changed": [("Jump/v", "official - -> test")]}),
        (
            row(clip="c", start_s=0, end_s=1.5),
            row(clip="c", start_s=1),
            {"changed": [("Jump/c", "segment 0 s to 1.5 s -> 1 s to end")]},
        ),
        (
            row(clip="c"),
            row(clip="c", end_s=2, group="7"),
            {"changed": [("Jump/c", "segment whole -> 0 s to 2 s, group - -> 7")]},
        ),
        (
            row(clip="c", start_s=0, end_s=1),
            row(clip="d", start_s=1, end_s=2),
            {"added": ["Jump/d"], "removed": ["Jump/c"]},
        ),
    ],
    ids=["label", "group", "official", "segment", "segment and group", "another segment"],
)
def test_changes_of_a_manifest_are_named(old, new, expected):
    found = compare(members_of_manifest([old]), members_of_manifest([new]))
    expected = {**expected}
    if "moved" in expected:
        expected |= {"classes_added": ["Walk"], "classes_removed": ["Jump"]}
    assert found == NOTHING._replace(**expected)


def test_a_new_video_changes_every_segment_of_it():
    rows = [row(clip="a", end_s=1), row(clip="b", start_s=1), row(path="other.avi")]
    members = members_of_manifest(rows)
    found = compare(members, members, modified=["v.avi"])
    assert found.changed == [("Jump/a", "content"), ("Jump/b", "content")]


def test_a_renamed_video_with_its_manifest_brought_up_to_date_is_no_change():
    old, new = members_of_manifest([row(clip="a")]), members_of_manifest([row("w.avi", clip="a")])
    assert compare(old, new, renamed={"v.avi": "w.avi"}) == NOTHING
    assert compare(old, new).changed == [("Jump/a", "content")]


def test_two_clips_of_one_video_that_change_their_label_are_paired_one_to_one():
    old = members_of_manifest([row(clip="a"), row(clip="b")])
    new = members_of_manifest([row(clip="a", label="W"), row(clip="b", label="W")])
    assert compare(old, new).moved == [("Jump/a", "W/a"), ("Jump/b", "W/b")]
