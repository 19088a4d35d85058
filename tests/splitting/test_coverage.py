import pytest

from kinetrack.errors import InputError
from kinetrack.splitting.coverage import find_absent, find_shared, most_groups, refuse_untrained
from kinetrack.splitting.strategies import GroupedClip

SIDES = {
    GroupedClip("A", "a1", "1"): "train",
    GroupedClip("A", "a2", "2"): "test",
    GroupedClip("A", "a3", "2"): "train",
    GroupedClip("B", "b1", "1"): "train",
    GroupedClip("C", "c1", "1"): "test",
    GroupedClip("C", "c2", "9"): "test",
}


def test_a_class_without_training_clips_is_named_with_where_they_are() -> None:
    message = (
        r"C: is a class without a usable training clip, "
        r"found 2 test clips, 1 dropped clips, the first: too short"
    )
    with pytest.raises(InputError, match=message):
        refuse_untrained("ABC", SIDES, reasons={"C": ["too short"]})


def test_a_class_of_dropped_clips_alone_is_named_with_the_first_reason() -> None:
    with pytest.raises(InputError, match=r"D: .*found 2 dropped clips, the first: no video"):
        refuse_untrained("ABD", SIDES, reasons={"D": ["no video", "other"]})


def test_classes_that_train_pass() -> None:
    refuse_untrained("AB", SIDES, reasons={"A": ["too short"]})


def test_a_class_that_a_side_lacks_is_found_but_not_of_an_empty_side() -> None:
    assert find_absent(SIDES) == [("train", "C"), ("test", "B")]


def test_a_group_of_a_class_on_two_sides_is_found() -> None:
    assert find_shared(SIDES) == [("A", "2")]


def test_groups_are_counted_in_each_class() -> None:
    assert most_groups(SIDES) == 2
    assert most_groups([]) == 0
