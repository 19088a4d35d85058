import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.collecting.collections import plan_folders
from kinetrack.data.clips import (
    Clip,
    choose_classes,
    is_video_name,
    list_classes,
    list_clips,
    list_ignored,
    walk_videos,
)
from kinetrack.errors import InputError

from factories import GROUP_PATTERN


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def clips_of(folder: Path, pattern: str = GROUP_PATTERN) -> list[Clip]:
    return list_clips(folder, classes="all", group_pattern=pattern)


def test_clips_have_label_group_and_name(tmp_path: Path) -> None:
    touch(tmp_path, "Walk/v_Walk_g02_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c03.mp4")
    assert clips_of(tmp_path) == [
        Clip(
            name="v_HandStandPushups_g01_c03",
            label="HandstandPushups",
            group="01",
            path=tmp_path / "HandstandPushups/v_HandStandPushups_g01_c03.mp4",
        ),
        Clip(
            name="v_Walk_g02_c01",
            label="Walk",
            group="02",
            path=tmp_path / "Walk/v_Walk_g02_c01.avi",
        ),
    ]


def test_clips_are_sorted_by_class_then_name(tmp_path: Path) -> None:
    touch(tmp_path, "B/v_g01_c01.avi", "A/v_g10_c01.avi", "A/v_g02_c02.avi", "A/v_g02_c01.avi")
    found = [(clip.label, clip.name) for clip in clips_of(tmp_path)]
    assert found == [("A", "v_g02_c01"), ("A", "v_g02_c02"), ("A", "v_g10_c01"), ("B", "v_g01_c01")]


def test_clips_are_sorted_by_name_without_the_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "A/g1.avi", "A/g1-2.avi")
    names = [clip.name for clip in clips_of(tmp_path, r"(g\d)")]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("name", "is_video"),
    [("a.avi", True), ("a.MP4", True), ("a.webm", True), ("a.txt", False), (".a.avi", False)],
)
def test_videos_are_known_by_their_suffix(name: str, is_video: bool) -> None:
    assert is_video_name(Path(name)) is is_video


def test_other_files_and_hidden_entries_are_no_clips(tmp_path: Path) -> None:
    touch(tmp_path, "A/v_g01_c01.avi", "A/notes.txt", "A/.v_g02_c01.avi", ".git/v_g01_c01.avi", "x")
    assert [clip.name for clip in clips_of(tmp_path)] == ["v_g01_c01"]


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [(1, ["A"]), (2, ["A", "B"]), ("all", ["A", "B", "C"]), (["C", "A", "C"], ["A", "C"])],
)
def test_classes_are_chosen_from_the_sorted_names(
    classes: int | list[str], chosen: list[str]
) -> None:
    assert choose_classes(["C", "A", "B"], classes=classes, folder=Path("videos")) == chosen


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (4, r"has too few classes .* found 3 class folders \(A, B, C\), expected 4"),
        (["A", "D", "E"], "has no class folder D, expected A, B, C"),
        (["../A"], r"has no class folder \.\./A"),
    ],
)
def test_classes_that_are_not_there_are_named(classes: int | list[str], reason: str) -> None:
    with pytest.raises(InputError, match=f"^videos: {reason}"):
        choose_classes(["A", "B", "C"], classes=classes, folder=Path("videos"))


def test_chosen_classes_alone_are_looked_into(tmp_path: Path) -> None:
    touch(tmp_path, "A/v_g01_c01.avi", "B/no group.avi")
    assert len(list_clips(tmp_path, classes=1, group_pattern=GROUP_PATTERN)) == 1


def test_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: is no folder of videos -> put <Class>"):
        list_classes(tmp_path / "none")


def test_folder_without_classes_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "v_g01_c01.avi")
    with pytest.raises(InputError, match="holds no class folder"):
        list_classes(tmp_path)


def test_class_without_clips_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "A/v_g01_c01.avi", "B/notes.txt")
    with pytest.raises(InputError, match="/B: is a class without clips"):
        clips_of(tmp_path)


def test_name_without_group_is_named_with_the_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "A/holiday.avi")
    with pytest.raises(InputError, match=r"holiday\.avi: has no group .* expected a match of"):
        clips_of(tmp_path)


