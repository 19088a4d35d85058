import pickle
from pathlib import Path

import pytest

from kinetrack.errors import InputError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.csv", "is empty"), "a.csv: is empty"),
        (InputError(Path("a/b"), "is small", found=0), "a/b: is small, found 0"),
        (InputError("a", "is small", expected=3), "a: is small, expected 3"),
        (
            InputError("a", "is small", found=1, expected=3, remedy="make repro"),
            "a: is small, found 1, expected 3 -> make repro",
        ),
    ],
)
def test_parts_stand_in_one_order(error: InputError, line: str) -> None:
    assert str(error) == line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\u2028b", r"a\r\u2028b"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\u202egpj.avi", r"a\u202egpj.avi"),
        ("a\udcffb", r"a\udcffb"),
        ("Straße 走る 🏃", "Straße 走る 🏃"),
    ],
)
def test_message_is_one_line_whatever_a_name_holds(name: str, shown: str) -> None:
    assert str(InputError(name, "is broken")) == f"{shown}: is broken"


def test_a_part_of_a_message_is_cut_where_it_is_longer_than_a_page() -> None:
    error = InputError("a", "b" * 10**6, found="c" * 10**6, expected=10**4000, remedy="d")
    line = str(error)
    assert len(line) < 7000
    assert line.startswith("a: bbb")
    assert "bbb..., found ccc" in line
    assert line.endswith("000... -> d")


def test_pickle_keeps_every_part() -> None:
    error = InputError(Path("a\nb"), "is small", found=1, expected=3, remedy="make repro")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.path, again.found, again.expected) == (error.path, 1, 3)
