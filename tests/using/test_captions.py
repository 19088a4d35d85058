import numpy as np
import pytest
from PIL import Image, ImageChops

from kinetrack.using.captions import draw_caption


def drawn(text: str, *, size: tuple[int, int] = (320, 240), colour: str = "white") -> Image.Image:
    image = Image.new("RGB", size, colour)
    draw_caption(image, text, ending=" 0.93")
    return image


def difference(first: Image.Image, second: Image.Image) -> tuple[int, int, int, int] | None:
    return ImageChops.difference(first, second).getbbox()


@pytest.mark.parametrize("colour", ["white", "black", "red", "yellow"])
def test_text_stands_out_from_any_background(colour: str) -> None:
    band = np.asarray(drawn("Diving", colour=colour).convert("L"), dtype=int)[-30:]
    assert band.max() == 255
    assert np.median(band) < 100


def test_all_above_the_foot_stays() -> None:
    image, plain = drawn("Diving"), Image.new("RGB", (320, 240), "white")
    assert difference(image, plain) == (0, 208, 320, 240)


def test_other_words_are_another_picture() -> None:
    assert difference(drawn("Diving"), drawn("Swing"))


@pytest.mark.parametrize(
    ("text", "is_known"),
    [("Прыжок", True), ("Πτώση", True), ("Łódź", True), ("跳水", False), ("a\nb", False)],
)
def test_letters_that_the_font_lacks_are_escaped(text: str, is_known: bool) -> None:
    escaped = text.encode("unicode_escape").decode()
    assert (difference(drawn(text), drawn(escaped)) is None) is not is_known


def test_names_in_letters_that_the_font_lacks_differ() -> None:
    assert difference(drawn("跳水"), drawn("跳绳"))


def test_long_names_leave_room_for_the_probability() -> None:
    short, long = drawn("A" * 40), drawn("A" * 250)
    assert difference(short, long) is None
    assert difference(drawn("A" * 250), drawn("A" * 240 + "B" * 10)) is None
    margin = np.asarray(long.convert("L"))[-30:, -6:]
    assert margin.max() < 255


@pytest.mark.parametrize("size", [(2, 2), (320, 2), (2, 320), (320, 10), (1920, 1080)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    assert difference(drawn("Diving\n", size=size), Image.new("RGB", size, "white"))