def test_name_that_matches_without_its_group_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "A/v_c01.avi")
    with pytest.raises(InputError, match="has no group"):
        clips_of(tmp_path, r"v_(g\d+_)?c\d+")


@pytest.mark.parametrize(
    "names",
    [
        ["v_g01_c01.avi", "v_g01_c01.mp4"],
        pytest.param(
            ["v_g01_c01.avi", "v_g01_c01.b_g01_c01.avi", "v_g01_c01.mp4"],
        ),
    ],
)
def test_two_files_of_one_clip_name_are_refused(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path / "A", *names)
    with pytest.raises(InputError, match=r"v_g01_c01\.mp4: has the clip name of v_g01_c01\.avi"):
        clips_of(tmp_path)


def make_odd_entry(path: Path, kind: str) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to("nowhere")
        case "link to itself":
            path.symlink_to(path)
        case "device":
            path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["folder", "FIFO", "dangling link", "link to itself", "device"])
def test_entry_that_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "A").mkdir()
    make_odd_entry(tmp_path / "A/v_g01_c01.avi", kind)
    with pytest.raises(InputError, match=r"v_g01_c01\.avi: is no regular file"):
        clips_of(tmp_path)


def link(path: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def test_link_into_a_dvc_cache_is_followed(tmp_path: Path) -> None:
    link(tmp_path / "videos/A/v_g01_c01.avi", tmp_path / "cache/files/md5/0a" / ("1b" * 15))
    assert len(clips_of(tmp_path / "videos")) == 1


def test_link_inside_the_data_set_is_followed(tmp_path: Path) -> None:
    link(tmp_path / "videos/A/v_g01_c01.avi", tmp_path / "videos/long/take.avi")
    assert len(list_clips(tmp_path / "videos", classes=["A"], group_pattern=GROUP_PATTERN)) == 1


def test_link_out_of_the_data_set_is_refused(tmp_path: Path) -> None:
    link(tmp_path / "videos/A/v_g01_c01.avi", tmp_path / "elsewhere/private.avi")
    with pytest.raises(InputError, match=r"is a link out of the data set, found .*private\.avi"):
        clips_of(tmp_path / "videos")


def test_class_folder_that_links_out_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/v_g01_c01.avi", "videos/.keep")
    (tmp_path / "videos/A").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link out of the data set"):
        clips_of(tmp_path / "videos")


@pytest.mark.parametrize(
    ("one", "other"), [("v_G01_c01", "v_g01_c01"), ("caf\u00e9_g01_c01", "cafe\u0301_g01_c01")]
)
def test_clips_that_are_one_on_another_machine_are_refused(
    tmp_path: Path, one: str, other: str
) -> None:
    touch(tmp_path / "A", f"{one}.avi", f"{other}.avi")
    with pytest.raises(InputError, match=r"has the clip name of .* differ in more than case"):
        clips_of(tmp_path, "(?i)_(g[0-9]+)")


def test_classes_that_are_one_on_another_machine_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "Walk/v_g01_c01.avi", "walk/v_g02_c01.avi")
    with pytest.raises(InputError, match="found 'Walk' and 'walk'"):
        clips_of(tmp_path)


def test_without_a_pattern_each_clip_is_a_group(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.avi", "B/1.avi", "B/2.avi")
    clips = list_clips(tmp_path, classes="all", group_pattern=None)
    assert [clip.group for clip in clips] == ["A/1", "B/1", "B/2"]


def test_parts_of_one_recording_are_one_group(tmp_path: Path) -> None:
    touch(tmp_path, "take.avi", "other.avi")
    lines = ["take.avi,Jump,,1", "take.avi,Walk,1,2", "other.avi,Walk,,"]
    write_table(tmp_path, "path,label,start_s,end_s", *lines)
    clips = list_clips(tmp_path, classes="all", group_pattern=None)
    assert [clip.group for clip in clips] == ["take.avi", "other.avi", "take.avi"]


def test_groups_that_differ_in_spelling_only_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.avi", "b.avi")
    write_table(tmp_path, "path,label,group", "a.avi,Jump,Anna", "b.avi,Jump,anna")
    with pytest.raises(InputError, match="found 'Anna' and 'anna'"):
        clips_of(tmp_path)


def test_blanks_around_a_cell_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "a.avi", "b.avi")
    write_table(tmp_path, "path,label,group", "a.avi,Jump,anna", "b.avi , Jump,anna ")
    assert {(clip.label, clip.group) for clip in clips_of(tmp_path)} == {("Jump", "anna")}


