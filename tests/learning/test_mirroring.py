import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.motion import MOTIONS, OPPOSITES
from kinetrack.learning.mirroring import mirror_classes


def mirrored(*labels: str) -> dict[str, str]:
    return {
        label: labels[other] for label, other in zip(labels, mirror_classes(labels), strict=True)
    }


def test_classes_of_the_built_in_data_set() -> None:
    in_the_mirror = {**OPPOSITES, "Grow": "Grow", "Shrink": "Shrink"}
    assert mirrored(*MOTIONS) == in_the_mirror


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("turn left", "turn right"),
        ("Left_hand-wave", "right hand wave"),
        ("from left to right", "from right to left"),
        ("SpinCounterClockwise", "spin clockwise"),
        ("spin-anti-clockwise", "spin-clockwise"),
    ],
)
def test_names_that_differ_by_left_and_right_alone(one: str, other: str) -> None:
    assert mirrored(one, "Walk", other) == {one: other, "Walk": "Walk", other: one}


@pytest.mark.parametrize(
    "labels",
    [
        ("BrightLight", "Cleft"),
        ("MoveLeft", "Walk"),
        ("move_left", "MoveLeft", "MoveRight"),
        ("left right",),
    ],
    ids=["part of a word", "no partner", "two of one name", "only one"],
)
def test_other_classes_stay_what_they_are(labels: tuple[str, ...]) -> None:
    assert mirror_classes(labels) == list(range(len(labels)))


@given(st.lists(st.text("Lleftrigh -_clockwsna", max_size=14), unique=True, max_size=8))
def test_twice_is_the_class_itself(labels: list[str]) -> None:
    other = mirror_classes(labels)
    assert [other[place] for place in other] == list(range(len(labels)))
