import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.data.index import SIDES, DroppedRow
from kinetrack.data.overview import (
    FormatCount,
    GroupCount,
    choose_shown,
    duration_s,
    spread_evenly,
    summarise_clips,
    write_overview,
)
from kinetrack.tables import read_csv

from factories import frames_row


def clip(name, *, label="Jump", group="01", num_frames=10, fps=10.0, status="ok", **values):
    row = frames_row(name, label=label, group=group, status=status)
    if status == "broken":
        return row
    return row.model_copy(update={"num_frames": num_frames, "fps": fps, **values})


def dropped(row, reason="5 frames missing of 15"):
    return DroppedRow(clip=row.clip, label=row.label, side=SIDES[0], reason=reason)


def test_a_class_is_counted_without_the_frames_that_a_broken_clip_lacks():
    rows = [
        clip("a", num_frames=10),
        clip("b", num_frames=30, group="02"),
        clip("c", num_frames=50, group="02", width=32),
        clip("d", status="broken", group="03"),
    ]
    [facts] = summarise_clips(rows).classes
    assert (facts.label, facts.clips, facts.broken, facts.flagged, facts.groups) == (
        "Jump",
        4,
        1,
        0,
        3,
    )
    assert (facts.frames_min, facts.frames_median, facts.frames_max) == (10, 30, 50)
    assert (facts.seconds_min, facts.seconds_median, facts.seconds_max) == (1.0, 3.0, 5.0)
    assert (facts.frames_total, facts.seconds_total) == (90, 9.0)
    assert (facts.sizes, facts.rates) == ("64x48 32x48", "10")


def test_a_group_of_several_classes_counts_once_in_the_total():
    rows = [clip("a", label="Jump"), clip("b", label="Walk"), clip("c", label="Walk", group="02")]
    overview = summarise_clips(rows)
    assert [facts.label for facts in overview.classes] == ["Jump", "Walk"]
    assert (overview.total.clips, overview.total.groups) == (3, 2)
    assert overview.groups == [
        GroupCount("Jump", "01", 1),
        GroupCount("Walk", "01", 1),
        GroupCount("Walk", "02", 1),
    ]


@pytest.mark.parametrize(
    ("rows", "clips"),
    [([], 0), ([clip("a", status="broken")], 1), ([clip("a", fps=0.0)], 1)],
    ids=["nothing", "broken", "no rate"],
)
def test_a_data_set_without_a_single_second_is_no_error(rows, clips):
    total = summarise_clips(rows).total
    assert (total.clips, total.seconds_total) == (clips, 0.0)


@given(
    st.lists(
        st.tuples(st.integers(1, 10_000), st.sampled_from([0.001, 1.0, 12.5, 25.0, 29.97, 240.0])),
        min_size=1,
        max_size=30,
    )
)
def test_every_clip_is_in_the_one_bin_of_its_length(lengths):
    rows = [clip(f"c{n}", num_frames=frames, fps=fps) for n, (frames, fps) in enumerate(lengths)]
    bins = summarise_clips(rows).lengths
    assert sum(count.clips for count in bins) == len(rows)
    assert len(bins) <= 21
    edges = [count.from_s for count in bins] + [bins[-1].to_s]
    assert [count.to_s for count in bins] == edges[1:]
    for count in bins:
        inside = [row for row in rows if count.from_s - 1e-3 <= duration_s(row) < count.to_s + 1e-3]
        assert len(inside) >= count.clips


def test_a_clip_on_an_edge_is_in_the_bin_that_starts_there():
    bins = summarise_clips([clip("a", num_frames=3), clip("b", num_frames=7)]).lengths
    assert [(count.from_s, count.to_s) for count in bins if count.clips] == [(0.3, 0.4), (0.7, 0.8)]


def test_formats_are_counted_with_the_most_common_first():
    rows = [clip("a", codec="h264"), clip("b"), clip("c"), clip("d", status="broken")]
    assert summarise_clips(rows).formats == [
        FormatCount(10.0, 64, 48, "mpeg4", "avi", 2),
        FormatCount(10.0, 64, 48, "h264", "avi", 1),
    ]


def test_problems_name_broken_flagged_and_dropped_clips_and_no_broken_one_twice():
    broken = clip("b", status="broken")
    flagged = clip("f", status="flagged", reason="1 of 11 frames missing")
    good = clip("g", label="Awk")
    problems = summarise_clips([broken, flagged, good], map(dropped, (broken, flagged, good)))
    assert [(found.label, found.clip, found.status) for found in problems.problems] == [
        ("Awk", "g", "dropped"),
        ("Jump", "b", "broken"),
        ("Jump", "f", "dropped"),
        ("Jump", "f", "flagged"),
    ]
    assert problems.problems[1].reason == broken.reason


rows_of_a_class = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["ok", "flagged", "broken"])), max_size=40
).map(
    lambda kinds: [
        clip(f"c{n:02}", group=f"{g:02}", status=status) for n, (g, status) in enumerate(kinds)
    ]
)


@given(rows_of_a_class, st.integers(0, 8), st.randoms())
def test_shown_clips_have_frames_and_come_from_as_many_groups_as_possible(rows, most, shuffler):
    shown = choose_shown(rows, most=most)
    whole = [row for row in rows if row.status != "broken"]
    assert len(shown) == min(most, len(whole))
    assert len({row.clip for row in shown}) == len(shown)
    assert all(row in whole for row in shown)
    assert len({row.group for row in shown}) == min(most, len({row.group for row in whole}))
    assert choose_shown(shuffler.sample(rows, len(rows)), most=most) == shown


def test_shown_groups_are_spread_from_the_first_to_the_last():
    rows = [clip(f"g{group:02}", group=f"{group:02}") for group in range(1, 26)]
    groups = [row.group for row in choose_shown(rows, most=6)]
    assert groups == ["01", "05", "10", "15", "20", "25"]


@given(st.integers(0, 500), st.integers(0, 70))
def test_spread_items_are_in_order_with_both_ends(length, most):
    chosen = spread_evenly(range(length), most=most)
    assert len(chosen) == min(length, most)
    assert chosen == sorted(set(chosen))
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, length - 1)


def test_the_tables_are_the_same_bytes_for_the_same_index(tmp_path):
    rows = [
        clip('a,"<b>"\r\n', label="Jump, high", num_frames=11),
        clip("b", label="Ω 😀", fps=29.97),
        clip("c", label="Ω 😀", status="broken"),
    ]
    write_overview(tmp_path / "one", summarise_clips(rows, [dropped(rows[0])]))
    random.Random(0).shuffle(rows)
    write_overview(tmp_path / "two", summarise_clips(rows[::-1], [dropped(rows[0])][:0]))
    names = ["classes.csv", "groups.csv", "lengths.csv", "problems.csv", "rates.csv"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in set(names) - {"problems.csv"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_csv(tmp_path / "one/problems.csv")[0] == {
        "clip": 'a,"<b>"\r\n',
        "label": "Jump, high",
        "status": "dropped",
        "reason": "5 frames missing of 15",
    }
