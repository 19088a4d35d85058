"""Whatever a params file holds: it is valid, or refused in one bounded line that can be printed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kinetrack.cli.check import AllParams, read_params
from kinetrack.errors import InputError

from project import ROOT

LONGEST_LINE = 10_000
GOOD = yaml.safe_load((ROOT / "presets/sample.yaml").read_text())
PLACES = [(name,) for name in GOOD] + [
    (name, key) for name, section in GOOD.items() if isinstance(section, dict) for key in section
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["all", "none", "trained", "keep", "../x", "\ud800", "x" * 5000]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
# Tokens of YAML, so that much of what is made of them is YAML.
tokens = st.sampled_from(
    [*"{}[],:-?!&*|>%@'\"#~ \n\t", "a", "1", "- ", ": ", "<<: ", "*a", "&a ", "!!int ", "---\n"]
)
yaml_texts = st.lists(tokens, max_size=40).map("".join)


def read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> AllParams | None:
    """The params, or None where they are refused as they should be."""
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(content)
    try:
        return read_params(path)
    except InputError as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert line.isprintable()
        assert len(line) < LONGEST_LINE
        return None


@given(content=st.binary(max_size=200) | yaml_texts.map(str.encode))
def test_any_text_is_refused_in_one_line(tmp_path_factory, content):
    assert read(tmp_path_factory, content) is None


@settings(max_examples=100)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=3))
def test_any_change_of_good_params_gives_params_or_one_line(tmp_path_factory, changes):
    params = changed(changes)
    text = json.dumps(params)  # which is YAML but for three words, and spells any character
    text = text.replace("NaN", ".nan").replace("Infinity", ".inf")
    found = read(tmp_path_factory, text.encode())
    event("valid" if found else "refused")
    if found:
        assert Path("data/videos", found.dataset).parent == Path("data/videos")


@given(place=st.integers(0, 10**4), removed=st.integers(0, 30), added=yaml_texts)
def test_any_edit_of_the_text_gives_params_or_one_line(tmp_path_factory, place, removed, added):
    text = (ROOT / "presets/sample.yaml").read_text()
    place %= len(text)
    edited = text[:place] + added + text[place + removed :]
    event("valid" if read(tmp_path_factory, edited.encode()) else "refused")


def changed(changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """Good params with other values in some places, or with keys that are none beside them."""
    params = copy.deepcopy(GOOD)
    for (name, *keys), value in changes:
        if not keys:
            params[name] = value
        elif isinstance(params.get(name), dict):
            params[name][keys[0]] = value
    return params