def test_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(top: Path, *, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list, list]]:
        onerror(PermissionError(13, "Permission denied", str(top / "A")))
        yield from ()

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(InputError, match="A: cannot be read, found Permission denied"):
        list(walk_videos(tmp_path))
    with pytest.raises(InputError, match="A: cannot be read, found Permission denied"):
        plan_folders(touch(tmp_path, "A/1.avi", "B/1.avi"), label_from="top")


def write_table(folder: Path, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def test_manifest_gives_labels_groups_segments_and_sides(tmp_path: Path) -> None:
    touch(tmp_path, "long/take.mp4", "v_g07_c01.avi", "unnamed.avi", "notes.txt")
    write_table(
        tmp_path,
        "path,label,group,start_s,end_s,official",
        "long/take.mp4,Walk,anna,2,3.5,test train",
        "long/take.mp4,Jump,anna,,2,test train",
        "v_g07_c01.avi,Walk,,,,",
    )
    take = tmp_path / "long/take.mp4"
    assert clips_of(tmp_path) == [
        Clip("take_00000000_00002000", "Jump", "anna", take, "test train", None, 2.0),
        Clip("take_00002000_00003500", "Walk", "anna", take, "test train", 2.0, 3.5),
        Clip("v_g07_c01", "Walk", "07", tmp_path / "v_g07_c01.avi"),
    ]
    assert list_ignored(tmp_path, labels=["Jump", "Walk"]) == [tmp_path / "unnamed.avi"]


def test_manifest_is_asked_for_the_chosen_classes_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.avi")
    write_table(tmp_path, "path,label,group", "a.avi,Jump,1", "absent.avi,Walk,1")
    assert len(list_clips(tmp_path, classes=1, group_pattern=None)) == 1


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["absent.avi,Jump,1"], r"absent\.avi: is no regular file, found nothing"),
        (["a.avi,Jump,"], r"a\.avi: has no group in its name"),
        (["a.avi,Jump,1", "a.avi,Jump,2"], r"a\.avi: has the clip name of a\.avi too"),
        (["a.avi,Jump,1", "a.avi,JUMP,2"], "found 'JUMP' and 'Jump'"),
    ],
)
def test_wrong_manifest_is_named(tmp_path: Path, lines: list[str], reason: str) -> None:
    touch(tmp_path, "a.avi")
    write_table(tmp_path, "path,label,group", *lines)
    with pytest.raises(InputError, match=reason):
        clips_of(tmp_path)


@pytest.mark.parametrize(
    "name", ["v 走る🏃_g01_c01", "-v_g01_c01", "v\n_g01_c01", "é" * 110 + "_g01_c01"]
)
def test_clip_may_have_an_odd_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "-A B", f"{name}.avi")
    assert [clip.name for clip in clips_of(tmp_path)] == [name]


@pytest.mark.parametrize("name", ["v\\_g01_c01", os.fsdecode(b"v\xff_g01_c01")])
def test_name_that_no_index_takes_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "A", f"{name}.avi")
    with pytest.raises(InputError, match="_g01_c01"):
        clips_of(tmp_path)


numbers = st.tuples(st.sampled_from("ABC"), st.integers(1, 99), st.integers(1, 9))


@given(keys=st.sets(numbers, min_size=1, max_size=12))
def test_every_file_is_one_clip(
    tmp_path_factory: pytest.TempPathFactory, keys: set[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("videos")
    touch(folder, *(f"{label}/v_{label}_g{g:02}_c{c:02}.avi" for label, g, c in keys))
    clips = clips_of(folder)
    assert [(clip.label, int(clip.group)) for clip in clips] == [key[:2] for key in sorted(keys)]
    assert {clip.path for clip in clips} == set(folder.glob("*/*.avi"))


def test_files_that_are_no_videos_by_their_names_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "A/v_g01_c01.avi", "A/notes.txt", "B/v_g01_c01.wmv", "loose.avi", ".hidden")
    found = list_ignored(tmp_path, labels=["A", "B"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "A/notes.txt",
        "B/v_g01_c01.wmv",
        "loose.avi",
    ]
