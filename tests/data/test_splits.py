import json
import pickle
import pickletools
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.index import SIDES, FramesRow, Side
from kinetrack.data.splits import (
    clip_id,
    drop_incomplete,
    read_split,
    split_first_groups,
    write_pickled_list,
    write_split,
)
from kinetrack.errors import InputError

from factories import frames_row


def row_of(label: str, group: int, number: int = 1, **damage: int | str) -> FramesRow:
    name = f"v_{label}_g{group:02}_c{number:02}"
    return frames_row(name, label=label, group=f"{group:02}", **damage)


keys = st.sets(
    st.tuples(st.sampled_from("ABC"), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=30
)
rows_lists = keys.map(sorted).map(lambda found: [row_of(*key) for key in found])
group_counts = st.integers(1, 10).flatmap(
    lambda train: st.tuples(st.just(train), st.integers(0, train - 1))
)


@given(rows=rows_lists, counts=group_counts)
def test_every_clip_is_on_one_side(rows: list[FramesRow], counts: tuple[int, int]) -> None:
    sides = split_first_groups(rows, train_groups=counts[0], val_groups=counts[1])
    assert [row for row, _ in sides] == rows


@given(rows=rows_lists, counts=group_counts)
def test_no_group_of_a_class_is_on_two_sides(
    rows: list[FramesRow], counts: tuple[int, int]
) -> None:
    found = defaultdict(set)
    for row, side in split_first_groups(rows, train_groups=counts[0], val_groups=counts[1]):
        found[row.label, row.group].add(side)
    assert {len(sides) for sides in found.values()} == {1}


@given(rows=rows_lists, counts=group_counts)
def test_first_groups_train_the_next_validate_the_rest_test(
    rows: list[FramesRow], counts: tuple[int, int]
) -> None:
    train_groups, val_groups = counts
    sides = split_first_groups(rows, train_groups=train_groups, val_groups=val_groups)
    for label in {row.label for row in rows}:
        groups = sorted({row.group for row in rows if row.label == label})
        expected = (
            ["train"] * (train_groups - val_groups) + ["val"] * val_groups + ["test"] * len(groups)
        )
        found = {row.group: side for row, side in sides if row.label == label}
        assert [found[group] for group in groups] == expected[: len(groups)]


@given(data=st.data(), rows=rows_lists, counts=group_counts)
def test_order_of_the_input_does_not_matter(
    data: st.DataObject, rows: list[FramesRow], counts: tuple[int, int]
) -> None:
    shuffled = data.draw(st.permutations(rows))
    train_groups, val_groups = counts
    assert split_first_groups(
        shuffled, train_groups=train_groups, val_groups=val_groups
    ) == split_first_groups(rows, train_groups=train_groups, val_groups=val_groups)


def test_groups_are_counted_in_each_class_and_by_appearance() -> None:
    rows = [row_of("A", group) for group in (3, 7)] + [row_of("B", group) for group in (1, 3, 7)]
    sides = split_first_groups(rows, train_groups=2, val_groups=0)
    assert [side for _, side in sides] == ["train", "train", "train", "train", "test"]


def test_groups_are_counted_before_anything_is_dropped() -> None:
    rows = [row_of("A", 1, status="broken"), row_of("A", 2), row_of("A", 3)]
    filtered = drop_incomplete(
        split_first_groups(rows, train_groups=2, val_groups=0), max_missing=1
    )
    assert [(row.group, side) for row, side in filtered.kept] == [("02", "train"), ("03", "test")]


@pytest.mark.parametrize(
    ("missing", "max_missing", "reason"),
    [
        (0, 0, None),
        (1, 1, None),
        (1, 0, "1 frames missing of 11"),
        (2, 1, "2 frames missing of 12"),
    ],
)
def test_clip_with_too_many_missing_frames_is_dropped_with_the_reason(
    missing: int, max_missing: int, reason: str | None
) -> None:
    row = row_of("A", 1, missing=missing)
    filtered = drop_incomplete([(row, "val")], max_missing=max_missing)
    assert filtered.kept == ([] if reason else [(row, "val")])
    found = [(lost.clip, lost.label, lost.side, lost.reason) for lost in filtered.dropped]
    assert found == ([("v_A_g01_c01", "A", "val", reason)] if reason else [])


def test_broken_clip_is_dropped_with_its_own_reason() -> None:
    filtered = drop_incomplete([(row_of("A", 1, status="broken"), "train")], max_missing=99)
    assert [lost.reason for lost in filtered.dropped] == ["cannot be opened as a video"]


@given(rows=rows_lists, missing=st.lists(st.integers(0, 4), min_size=30), most=st.integers(0, 4))
def test_every_clip_is_kept_or_dropped(
    rows: list[FramesRow], missing: list[int], most: int
) -> None:
    sides: list[tuple[FramesRow, Side]] = [
        (row.model_copy(update={"missing_frames": count}), "train")
        for row, count in zip(rows, missing, strict=False)
    ]
    filtered = drop_incomplete(sides, max_missing=most)
    named = {row.clip for row, _ in filtered.kept} | {lost.clip for lost in filtered.dropped}
    assert named == {row.clip for row in rows}
    assert len(filtered.kept) + len(filtered.dropped) == len(rows)
    assert all(row.missing_frames <= most for row, _ in filtered.kept)


@given(rows=rows_lists, counts=group_counts)
def test_split_file_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[FramesRow], counts: tuple[int, int]
) -> None:
    path = tmp_path_factory.mktemp("splits") / "split.json"
    sides = split_first_groups(rows, train_groups=counts[0], val_groups=counts[1])
    write_split(path, sides, rule={"train_groups": counts[0]})
    split = read_split(path)
    assert split.rule == {"train_groups": counts[0]}
    assert split.labels == sorted({row.label for row in rows})
    for side in SIDES:
        assert split.side(side) == [clip_id(row) for row, at in sides if at == side]


