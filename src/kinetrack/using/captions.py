"""A line of text over the foot of a picture, readable whatever the picture shows."""

from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from kinetrack.errors import printable

# It covers Latin, Greek, Cyrillic, Hebrew, Arabic and more, and comes with matplotlib.
_FONT = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
_SMALLEST_PX, _LARGEST_PX = 12, 48
_WHITE, _SHADE = (255, 255, 255, 255), (0, 0, 0, 176)


def draw_caption(image: Image.Image, text: str, *, ending: str = "") -> None:
    """Draw white text on a dark band over the foot of a picture.

    What is too long for the picture is cut off before the `ending`.
    """
    band = _make_band(text, ending, image.width, min(image.size))
    image.paste(band, (0, image.height - band.height), band)


@lru_cache(maxsize=8)  # many frames in a row have one
def _make_band(text: str, ending: str, width: int, short_px: int) -> Image.Image:
    font_px = min(max(short_px // 15, _SMALLEST_PX), _LARGEST_PX)
    font = ImageFont.truetype(_FONT, font_px)
    margin = font_px // 2
    band = Image.new("RGBA", (width, 2 * font_px), _SHADE)
    line = _fit(_replace_unknown(text), ending, font, width - 2 * margin)
    ImageDraw.Draw(band).text((margin, font_px), line, font=font, fill=_WHITE, anchor="lm")
    return band


def _fit(text: str, ending: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The longest beginning of the text for which there is room before its ending."""
    if font.getlength(text + ending) <= width:
        return text + ending
    beginnings = (text[:length].rstrip() for length in range(len(text) - 1, 0, -1))
    lines = (f"{beginning}…{ending}" for beginning in beginnings)
    return next((line for line in lines if font.getlength(line) <= width), f"…{ending}")


def _replace_unknown(text: str) -> str:
    """Write letters that the font lacks as escapes: boxes would make all such names one."""
    known = FT2Font(_FONT).get_char_index
    return "".join(
        char if known(ord(char)) else char.encode("unicode_escape").decode()
        for char in printable(text)
    )
