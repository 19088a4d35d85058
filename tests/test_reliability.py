"""docs/reliability.md, docs/security.md: every fault has its row; the tests it names are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def numbered(**last: int) -> list[str]:
    """K=3: K1, K2, K3."""
    return [f"{kind}{number + 1}" for kind in last for number in range(last[kind])]


FAULTS = {
    "reliability.md": numbered(K=6, D=7, C=4, T=7, R=11, G=7),
    # A malicious checkpoint is a fault of both kinds.
    "security.md": [*numbered(V=19, S=9, P=9), "R8", *numbered(A=9, U=5)],
}


def rows(page: str) -> dict[str, str]:
    """The cells of each row of the table, by its name."""
    text = (ROOT / "docs" / page).read_text()
    return dict(re.findall(r"^\| ([A-Z]\d+) \| (.*) \|$", text, re.MULTILINE))


@pytest.mark.parametrize("page", FAULTS)
def test_every_fault_has_its_row_in_order(page):
    assert list(rows(page)) == FAULTS[page]


@pytest.mark.parametrize("page", FAULTS)
def test_every_row_names_tests_that_are_there(page):
    for name, cells in rows(page).items():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells)
        assert named or "the same" in cells, name
        for path, test in named:
            tree = ast.parse((ROOT / path).read_text())
            there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert test in there, f"{name}: {path}::{test}"