SPLIT = {"rule": {}, "labels": ["A"], "train": ["A/a"], "val": [], "test": ["A/b"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"test": ["A/a"]}, "names A/a twice"),
        ({"train": ["A/a", "A/a"]}, "names A/a twice"),
        ({"val": ["A/../../b"]}, "val.0: .*no plain file name"),
        ({"val": ["../b"]}, "val.0: .*no plain file name"),
        ({"val": ["A/.."]}, "no plain file name"),
        ({"val": ["/etc/passwd"]}, "no plain file name"),
        ({"val": ["A/b\0"]}, "no plain file name"),
        ({"val": ["A\\b/c"]}, "no plain file name"),
        ({"val": ["A"]}, "no plain file name"),
        ({"val": [""]}, "no plain file name"),
        ({"val": [3]}, "val.0: .*valid string"),
        ({"val": "A/c"}, "val: .*valid (list|array)"),
        ({"value": []}, "value: Extra inputs"),
    ],
)
def test_split_edited_by_hand_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(SPLIT | change))
    with pytest.raises(InputError, match=rf"split\.json: .*{reason}.* -> dvc repro"):
        read_split(path)


def test_split_without_a_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text('{"rule": {}, "labels": [], "train": [], "val": []}')
    with pytest.raises(InputError, match="test: Field required"):
        read_split(tmp_path / "split.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b'{"train": ["\\ud800/a"]}']
)
def test_file_that_is_no_split_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(InputError, match="is no split") as caught:
        read_split(tmp_path / "split.json")
    assert "\n" not in str(caught.value)


def test_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no split, found .*No such file.* -> dvc repro split"):
        read_split(tmp_path / "split.json")


def test_pickled_list_holds_the_names_and_no_code(tmp_path: Path) -> None:
    names = ["v_A_g01_c01", "v_ß_g02_c01"]
    write_pickled_list(tmp_path / "train.pkl", names)
    content = (tmp_path / "train.pkl").read_bytes()
    assert pickle.loads(content) == names
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(content)}
    assert not opcodes & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "BUILD"}


def test_pickled_list_has_fixed_bytes(tmp_path: Path) -> None:
    write_pickled_list(tmp_path / "train.pkl", ["a"])
    content = (tmp_path / "train.pkl").read_bytes()
    assert content == b"\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00]\x94\x8c\x01a\x94a."
