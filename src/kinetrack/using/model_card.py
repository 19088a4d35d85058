"""A model card in Markdown (Mitchell et al. 2019, "Model cards for model reporting")."""

import re
from pathlib import Path

import jinja2
from markupsafe import Markup

from kinetrack.errors import printable
from kinetrack.files import write_text
from kinetrack.using.report import Report

_TEMPLATES = Path(__file__).parent / "pages/templates"


def write_model_card(path: Path, report: Report) -> None:
    """Write what the page of a model tells, but for the clips: none is named or shown."""
    # Not HTML: every text goes through `inert`, which leaves HTML and Markdown nothing to find.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalise,
    )
    environment.filters["figure"] = _format
    write_text(path, environment.get_template("model_card.md").render(report=report))


def _finalise(value: object) -> object:
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _format(value: float, digits: int = 4) -> Markup:
    """Write a number as it is: a point of it is no sign of Markdown's."""
    return Markup(f"{value:,.{digits}f}")


def inert(text: str) -> str:
    """Write a text so that neither HTML nor Markdown finds anything in it: names are people's."""
    return re.sub(r"[^\w ,?-]|_", lambda sign: f"&#{ord(sign[0])};", printable(text))
