from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.tables import read_csv, write_csv

# A lone \r is not among them: see the test below.
cells = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))


@given(rows=st.lists(st.fixed_dictionaries({"a": cells, "b ,": cells})))
def test_csv_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(path, ["a", "b ,"], rows)
    assert read_csv(path) == rows


def test_csv_with_a_carriage_return_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [{"clip": "v_Walk\r_g01_c01", "label": "Walk"}]
    write_csv(tmp_path / "a.csv", ["clip", "label"], rows)
    assert read_csv(tmp_path / "a.csv") == rows


def test_csv_has_quotes_only_where_they_are_needed(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["a", "b"], [{"a": "ß", "b": 1.5}, {"a": 'x,"\n', "b": None}])
    assert (tmp_path / "a.csv").read_bytes() == 'a,b\nß,1.5\n"x,""\n",\n'.encode()
    write_csv(tmp_path / "a.csv", ["a", "b"], [{"a": "ß", "b": 1.5}, {"a": "\r", "b": 2}])
    assert (tmp_path / "a.csv").read_bytes() == '"a","b"\n"ß","1.5"\n"\r","2"\n'.encode()


def test_csv_that_cannot_be_encoded_leaves_the_old_one(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["a"], [{"a": "old"}])
    with pytest.raises(UnicodeEncodeError):
        write_csv(tmp_path / "a.csv", ["a"], [{"a": "new" * 10_000}, {"a": "\udc80"}])
    assert read_csv(tmp_path / "a.csv") == [{"a": "old"}]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_cells_beyond_the_last_column_are_kept_under_a_name_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1,2,3\n")
    assert read_csv(tmp_path / "a.csv") == [{"a": "1", "(beyond the last)": ["2", "3"]}]


def test_csv_refuses_a_column_that_is_not_listed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'b'"):
        write_csv(tmp_path / "a.csv", ["a"], [{"a": 1, "b": 2}])
    assert list(tmp_path.iterdir()) == []
