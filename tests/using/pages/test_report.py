import re
from html import unescape
from pathlib import Path

import pytest

from kinetrack.data.index import DroppedRow
from kinetrack.data.tensors import PackedSide
from kinetrack.using.pages import report as module
from kinetrack.using.pages.report import write_report_page
from kinetrack.using.report import Made, Report

from html_read import handlers
from reports_made import make_report, network, write_test_clips

NASTY = "<script>alert(1)\"' onload=x &amp; $x$ #010203"


def page(folder: Path, report: Report, side: PackedSide | None, *, num_classes: int = 2) -> str:
    path = folder / "report.html"
    write_report_page(path, report, model=network(num_classes), side=side)
    return path.read_text()


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> PackedSide:
    return write_test_clips(tmp_path_factory.mktemp("packed"))


def test_the_page_tells_figures_errors_and_what_made_it(tmp_path: Path, side: PackedSide) -> None:
    made = Made("ab" * 16, "my run", "http://team:5000/#/runs/1", "c0ffee", has_changes=True)
    dropped = [DroppedRow(clip="late", label="Jump", side="test", reason="3 frames missing")]
    html = page(tmp_path, make_report(side, made=made, dropped=dropped), side)
    for text in (
        "small_3dcnn on data set",
        "<b>0.833</b> <span>test accuracy</span>",
        "<b>0.500</b> <span>always naming the largest class</span>",
        "<b>0.250</b> <span>with the frames shuffled</span>",
        "5 of 6 test clips are classified correctly",
        "With 6 test clips, one clip is 16.7 percentage points.",
        "<bdi>Jump</bdi> taken for <bdi>Walk</bdi>",
        "<bdi>Jump/late</bdi>",
        "3 frames missing",
        '<a href="http://team:5000/#/runs/1">',
        "c0ffee",
        "with uncommitted changes",
        "kinetrack reproduce abababab",
        "train.epochs",
    ):
        assert text in html, text
    assert html.count('<svg class="chart"') == 3


def test_each_shown_clip_has_its_frames_and_where_was_looked(
    tmp_path: Path, side: PackedSide
) -> None:
    html = page(tmp_path, make_report(side), side)
    # Four frames of each of six clips, plain and with the saliency.
    assert html.count("<img ") == 6 * 4 * 2
    assert html.count('class="shares"') == 6
    assert html.count("Where the network looked in frame 1") == 6
    named = re.findall(r"<figcaption>\s*<b><bdi>(\S+)</bdi>", html)
    assert named == [f"v_{name}" for name in (
        "Jump_g03_c02", "Jump_g03_c01", "Jump_g03_c03", "Walk_g03_c01", "Walk_g03_c02",
        "Walk_g03_c03",
    )]  # fmt: skip


def test_the_saliency_is_of_the_class_that_was_named(
    tmp_path: Path, side: PackedSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = module.class_saliency

    def spy(model, card, clip, class_index):
        asked.append(class_index)
        return real(model, card, clip, class_index)

    monkeypatch.setattr(module, "class_saliency", spy)
    page(tmp_path, make_report(side), side)
    assert asked == [1, 0, 0, 1, 1, 1]  # the error first: Jump taken for Walk


def test_without_the_packed_clips_the_page_has_no_pictures_and_says_so(
    tmp_path: Path, side: PackedSide
) -> None:
    report = make_report(side)._replace(sides=[])
    html = page(tmp_path, report, None)
    assert "<img " not in html
    assert html.count("no picture: its packed clip is not here") == 6
    assert "dvc pull" in html


def test_a_clip_that_cannot_be_read_is_told_beside_the_others(tmp_path: Path) -> None:
    side = write_test_clips(tmp_path / "packed")
    side.path(side.rows[0]).write_bytes(b"no tensor")
    html = page(tmp_path, make_report(side), side)
    assert html.count("no picture: its packed clip is no packed clip") == 1
    assert html.count("<img ") == 5 * 4 * 2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ((), "No test clip is classified wrongly."),
        (range(6), "No test clip is classified correctly."),
    ],
)
def test_an_empty_part_says_so(tmp_path: Path, side: PackedSide, wrong, text: str) -> None:
    assert text in page(tmp_path, make_report(side, wrong=wrong), side)


def test_many_classes_have_a_picture_instead_of_a_table(tmp_path: Path) -> None:
    labels = [f"Class{number:02}" for number in range(13)]
    side = write_test_clips(tmp_path / "packed", labels)
    html = page(tmp_path, make_report(side), side, num_classes=13)
    assert 'class="pairs"' not in html
    assert 'aria-label="confusion matrix"' in html
    assert "Class00" in html


def nasty(folder: Path) -> tuple[Report, PackedSide]:
    side = write_test_clips(folder, ["Jump", NASTY])
    rows = [row.model_copy(update={"group": NASTY}) for row in side.rows]
    made = Made("1" * 32, NASTY, "", NASTY)
    dropped = [DroppedRow(clip=NASTY, label=NASTY, side="test", reason=NASTY)]
    report = make_report(PackedSide(side.folder, rows), made=made, dropped=dropped, params={
        NASTY: {NASTY: NASTY}
    })  # fmt: skip
    renamed = [{**row, "group": NASTY} for row in report.predictions]
    return report._replace(dataset=NASTY, predictions=renamed), side


def test_names_are_text_and_the_page_asks_for_nothing(tmp_path: Path) -> None:
    report, side = nasty(tmp_path / "packed")
    html = page(tmp_path, report, side)
    assert re.findall("</?script", html) == []
    assert handlers(html) == set()
    assert NASTY in unescape(html)
    assert "default-src 'none'" in html
    outside = re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", html)
    assert outside == []
    assert "http://" not in html
    assert "https://" not in html


def test_the_page_is_the_same_bytes_for_the_same_result(tmp_path: Path, side: PackedSide) -> None:
    report = make_report(side)
    assert page(tmp_path / "a", report, side) == page(tmp_path / "b", report, side)


def test_ids_on_the_page_are_unique(tmp_path: Path, side: PackedSide) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page(tmp_path, make_report(side), side))
    assert len(ids) == len(set(ids))


def test_writing_leaves_an_earlier_page_when_it_fails(
    tmp_path: Path, side: PackedSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page(tmp_path, make_report(side), side)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kinetrack.using.pages.document.write_text", fail)
    with pytest.raises(OSError, match="No space"):
        page(tmp_path, make_report(side, wrong=()), side)
    assert (tmp_path / "report.html").read_text() == before
