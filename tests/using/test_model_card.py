import pytest

from kinetrack.using.model_card import inert


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HandStand Walking-2, größer", "HandStand Walking-2, größer"),
        ("a_b*c", "a&#95;b&#42;c"),
        ("[x](javascript:y)", "&#91;x&#93;&#40;javascript&#58;y&#41;"),
        ("www.a.b", "www&#46;a&#46;b"),
        ("a\n# b", "a&#92;n&#35; b"),
        ("&lt;`|", "&#38;lt&#59;&#96;&#124;"),
    ],
)
def test_neither_html_nor_markdown_finds_anything_in_a_name(text, expected):
    assert inert(text) == expected
