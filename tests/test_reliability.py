"""docs/reliability.md: every fault has its row, and every test that it names is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text()
FAULTS = {"K": 6, "D": 7, "C": 4, "T": 7, "R": 11, "G": 7}


def rows() -> dict[str, str]:
    """The cells of each row of the table, by its name."""
    return dict(re.findall(r"^\| ([A-Z]\d+) \| (.*) \|$", PAGE, re.MULTILINE))


def test_every_fault_has_its_row_in_order():
    wanted = [f"{kind}{number + 1}" for kind, last in FAULTS.items() for number in range(last)]
    assert list(rows()) == wanted


def test_every_row_names_tests_that_are_there():
    for name, cells in rows().items():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells)
        assert named or "the same" in cells, name
        for path, test in named:
            tree = ast.parse((ROOT / path).read_text())
            there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert test in there, f"{name}: {path}::{test}"
