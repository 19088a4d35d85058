import math
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.index import FramesRow, Side
from kinetrack.splitting.leaks import drop_leaks, find_leaks

from factories import frames_row

Placed = tuple[FramesRow, Side]


def placed(clip: str, side: Side, **content: object) -> Placed:
    """A clip `<Class>/<name>` on a side; `content` sets columns of its row."""
    label, name = clip.split("/")
    return frames_row(name, label=label, group="1").model_copy(update=content), side


def same(clip: str, side: Side) -> Placed:
    """One of several clips with the same frames, from different files."""
    return placed(clip, side, frames_sha256="f" * 64)


def segment(clip: str, side: Side, start_s: float | None, end_s: float | None) -> Placed:
    """A segment of one video, with frames of its own."""
    return placed(clip, side, video_sha256="e" * 64, start_s=start_s, end_s=end_s)


def gone(sides: list[Placed]) -> dict[str, str]:
    """Reason by the clip that must go, in the order found."""
    return {
        f"{leak.clip.row.label}/{leak.clip.row.clip}": leak.reason for leak in find_leaks(sides)
    }


def test_different_clips_stay() -> None:
    sides = [placed("A/a", "train"), placed("A/b", "test"), placed("B/a", "train")]
    assert find_leaks(sides) == []


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (["train", "test"], {"A/0": "has the frames of A/1 (test)"}),
        (["test", "train"], {"A/1": "has the frames of A/0 (test)"}),
        (["train", "val"], {"A/0": "has the frames of A/1 (val)"}),
        (["test", "val"], {"A/1": "has the frames of A/0 (test)"}),
        (["train", "train"], {"A/1": "has the frames of A/0 (train)"}),
        (
            ["train", "val", "test"],
            {"A/0": "has the frames of A/2 (test)", "A/1": "has the frames of A/2 (test)"},
        ),
    ],
)
def test_of_equal_clips_one_stays_the_test_clip_first(
    sides: list[Side], expected: dict[str, str]
) -> None:
    assert gone([same(f"A/{number}", side) for number, side in enumerate(sides)]) == expected


def test_equal_clips_under_two_labels_all_go_wherever_they_are() -> None:
    sides = [same("A/a", "train"), same("A/b", "test"), same("B/c", "train"), placed("B/d", "test")]
    assert gone(sides) == {
        "A/a": "has the frames of B/c (train), under another label",
        "A/b": "has the frames of B/c (train), under another label",
        "B/c": "has the frames of A/b (test), under another label",
    }


def test_of_equal_clips_under_three_labels_the_first_other_one_is_named() -> None:
    twins = {
        label: reason.split()[4]
        for label, reason in gone([same(f"{label}/a", "train") for label in "CAB"]).items()
    }
    assert twins == {"A/a": "B/a", "B/a": "A/a", "C/a": "A/a"}


def test_one_file_under_two_labels_is_told_so() -> None:
    content = {"frames_sha256": "f" * 64, "video_sha256": "e" * 64}
    sides = [placed("A/a", "train", **content), placed("B/a", "train", **content)]
    assert gone(sides)["A/a"] == "is the same video as B/a (train), under another label"


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ((0, 5), (4.9, 9), True),
        ((0, 5), (5, 9), False),
        ((5, 9), (0, 5), False),
        ((None, 5), (4, None), True),
        ((None, 5), (5, None), False),
        ((2, 3), (None, None), True),
        ((None, None), (None, None), True),
    ],
)
def test_segments_on_two_sides_leak_where_they_overlap(
    first: tuple[float | None, float | None],
    second: tuple[float | None, float | None],
    overlap: bool,
) -> None:
    found = gone([segment("A/a", "train", *first), segment("B/b", "test", *second)])
    assert found == ({"A/a": "overlaps B/b (test) in the same video"} if overlap else {})


def test_segments_of_one_side_may_overlap() -> None:
    assert gone([segment("A/a", "train", 0, 5), segment("B/b", "train", 4, 9)]) == {}


def test_a_clip_that_went_takes_no_other_with_it() -> None:
    sides = [
        segment("A/a", "train", 0, 5),
        segment("A/b", "val", 4, 9),
        segment("A/c", "test", 8, 12),
    ]
    assert gone(sides) == {"A/b": "overlaps A/c (test) in the same video"}


def test_clips_without_a_checksum_are_equal_to_none() -> None:
    blank = {"frames_sha256": "", "video_sha256": ""}
    assert find_leaks([placed("A/a", "train", **blank), placed("B/b", "test", **blank)]) == []


def test_dropped_clips_keep_their_side_and_reason() -> None:
    sides = [same("A/a", "train"), same("A/b", "test"), placed("A/c", "train")]
    filtered = drop_leaks(sides, find_leaks(sides))
    assert filtered.kept == sides[1:]
    assert [tuple(row.model_dump().values()) for row in filtered.dropped] == [
        ("a", "A", "train", "has the frames of A/b (test)")
    ]


