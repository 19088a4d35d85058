"""What of the documentation is made from the code is of this code, and the site asks nobody."""

import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from handbook.hooks import PAGES as ROOT_PAGES
from handbook.hooks import on_page_markdown
from handbook.release_notes import release_notes
from handbook.run import MADE
from handbook.text import code, plain
from kinetrack.data.clips import list_clips
from kinetrack.errors import InputError

from browser import open_browser
from project import ROOT

CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n## 0.2.0 (2026-12-24)\n\n### Added\n- b\n\n## 0.1.0\n- a\n"
)


@pytest.mark.parametrize("name", MADE)
def test_committed_page_is_what_the_code_gives(name: str) -> None:
    """After a change: `make docs`, and commit the page."""
    assert (ROOT / name).read_text() == MADE[name]().rstrip("\n") + "\n"


@pytest.mark.parametrize("name", [name for name in MADE if name.endswith(".svg")])
def test_picture_is_whole_and_loads_nothing(name: str) -> None:
    text = (ROOT / name).read_text()
    ET.fromstring(text)
    assert "href" not in text
    assert text.count("http") == 1  # of its kind


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a link that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        html = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\s\">]+)", html)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"?([^\s\">]+)", html)
        assert [address for address in loaded if "//" in address] == [], page.name


def test_site_is_read_from_disk(site: Path) -> None:
    """Every link to a page names its file, and the search has its index as a script."""
    for page in site.glob("*.html"):
        links = re.findall(r"<a\b[^>]*\bhref=\"?([^\s\">#]+)", page.read_text())
        local = [link for link in links if "//" not in link and not link.startswith("mailto:")]
        for link in local if page.name != "404.html" else []:  # that one's are absolute
            assert (page.parent / link).is_file(), (page.name, link)
    assert (site / "search/search_index.js").is_file()


def test_every_page_is_in_the_index_of_the_search(site: Path) -> None:
    index = (site / "search/search_index.json").read_text()
    for page in [*ROOT_PAGES.values(), *(path.name for path in (ROOT / "docs").glob("*.md"))]:
        assert page.replace(".md", ".html") in index


@pytest.mark.slow
def test_search_finds_pages_from_disk(site: Path) -> None:
    with open_browser() as browser:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{(site / 'index.html').as_uri()}?q=groups")
        found = page.locator(".md-search-result__meta", has_text="matching document")
        found.wait_for()
        assert page.locator(".md-search-result__item h1", has_text="Your own videos").count() == 1
        assert [address for address in asked if not address.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("[a](../CHANGELOG.md#x)", "[a](changelog.md#x)"),
        ("[a](../../CHANGELOG.md)", "[a](../changelog.md)"),
        ("[a](security.md)", "[a](security.md)"),
        ("[a](../SECURITY.md)", "[a](security-policy.md)"),
        ("[a](https://example.org/README.md)", "[a](https://example.org/README.md)"),
    ],
)
def test_links_up_lead_to_the_pages_of_the_site(link: str, page: str) -> None:
    assert on_page_markdown(link) == page


def test_words_are_no_markup() -> None:
    assert plain("<Class>/*_x | `a_b` &\n c") == r"&lt;Class>/\*\_x \| `a_b` &amp; c"
    assert code("a|b") == r"`a\|b`"


def test_group_patterns_of_the_page_find_the_groups(tmp_path: Path) -> None:
    page = (ROOT / "docs/own-videos.md").read_text()
    rows = dict(re.findall(r"^\| `([\w. -]+\.mp4)`.* \| `(.+)`.* \|$", page, re.MULTILINE))
    groups = []
    for name, quoted in rows.items():
        (pattern,) = shlex.split(quoted)  # as a shell gives it
        (tmp_path / name / "Pour").mkdir(parents=True)
        (tmp_path / name / "Pour" / name).touch()
        (clip,) = list_clips(tmp_path / name, classes="all", group_pattern=pattern)
        groups.append(clip.group)
    assert groups == ["01", "anna", "kitchen2", "tape07"]


@pytest.mark.parametrize("form", ["fault.yaml", "wish.yaml"])
def test_form_of_an_issue_is_whole(form: str) -> None:
    values = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / form).read_text())
    assert values.keys() == {"name", "description", "labels", "body"}
    asked = [field for field in values["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked)
    assert all(field["attributes"]["label"] for field in asked)


def test_release_notes_are_a_section_of_the_changelog() -> None:
    assert release_notes("0.2.0", CHANGELOG) == "### Added\n- b"
    assert release_notes("0.1.0", CHANGELOG) == "- a"


@pytest.mark.parametrize("version", ["0.3.0", "Unreleased"])
def test_a_version_without_notes_is_told(version: str) -> None:
    with pytest.raises(InputError, match=r"expected Unreleased, 0\.2\.0, 0\.1\.0"):
        release_notes(version, CHANGELOG)


def test_release_notes_are_printed() -> None:
    command = [sys.executable, "-m", "handbook.release_notes"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.startswith("### ")
    wrong = subprocess.run([*command, "9.9"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: CHANGELOG.md: has no notes of 9.9")
