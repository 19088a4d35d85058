"""What all pages have in common: one file each, without a script and without the network."""

import base64
import io
from pathlib import Path

import jinja2
from PIL import Image

from kinetrack.files import write_text

_TEMPLATES = Path(__file__).parent / "templates"
_JPEG_QUALITY = 75


def write_page(path: Path, template: str, **values: object) -> None:
    """Fill a template and write the page."""
    write_text(path, fill_page(template, **values))


def fill_page(template: str, **values: object) -> str:
    """Fill a template; return the page."""
    # Names come from people's folders: every value is escaped, and a slip in a template ends here.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = _describe_duration
    return environment.get_template(template).render(**values)


def to_address(picture: Image.Image) -> str:
    """Return the picture itself as an address: pages need no second file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _describe_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
