import re
from html import unescape

from kinetrack.data.overview import summarise_clips
from kinetrack.using.pages.clip import write_clip_page
from kinetrack.using.pages.data import write_data_page

from factories import frames_row
from frame_archives import write_archive
from html_read import handlers

# A name of a clip or class holds no slash; all else may.
NASTY = "<script>alert(1)\"' onload=x &amp; 😀"
NASTIER = "</td></title><script>alert(1)</script>"


def data_page(folder, rows, *, with_archives=True):
    """Make the page of these rows; returns its text."""
    for row in rows:
        if with_archives and row.status != "broken":
            write_archive(folder / "frames" / row.label / f"{row.clip}.zip")
    path = folder / "data.html"
    write_data_page(
        path,
        dataset="mine",
        rows=rows,
        overview=summarise_clips(rows),
        frames=folder / "frames",
    )
    return path.read_text()


def rows_of(label, *, clips, groups=3):
    return [
        frames_row(f"v_g{n % groups:02}_c{n:02}", label=label, group=f"{n % groups:02}")
        for n in range(clips)
    ]


def clip_page(folder, row, **archive):
    write_archive(folder / "clip.zip", num_frames=row.num_frames, **archive)
    write_clip_page(folder / "clip.html", dataset="mine", row=row, archive=folder / "clip.zip")
    return (folder / "clip.html").read_text()


def nasty_row(**values):
    row = frames_row(NASTY, label=NASTY, group=NASTIER)
    texts = dict.fromkeys(("video", "codec", "container", "pixel_format", "official"), NASTIER)
    return row.model_copy(update={**texts, "status": "flagged", "reason": NASTIER, **values})


def test_names_of_clips_and_classes_are_text_on_the_pages(tmp_path):
    broken = frames_row(NASTY + "2", label=NASTY, group=NASTIER, status="broken")
    broken = broken.model_copy(update={"reason": NASTIER})
    for html in (
        data_page(tmp_path, [nasty_row(), broken]),
        data_page(tmp_path / "bare", [nasty_row(), broken], with_archives=False),
        clip_page(tmp_path, nasty_row()),
    ):
        assert re.findall("</?script", html) == []
        assert handlers(html) == set()
        assert html.count("</title>") == 1
        assert NASTY in unescape(html)
        assert NASTIER in unescape(html)


def test_pages_hold_all_they_show_and_allow_nothing_else(tmp_path):
    rows = rows_of("Jump", clips=4)
    for html in (data_page(tmp_path, rows), clip_page(tmp_path, rows[0])):
        assert "default-src 'none'" in html
        assert set(re.findall(r"""(?:src|href)=.{6}""", html)) <= {'src="data:', *anchors(html)}
        assert "http" not in html.replace("http-equiv", "")
        assert "url(" not in html


def anchors(html):
    return {anchor for anchor in re.findall(r"href=.{6}", html) if anchor.startswith('href="#')}


def test_the_data_page_shows_at_most_six_clips_of_a_class_and_says_so(tmp_path):
    html = data_page(tmp_path, rows_of("Jump", clips=8) + rows_of("Walk", clips=2))
    assert html.count("<img ") == 6 + 2
    assert "8 of 10 clips" in html
    assert "6 of 8 clips, 3 groups" in html
    assert "the others are left out" in html


def test_with_many_classes_fewer_clips_of_each_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("kinetrack.using.pages.data._MOST_STRIPS", 4)
    rows = [row for label in "ABC" for row in rows_of(label, clips=2)]
    assert data_page(tmp_path, rows).count("<img ") == 3
    monkeypatch.setattr("kinetrack.using.pages.data._MOST_STRIPS", 2)
    html = data_page(tmp_path, rows)
    assert html.count("<img ") == 2
    assert "0 of 2 clips, 2 groups" in html


def test_a_broken_clip_is_named_without_a_picture(tmp_path):
    rows = [*rows_of("Jump", clips=1), frames_row("b", label="Jump", group="9", status="broken")]
    html = data_page(tmp_path, rows)
    assert html.count("<img ") == 1
    assert "broken, no picture" in html
    assert html.count("cannot be opened as a video") == 2  # among the problems and in its place


def test_a_clip_whose_archive_is_not_here_is_named_without_a_picture(tmp_path):
    html = data_page(tmp_path, rows_of("Jump", clips=2), with_archives=False)
    assert "<img " not in html
    assert html.count("is no whole frame archive") == 2


def test_long_tables_are_cut_and_say_where_the_rest_is(tmp_path, monkeypatch):
    monkeypatch.setattr("kinetrack.using.pages.data._MOST_ROWS", 3)
    rows = [frames_row(f"b{n}", label="Jump", group="1", status="broken") for n in range(30)]
    html = data_page(tmp_path, rows)
    assert "and 27 more, in reports/data/problems.csv" in html
    assert "and 10 more broken clips, in reports/data/problems.csv" in html


def test_the_page_is_the_same_bytes_for_the_same_data(tmp_path):
    rows = rows_of("Jump", clips=3)
    assert data_page(tmp_path, rows) == data_page(tmp_path, rows)


def test_a_clip_page_shows_every_fact_of_the_index_and_every_frame(tmp_path):
    row = frames_row("v", label="Jump", group="7", missing=2)
    html = clip_page(tmp_path, row)
    for name, value in row:
        assert f">{name}</th>" in html
        assert value in (None, "") or f"<bdi>{value}</bdi>" in html
    assert html.count("<img ") == 10
    assert re.findall(r"<b>(\d+)</b> <span class=\"quiet\">(.{4}) s", html)[:2] == [
        ("1", "0.00"),
        ("2", "0.04"),
    ]


def test_a_long_clip_is_shown_by_sixty_frames_from_the_first_to_the_last(tmp_path):
    row = frames_row("v", label="Jump", group="7").model_copy(update={"num_frames": 121})
    html = clip_page(tmp_path, row)
    numbers = re.findall(r"alt=\"Frame (\d+)\"", html)
    assert (len(numbers), numbers[0], numbers[-1]) == (60, "1", "121")
    assert "60 of 121 frames" in html


def test_repeated_frames_are_marked(tmp_path):
    html = clip_page(tmp_path, frames_row("v", label="Jump", group="7"), repeats=(4, 5))
    assert "2 frames are the same picture as the one before: 5, 6." in html
    marked = re.findall(r"alt=\"Frame (\d+)\">\s*<figcaption>.*\n.*repeat", html)
    assert marked == ["5", "6"]
    assert "same picture" not in clip_page(tmp_path, frames_row("v", label="Jump", group="7"))


def test_a_broken_clip_has_a_page_too(tmp_path):
    row = frames_row("v", label="Jump", group="7", status="broken")
    path = tmp_path / "clip.html"
    write_clip_page(path, dataset="mine", row=row, archive=tmp_path / "none.zip")
    assert "broken: cannot be opened as a video" in path.read_text()
    assert "<img " not in path.read_text()
