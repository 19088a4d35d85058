import re
from html import unescape
from pathlib import Path

import pytest

from kinetrack.data.tensors import PackedSide
from kinetrack.using.comparison import JudgedClip, changed_sides, compare
from kinetrack.using.pages.comparison import Contender, PackedClips, write_comparison_page

from factories import model_card
from html_read import handlers
from reports_made import write_test_clips

NASTY = "<script>alert(1)\"' onload=x &amp; $x$"
GEOMETRY = model_card().clip


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> PackedSide:
    return write_test_clips(tmp_path_factory.mktemp("packed"))


def judge(side: PackedSide, *, wrong: set[int], group: str = "g") -> list[JudgedClip]:
    others = {"Jump": "Walk", "Walk": "Jump"}
    return [
        JudgedClip(
            label=row.label,
            clip=row.clip,
            group=f"{group}{place // 2}" if group else "",
            predicted=others.get(row.label, "Jump") if place in wrong else row.label,
            probability=0.75,
            actual_probability=0.25 if place in wrong else 0.75,
        )
        for place, row in enumerate(side.rows)
    ]


def contenders(*all_clips: list[JudgedClip], names: str = "abc") -> list[Contender]:
    first = all_clips[0]
    return [
        Contender(names[0], first),
        *(
            Contender(name, clips, "", compare(first, clips), changed_sides(first, clips))
            for name, clips in zip(names[1:], all_clips[1:], strict=False)
        ),
    ]


def page(
    folder: Path, listed: list[Contender], packed: PackedClips | None, notes: tuple[str, ...] = ()
) -> str:
    path = folder / "compare.html"
    write_comparison_page(path, listed, notes=notes, packed=packed)
    return path.read_text()


def test_the_page_tells_differences_and_which_clips_one_gets_right(
    tmp_path: Path, side: PackedSide
) -> None:
    first, second, third = (judge(side, wrong=wrong) for wrong in ({0, 1}, {1, 5}, {0, 1}))
    listed = contenders(first, second, third)
    html = page(tmp_path, listed, PackedClips(side, GEOMETRY), ("believe it slowly",))
    difference = listed[1].difference
    assert difference
    assert difference.interval
    low, high = difference.interval
    for text in (
        "3 results on the same 6 test clips",
        "3</b> <span>groups",
        "believe it slowly",
        "+0.000",
        f"{low:+.3f} to {high:+.3f}",
        "2 of 2 clips",
        "Both get the same clips right.",
        "right: <bdi>Jump</bdi> 0.750",
        "wrong: <bdi>Walk</bdi> 0.750",
    ):
        assert text in html, text
    # Both clips that changed, four frames of each, without a saliency.
    assert html.count("<img ") == 2 * 4
    assert "Where the network looked" not in html


def test_without_packed_clips_the_clips_are_named_alone(tmp_path: Path, side: PackedSide) -> None:
    html = page(tmp_path, contenders(judge(side, wrong={0}), judge(side, wrong=set())), None)
    assert "<img " not in html
    assert f"<bdi>Jump/{side.rows[0].clip}</bdi>" in html


def test_without_groups_there_are_no_intervals(tmp_path: Path, side: PackedSide) -> None:
    clips = judge(side, wrong={0}, group=""), judge(side, wrong=set(), group="")
    html = page(tmp_path, contenders(*clips), None)
    assert "<span>group" not in html
    assert " to " not in html.partition("<tbody>")[2].partition("</tbody>")[0]


def test_of_many_changes_the_page_shows_some_and_says_so(
    tmp_path: Path, side: PackedSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetrack.using.pages.comparison._MOST_CHANGED", 2)
    html = page(
        tmp_path, contenders(judge(side, wrong=set(range(6))), judge(side, wrong={0})), None
    )
    assert "2 of 5 clips" in html
    assert "and 3 more" in html


def test_names_are_text_and_the_page_asks_for_nothing(tmp_path: Path) -> None:
    side = write_test_clips(tmp_path / "packed", ["Jump", NASTY])
    first, second = (judge(side, wrong=wrong, group=NASTY) for wrong in ({0, 4}, set()))
    listed = [one._replace(name=NASTY) for one in contenders(first, second)]
    html = page(tmp_path, listed, PackedClips(side, GEOMETRY), (NASTY,))
    assert re.findall("</?script", html) == []
    assert handlers(html) == set()
    assert NASTY in unescape(html)
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", html) == []
    assert "http" not in html.replace("http-equiv", "")


def test_a_run_is_linked_where_a_server_shows_it(tmp_path: Path, side: PackedSide) -> None:
    listed = contenders(judge(side, wrong={0}), judge(side, wrong=set()))
    listed[1] = listed[1]._replace(address="https://team.example/#/runs/1")
    assert '<a href="https://team.example/#/runs/1"><bdi>b</bdi></a>' in page(
        tmp_path, listed, None
    )
