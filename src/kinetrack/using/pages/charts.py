"""Charts inside of a page, as SVG: sharp on paper, in the page's colours by day and by night."""

import io
import re
from hashlib import sha256

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

# Stand for the page's colours until the SVG is written.
_INK, _LINE = "#010203", "#040506"
_COLOURS = {_INK: "var(--ink)", _LINE: "var(--line)"}
_PX_PER_POINT = 4 / 3


def to_svg(figure: Figure, *, description: str) -> Markup:
    """Return a figure as an `<svg>` element that takes the width there is.

    Its text stays text: it is found, read aloud, and drawn in the page's font.
    """
    _take_colours(figure)
    buffer = io.StringIO()
    # The salt makes equal figures equal bytes, and ids on one page differ.
    salt = sha256(description.encode()).hexdigest()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    # What stands before is for files: a declaration, and a document type by its address.
    opening, _, body = drawn[drawn.index("<svg") :].partition(">")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening)
    assert size
    kept = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    element = (
        f'<svg class="chart" viewBox="0 0 {size[1]} {size[2]}" role="img" '
        f'style="max-width: {float(size[1]) * _PX_PER_POINT:.0f}px" '
        f'aria-label="{escape(description)}">'
    )
    # Matplotlib escapes the texts that it writes, so names are in no tag.
    return Markup(element + re.sub(r"<[^>]*>", _fit_tag, kept))


def _fit_tag(tag: re.Match[str]) -> str:
    """Put the page's colours and font into a tag; ids that nothing refers to would come twice."""
    text = re.sub(r'^<g id="[^"]*"', "<g", tag[0])
    text = re.sub(r" font-family: [^;]*;", "", text).replace("xlink:href", "href")
    for placeholder, colour in _COLOURS.items():
        text = text.replace(placeholder, colour)
    return text


def _take_colours(figure: Figure) -> None:
    figure.patch.set_visible(False)
    for text in figure.findobj(Text):
        text.set_color(_INK)
    for axes in figure.axes:
        axes.patch.set_visible(False)
        axes.tick_params(colors=_INK)
        for spine in axes.spines.values():
            spine.set_edgecolor(_LINE)
        if legend := axes.get_legend():
            legend.get_frame().set_visible(False)
