from pathlib import Path

import pytest

from kinetrack.collecting.collections import Placement, Plan
from kinetrack.collecting.official import OfficialSides, add_official, read_official
from kinetrack.data.manifest import ManifestRow
from kinetrack.errors import InputError


def write_lists(folder: Path, **lists: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text(lines)
    return folder


def test_lists_give_each_clip_a_word_a_fold(tmp_path: Path) -> None:
    write_lists(
        tmp_path,
        trainlist01="Jump/v 1.avi 1\nWalk/w.avi 2\n",
        testlist01="Jump/v_2.avi\r\n",
        trainlist02="Jump/v_2.avi 1\n\n",
        testlist02="Jump/v 1.avi\nWalk/w.avi\n",
        classInd="1 Jump\n2 Walk\n",
    )
    assert read_official(tmp_path) == OfficialSides(
        {"Jump/v 1": "train test", "Walk/w": "train test", "Jump/v_2": "test train"}, 2
    )


def test_lists_may_lie_deeper_and_have_a_validation_side(tmp_path: Path) -> None:
    write_lists(
        tmp_path / "lists", trainlist01="A/1.avi", vallist01="A/2.avi", testlist01="A/3.avi"
    )
    assert read_official(tmp_path).words == {"A/1": "train", "A/2": "val", "A/3": "test"}


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ({}, "holds no trainlist01.txt"),
        ({"trainlist01": "A/1.avi"}, "holds no testlist01.txt"),
        ({"trainlist01": "A/1.avi", "testlist01": "A/1.avi"}, "A/1, which is on the .* side"),
        ({"trainlist01": "../1.avi", "testlist01": "A/2.avi"}, "line 1 is no clip"),
        ({"trainlist01": "/etc/1.avi", "testlist01": "A/2.avi"}, "line 1 is no clip"),
        ({"trainlist01": "A/b/1.avi", "testlist01": "A/2.avi"}, "line 1 is no clip"),
        ({"trainlist01": "A/1\0.avi", "testlist01": "A/2.avi"}, "line 1 is no clip"),
        ({"trainlist01": "\nalone", "testlist01": "A/2.avi"}, "line 2 is no clip"),
        (
            {
                "trainlist01": "A/1.avi",
                "testlist01": "A/2.avi",
                "trainlist02": "A/2.avi",
                "testlist02": "",
            },
            "names A/1 in no list of fold 2",
        ),
    ],
)
def test_lists_that_are_none_are_named(tmp_path: Path, lists: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_official(write_lists(tmp_path, **lists))


def test_two_lists_of_one_fold_and_side_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_lists(tmp_path / folder, trainlist01="A/1.avi", testlist01="A/2.avi")
    with pytest.raises(InputError, match=r"b/testlist01\.txt: is a second list .* found .*a/testl"):
        read_official(tmp_path)


def test_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_lists(tmp_path, trainlist01="A/1.avi", testlist01="A/2.avi")
    (tmp_path / "testlist01.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"testlist01\.txt: cannot be read"):
        read_official(tmp_path)


def test_missing_and_extra_clips_are_told(tmp_path: Path) -> None:
    plan = Plan(
        [Placement(tmp_path / name, name) for name in ("A/1.avi", "A/4.avi")],
        manifest=[],
        left_out=[],
    )
    sides = OfficialSides({"A/1": "train test", "A/2": "test train", "B/1": "train train"}, 2)
    planned, difference = add_official(plan, sides)
    assert planned.manifest == [
        ManifestRow(path="A/1.avi", label="A", official="train test"),
        ManifestRow(path="A/4.avi", label="A"),
    ]
    assert difference.missing == ["A/2"]  # class B is not in the collection at all
    assert difference.extra == ["A/4"]


def test_sides_are_added_to_a_manifest_by_clip_name(tmp_path: Path) -> None:
    row = ManifestRow(path="x/1.avi", label="A", group="anna", clip="one")
    plan = Plan([Placement(tmp_path / "1", "x/1.avi")], manifest=[row], left_out=[])
    planned, _ = add_official(plan, OfficialSides({"A/one": "val"}, 1))
    assert planned.manifest == [row.model_copy(update={"official": "val"})]
