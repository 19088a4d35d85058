"""The pages as a real browser shows them, on a desk and on a phone, by day and by night."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kinetrack.data.overview import summarise_clips
from kinetrack.data.tensors import PackedSide
from kinetrack.using.comparison import changed_sides, compare, parse_predictions
from kinetrack.using.pages.clip import write_clip_page
from kinetrack.using.pages.comparison import Contender, PackedClips, write_comparison_page
from kinetrack.using.pages.data import write_data_page
from kinetrack.using.pages.report import write_report_page
from kinetrack.using.report import Made, Report

from browser import open_browser
from factories import frames_row
from frame_archives import write_archive
from reports_made import make_report, network, write_test_clips

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

# A name of a clip or class holds no slash; all else may.
NASTY = "<script>alert(1)\"' onload=x &amp; 😀"
LONG = "v_" + "Long" * 55
PAGES = ("data", "clip", "report", "comparison")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all pages, each with names that would do harm, and very long ones."""
    folder = tmp_path_factory.mktemp("pages")
    write_pages_of_data(folder)
    side = write_test_clips(folder / "packed", ["Jump", LONG, NASTY])
    made = Made("1" * 32, LONG, "http://127.0.0.1:5000/#/experiments/1/runs/1", "c0ffee")
    report = make_report(side, wrong=(1, 4), made=made)._replace(dataset=NASTY)
    write_report_page(folder / "report.html", report, model=network(3), side=side)
    write_comparison(folder / "comparison.html", side, report)
    return folder


def write_pages_of_data(folder: Path) -> None:
    rows = [
        *(frames_row(f"v_g0{n}_c01", label="Jump", group=f"0{n}") for n in range(7)),
        frames_row(NASTY, label=NASTY, group=NASTY, status="flagged"),
        frames_row(LONG, label="L" * 240, group=LONG, status="flagged"),
    ]
    for row in rows:
        write_archive(folder / "frames" / row.label / f"{row.clip}.zip")
    write_data_page(
        folder / "data.html",
        dataset="mine",
        rows=rows,
        overview=summarise_clips(rows),
        frames=folder / "frames",
    )
    archive = folder / "frames" / NASTY / f"{NASTY}.zip"
    row = rows[-2].model_copy(update={"video": LONG * 3})
    write_clip_page(folder / "clip.html", dataset="mine", row=row, archive=archive)


def write_comparison(path: Path, side: PackedSide, report: Report) -> None:
    first, second = (
        parse_predictions(to_csv(one)) for one in (report, make_report(side, wrong=(2,)))
    )
    contenders = [
        Contender(LONG, first),
        Contender(NASTY, second, "", compare(first, second), changed_sides(first, second)),
    ]
    packed = PackedClips(side, report.card.clip)
    write_comparison_page(path, contenders, notes=[NASTY], packed=packed)


def to_csv(report: Report) -> bytes:
    columns = ("clip", "group", "actual", "predicted", "probability", "actual_probability")
    quoted = [
        ",".join('"' + row[name].replace('"', '""') + '"' for name in columns)
        for row in report.predictions
    ]
    return "\n".join([",".join(columns), *quoted]).encode()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_whole_and_nothing_in_it_runs(
    pages: Path, browser: "Browser", name: str, colors: str, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        color_scheme="dark" if colors == "dark" else "light",
    )
    page, heard = context.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    address = (pages / f"{name}.html").as_uri()
    page.on(
        "request",
        lambda request: (
            None
            if request.url == address or request.url.startswith("data:")
            else heard.append(request.url)
        ),
    )
    page.goto(address)
    assert heard == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.scripts.length") == 0
    assert page.get_by_text(NASTY, exact=True).count() >= 1
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.images.length") > 0
    bright = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (bright == "rgb(255, 255, 255)") == (colors == "light")
    assert dim_texts(page, colors) == []
    context.close()


def dim_texts(page, colors: str) -> list[str]:
    """Texts of charts that are as dark, or as light, as the paper."""
    texts = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)"
    )
    levels = {fill: [int(x) for x in fill[4:-1].split(",")] for fill in texts}
    limit = range(200, 256) if colors == "light" else range(56)
    return [fill for fill, level in levels.items() if max(level) in limit]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_prints_in_dark_ink_on_paper(pages: Path, browser: "Browser", name: str) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((pages / f"{name}.html").as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert dim_texts(page, "light") == []
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()
