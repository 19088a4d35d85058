"""What mkdocs calls while it builds the site: README and its neighbours become pages of it.

Links stay as a Git host wants them, relative to the file that they stand in; here they are led to
the page that the file has become.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Files beside docs/, and the pages that they become. (docs/security.md is a page of its own.)
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    root = Path(config.config_file_path).parent
    for name, page in PAGES.items():
        text = _LINK.sub(_from_root, (root / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead the links of docs/ that go up to the pages added above."""
    return _LINK.sub(_from_docs, markdown)


def _from_root(link: re.Match[str]) -> str:
    return PAGES.get(link[1], link[1].removeprefix("docs/"))


def _from_docs(link: re.Match[str]) -> str:
    above, _, name = link[1].rpartition("../")
    return f"{above}{PAGES[name]}" if name in PAGES and link[1] != name else link[1]