clips = st.builds(
    lambda frames, video, start, length, side, label: (
        {
            "frames_sha256": frames,
            "video_sha256": video,
            "start_s": float(start),
            "end_s": float(start + length),
        },
        side,
        label,
    ),
    st.sampled_from("abcdef"),
    st.sampled_from("xyz"),
    st.integers(0, 20),
    st.integers(1, 6),
    st.sampled_from(["train", "val", "test"]),
    st.sampled_from("AB"),
)
placed_lists = st.lists(clips, max_size=15).map(
    lambda found: [
        placed(f"{label}/{number:02}", side, **content)
        for number, (content, side, label) in enumerate(found)
    ]
)


@given(sides=placed_lists)
def test_no_two_clips_that_stay_share_anything(sides: list[Placed]) -> None:
    filtered = drop_leaks(sides, find_leaks(sides))
    assert len(filtered.kept) + len(filtered.dropped) == len(sides)
    for (row, side), (other, other_side) in combinations(filtered.kept, 2):
        assert row.frames_sha256 != other.frames_sha256
        if side != other_side and row.video_sha256 == other.video_sha256:
            assert row.end_s <= other.start_s or other.end_s <= row.start_s


@given(sides=placed_lists)
def test_a_clip_goes_only_for_one_that_shares_something(sides: list[Placed]) -> None:
    for leak in find_leaks(sides):
        row, side = leak.clip
        others = [(other, at) for other, at in sides if other.clip != row.clip]
        assert any(
            other.frames_sha256 == row.frames_sha256
            or (
                at != side
                and other.video_sha256 == row.video_sha256
                and row.start_s < other.end_s
                and other.start_s < row.end_s
            )
            for other, at in others
        )


# Of one video only, and all with frames of their own: what overlaps is all that matters.
segment_lists = st.lists(
    st.tuples(
        st.sampled_from(["train", "val", "test"]),
        st.none() | st.integers(1, 20),
        st.none() | st.integers(1, 6),
    ),
    max_size=25,
).map(
    lambda found: [
        segment(
            f"A/{number:02}",
            side,
            None if start is None else float(start),
            None if length is None else float((start or 0) + length),
        )
        for number, (side, start, length) in enumerate(found)
    ]
)


def overlapped_by_comparing_all(sides: list[Placed]) -> dict[str, str]:
    """The rule in its plain words: each clip with all that stay on the sides before its own."""
    staying: list[Placed] = []
    found = {}
    for side in ("test", "val", "train"):
        before = list(staying)
        for row, _ in (clip for clip in sides if clip[1] == side):
            start, end = row.start_s or 0, math.inf if row.end_s is None else row.end_s
            for other, at in before:
                other_end = math.inf if other.end_s is None else other.end_s
                if start < other_end and (other.start_s or 0) < end:
                    found[f"A/{row.clip}"] = f"overlaps A/{other.clip} ({at}) in the same video"
                    break
            else:
                staying.append((row, side))
    return found


@given(sides=segment_lists)
def test_overlaps_are_those_that_comparing_all_finds(sides: list[Placed]) -> None:
    assert gone(sides) == overlapped_by_comparing_all(sides)


@pytest.mark.parametrize("order", [range(9), range(8, -1, -1), [4, 7, 0, 8, 2, 5, 1, 6, 3]])
def test_overlaps_are_found_between_gaps_however_long_a_clip_is(order: Sequence[int]) -> None:
    tested = [
        segment(f"A/{number:03}", "test", 2.0 * place + 1, 2.0 * place + 2)
        for number, place in enumerate(order)
    ]
    ends = combinations(range(21), 2)
    trained = [
        segment(f"A/{number:03}", "train", float(start), float(end))
        for number, (start, end) in enumerate(ends, start=100)
    ]
    assert gone([*tested, *trained]) == overlapped_by_comparing_all([*tested, *trained])


def test_a_film_of_many_segments_is_no_matter_of_hours() -> None:
    whole = segment("A/whole", "test", 5, None)
    cuts = [
        segment(f"A/{number:06}", ("test", "train")[number % 2], number, number + 1.5)
        for number in range(10_000)
    ]
    found = gone([whole, *cuts])
    assert found["A/000001"] == "overlaps A/000000 (test) in the same video"
    assert found["A/009999"] == "overlaps A/009998 (test) in the same video"
    assert len(found) == 5000


@given(data=st.data(), sides=placed_lists)
def test_order_of_the_input_does_not_matter(data: st.DataObject, sides: list[Placed]) -> None:
    assert find_leaks(data.draw(st.permutations(sides))) == find_leaks(sides)
