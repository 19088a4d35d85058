import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.index import FramesRow, TensorsRow, read_index, write_index
from kinetrack.errors import InputError

from factories import frames_row

names = st.text(
    st.characters(exclude_characters="/\\\0\r", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name not in (".", ".."))


@given(
    clips=st.lists(st.tuples(names, names, names, st.integers(0, 10**6)), max_size=5),
    fps=st.floats(0, 1000),
)
def test_index_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    clips: list[tuple[str, str, str, int]],
    fps: float,
) -> None:
    path = tmp_path_factory.mktemp("index") / "index.csv"
    rows = [
        frames_row(clip, label=label, group=group, missing=missing).model_copy(update={"fps": fps})
        for clip, label, group, missing in clips
    ]
    write_index(path, FramesRow, rows)
    assert read_index(path, FramesRow, remedy="") == rows


@pytest.mark.parametrize("is_short", [True, False])
def test_truth_value_comes_back_as_one(tmp_path: Path, is_short: bool) -> None:
    row = TensorsRow(
        clip="a",
        label="A",
        group="01",
        video="A/a.avi",
        side="val",
        num_frames=3,
        packed_frames=3,
        is_short=is_short,
        frames_sha256="1",
        archive_md5="0",
        tensor_md5="0",
    )
    write_index(tmp_path / "index.csv", TensorsRow, [row])
    assert read_index(tmp_path / "index.csv", TensorsRow, remedy="") == [row]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of two clips, a and b."""
    rows = [frames_row(clip, label="A", group="01") for clip in "ab"]
    write_index(tmp_path / "index.csv", FramesRow, rows)
    return tmp_path / "index.csv"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("b,A", "../b,A", r"line 3, column clip: .*no plain file name"),
        ("b,A", "b,/A", "line 3, column label"),
        ("b,A", "b\0,A", "line 3, column clip"),
        ("b,A", ",A", "line 3, column clip"),
        ("yuv420p,64", "yuv420p,-64", "line 2, column width: .*greater than or equal to 0"),
        ("yuv420p,64", "yuv420p,wide", "line 2, column width: .*valid integer"),
        ("yuv420p,64", "yuv420p,64.5", "line 2, column width"),
        ("ok,", "fine,", "line 2, column status: .*'ok', 'flagged' or 'broken'"),
        ("ok,", "ok,,more", "line 2, column"),
        ("ok,", "ok", "line 2, column reason"),
        ("group", "person", "line 2, column group: Field required"),
        ("reason", "reason,extra", "line 2, column extra"),
        pytest.param(
            "b,A",
            "b" * 140_000 + ",A",
            "cannot be read, found field larger",
            id="long field",
        ),
    ],
)
def test_damaged_row_is_named_by_line_and_column(
    index: Path, old: str, new: str, reason: str
) -> None:
    index.write_text(index.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"index\.csv: {reason}.* -> dvc repro frames"):
        read_index(index, FramesRow, remedy="dvc repro frames")


def test_missing_index_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read.* -> dvc repro frames"):
        read_index(tmp_path / "index.csv", FramesRow, remedy="dvc repro frames")


def test_index_that_is_no_text_is_named(index: Path) -> None:
    index.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_index(index, FramesRow, remedy="")


def test_index_without_its_header_is_named(index: Path) -> None:
    index.write_bytes(b"")
    with pytest.raises(InputError, match="is empty, expected a header"):
        read_index(index, FramesRow, remedy="")


def test_rows_hold_in_common_what_is_equal(index: Path) -> None:
    first, second = read_index(index, FramesRow, remedy="")
    for column in ("label", "container", "codec", "pixel_format", "status"):
        assert getattr(first, column) is getattr(second, column)
    assert first.model_fields_set is second.model_fields_set


def test_a_changed_copy_changes_no_other_row(index: Path) -> None:
    first, second = read_index(index, FramesRow, remedy="")
    changed = first.model_copy(update={"group": "02"})
    assert (changed.group, first.group) == ("02", "01")
    assert changed.model_dump() == {**first.model_dump(), "group": "02"}
    assert second.model_fields_set == set(FramesRow.model_fields)
    assert pickle.loads(pickle.dumps(changed)) == changed
