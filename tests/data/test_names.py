from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kinetrack.data.names import Name, check_name, find_alike

names = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))


@given(name=names)
def test_plain_name_is_safe_as_one_part_of_a_path(name: str) -> None:
    assert (Path("/root") / check_name(name)).parent == Path("/root")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "../a", "a\\b", "a\0b", "/", "a/"]
)
def test_name_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no plain file name"):
        check_name(name)


@pytest.mark.parametrize("name", ["- a b.c", "\n", "\U0001f938", "x" * 251, "\u00e9" * 125])
def test_unpleasant_but_possible_names_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["x" * 252, "\u00e9" * 126])
def test_name_that_leaves_no_room_for_a_suffix_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^'{name[:40]}'... is longer than 251 bytes"):
        check_name(name)


def test_a_name_in_a_record_is_checked() -> None:
    assert TypeAdapter(Name).validate_python("Walk") == "Walk"
    with pytest.raises(ValidationError, match=r"'\.\.' is no plain file name"):
        TypeAdapter(Name).validate_python("..")


def test_name_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        check_name("caf\udce9")


@pytest.mark.parametrize(
    "others",
    [["Walk", "walk"], ["caf\u00e9", "cafe\u0301"], ["CAF\u00c9", "cafe\u0301"], ["a", "a"]],
    ids=["case", "Unicode form", "both", "equal"],
)
def test_names_that_are_one_elsewhere_are_found(others: list[str]) -> None:
    assert find_alike(["Run", *others, "Jump"]) == tuple(others)


def test_different_names_are_not_alike() -> None:
    assert find_alike(["Walk", "Walk2", "Wal k", "cafe"]) is None
