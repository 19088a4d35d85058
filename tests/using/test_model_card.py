import pytest

from kinetrack.using.model_card import inert, write_model_card
from kinetrack.using.report import Made

from reports_made import make_report, write_test_clips


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


def test_the_card_tells_what_the_page_tells_and_names_no_clip(tmp_path):
    side = write_test_clips(tmp_path / "packed")
    made = Made("ab" * 16, "my run", "", "c0ffee", has_changes=True)
    write_model_card(tmp_path / "card.md", make_report(side, made=made))
    text = (tmp_path / "card.md").read_text()
    for line in (
        "# Model card: small_3dcnn on data set mine",
        "| accuracy | 0.8333 |",
        "| always naming the largest class | 0.5000 |",
        "| test clips | 6 in 3 groups |",
        "- With 6 test clips, one clip is 16.7 percentage points.",
        "| Jump | 1.000 | 0.667 | 0.800 | 3 |",
        "Confused most often: Jump taken for Walk (1).",
        "| test | 6 | 1 |",
        "| sees | 4 frames of 16 px, sampling uniform, crop center |",
        "- Run in MLflow: my run, abababababababababababababababab",
        "- Commit: c0ffee, with uncommitted changes",
        "- Repeat it: `kinetrack reproduce abababab`",
    ):
        assert line in text.splitlines(), line
    assert "v_Jump" not in text
    assert "g03" not in text
    assert "\n\n\n" not in text


def test_without_errors_a_run_and_packed_clips_the_card_is_shorter(tmp_path):
    report = make_report(write_test_clips(tmp_path / "packed"), wrong=())._replace(sides=[])
    write_model_card(tmp_path / "card.md", report)
    text = (tmp_path / "card.md").read_text()
    assert "Confused" not in text
    assert "| side |" not in text
    assert "- Repeat it: `dvc repro`" in text
    assert "\n\n\n" not in text


def test_names_on_the_card_are_text(tmp_path):
    name = "a|b\n# <b>*x*"
    report = make_report(write_test_clips(tmp_path / "packed"))
    scores = [one._replace(label=name) for one in report.scores]
    confusion = [{**row, "actual": name} for row in report.confusion]
    made = Made("1" * 32, name, name, name)
    write_model_card(
        tmp_path / "card.md",
        report._replace(dataset=name, scores=scores, confusion=confusion, made=made),
    )
    text = (tmp_path / "card.md").read_text()
    assert "<b>" not in text
    assert "a|b" not in text
    assert text.count(inert(name)) >= 5
