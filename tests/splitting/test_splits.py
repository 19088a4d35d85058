import json
import pickle
import pickletools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import SIDES, FramesRow, Side
from kinetrack.errors import InputError
from kinetrack.splitting.splits import (
    clip_id,
    read_split,
    write_pickled_list,
    write_split,
)

from factories import frames_row


def row_of(label: str, group: int, number: int = 1) -> FramesRow:
    name = f"v_{label}_g{group:02}_c{number:02}"
    return frames_row(name, label=label, group=f"{group:02}")


placed_rows = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(1, 9), st.integers(1, 3), st.sampled_from(SIDES)),
    min_size=1,
    max_size=30,
    unique_by=lambda key: key[:3],
).map(lambda keys: [(row_of(*key), side) for *key, side in keys])


@given(placed=placed_rows)
def test_split_file_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, placed: list[tuple[FramesRow, Side]]
) -> None:
    path = tmp_path_factory.mktemp("splits") / "split.json"
    write_split(path, placed, rule={"train_groups": 3})
    split = read_split(path)
    assert split.rule == {"train_groups": 3}
    assert split.fingerprint == fingerprint_split(placed)
    assert split.labels == sorted({row.label for row, _ in placed})
    for side in SIDES:
        assert split.side(side) == [clip_id(row) for row, at in placed if at == side]


SPLIT = {
    "rule": {},
    "fingerprint": "0" * 64,
    "labels": ["A"],
    "train": ["A/a"],
    "val": [],
    "test": ["A/b"],
}


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
        ({"train": ["A/"], "val": [3], "test": ["A"]}, "train.0: "),
        ({"val": [3]}, "val.0: .*valid string"),
        ({"val": "A/c"}, "val: .*valid (list|array)"),
        ({"value": []}, "value: Extra inputs"),
        ({"fingerprint": None}, "fingerprint: .*valid string"),
    ],
)
def test_split_edited_by_hand_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(SPLIT | change))
    with pytest.raises(InputError, match=rf"split\.json: .*{reason}.* -> dvc repro"):
        read_split(path)


def test_a_split_that_was_read_does_not_change(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    split = read_split(tmp_path / "split.json")
    with pytest.raises(ValidationError, match="frozen"):
        split.train = []


def test_split_without_a_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(
        '{"rule": {}, "fingerprint": "", "labels": [], "train": [], "val": []}'
    )
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
