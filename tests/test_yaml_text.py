import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.params import Yaml12Loader
from kinetrack.yaml_text import leave_out_value, put_value, quote_value

KEYS = ("frames", "group_pattern")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
BLOCK = """# above
frames:   # of a section
  gaps: keep
  group_pattern: {}   # searched
  on_broken: fail

split: {{group_pattern: other}}
"""


def read(text):
    return yaml.load(text, Yaml12Loader)


@given(TEXTS | st.none())
def test_a_quoted_value_is_one_line_that_reads_as_it_was(value):
    quoted = quote_value(value)
    assert len(quoted.splitlines()) == 1
    assert read(quoted) == value


@pytest.mark.parametrize("value", ["no", "1e3", "2024", "null", "", " x ", "a: b # c", "4:2:0"])
def test_a_text_that_looks_like_another_value_stays_text(value):
    assert read(quote_value(value)) == value


@given(TEXTS, TEXTS | st.none())
def test_a_value_is_put_in_and_nothing_else_changes(old, new):
    text = BLOCK.format(quote_value(old))
    wanted = read(text)
    wanted["frames"]["group_pattern"] = new
    changed = put_value(text, KEYS, new)
    assert read(changed) == wanted
    assert leave_out_value(changed, KEYS) == leave_out_value(text, KEYS)
    pairs = zip(changed.split("\n"), text.split("\n"), strict=True)
    assert [one for one, other in pairs if one != other] in ([], [changed.split("\n")[3]])


@pytest.mark.parametrize(
    "old", ["plain", "'single'", '"double"', "", "null", "'in\n    two lines'", "&anchor plain"]
)
def test_a_value_may_be_written_in_any_way(old):
    changed = put_value(BLOCK.format(old), KEYS, r"^(tape\d+) ")
    wanted = BLOCK.format(r"'^(tape\d+) '")
    assert changed.split() == wanted.split()
    assert changed.count("\n") == wanted.count("\n")


def test_a_block_scalar_ends_with_its_line():
    text = "frames:\n  group_pattern: |-\n    (x)\n  gaps: keep\n"
    assert put_value(text, KEYS, "(y)") == "frames:\n  group_pattern: '(y)'\n  gaps: keep\n"


def test_json_is_yaml():
    text = '{"frames":{"group_pattern":"(x)","gaps":"keep"}}'
    for value in ("(y)", None):
        changed = read(put_value(text, KEYS, value))
        assert changed == {"frames": {"group_pattern": value, "gaps": "keep"}}


@pytest.mark.parametrize(
    "text", ["", "3", "frames: 3", "frames: {}", "frames: [", "frames: {group_pattern: {}}", "\0"]
)
def test_a_text_without_such_a_value_stays_as_it_is(text):
    assert put_value(text, KEYS, "(x)") == text
    assert leave_out_value(text, KEYS) == text


def test_a_value_that_is_there_already_keeps_its_form():
    text = BLOCK.format(r"_g(\d+)_c\d+$")
    assert put_value(text, KEYS, r"_g(\d+)_c\d+$") == text
    text = BLOCK.format("")
    assert put_value(text, KEYS, None) == text


def test_a_number_is_no_text():
    assert read(put_value(BLOCK.format("7"), KEYS, "7"))["frames"]["group_pattern"] == "7"


@pytest.mark.parametrize("line", ["'(x)'   # searched", "(y)", "", "(z) # other", "null   "])
def test_without_value_and_comment_lines_are_alike(line):
    text = "frames:\n  group_pattern: {}\n  gaps: keep   # stays\n"
    left = leave_out_value(text.format(line), KEYS)
    assert left == "frames:\n  group_pattern:\n  gaps: keep   # stays\n"
