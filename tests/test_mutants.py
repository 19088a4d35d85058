"""What is changed for mutation testing, and the page that explains what survives."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from poodle.data_types import Mutant

from mutants import PAGE, ROOT, Conditions, Strings, name_of, read_explained

SOURCE = '''
Unit = Literal["group", "clip"]

def find(name: "Name", names: "list[Name]") -> "Name":
    """Find it."""
    if name:
        raise ValueError("no name")
    return [x for x in names if x != "other"] if names else "none"
'''


def changes(mutator: type[Strings] | type[Conditions]) -> list[str]:
    """What becomes of parts of the source above."""
    made = mutator(config=None, echo=print).create_mutations(parsed_ast=ast.parse(SOURCE))
    return sorted(mutation.text for mutation in made)


def test_text_is_changed_but_for_messages_types_and_choices() -> None:
    assert changes(Strings) == ["'XXnoneXX'", "'XXotherXX'"]


def test_each_condition_is_turned_round() -> None:
    assert changes(Conditions) == ["(not (name))", "(not (names))", "(not (x != 'other'))"]


def test_a_mutant_is_known_by_its_function_and_line() -> None:
    path = Path("src/kinetrack/data/names.py")
    lines = (ROOT / path).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, start=1) if "len(name.encode())" in line)
    place = {"lineno": number, "end_lineno": number, "col_offset": 7, "end_col_offset": 39}
    mutant = Mutant(
        mutator_name="", text="False", source_folder=Path("src"), source_file=path, **place
    )
    assert name_of(mutant) == (
        "kinetrack/data/names.py",
        "check_name",
        "if len(name.encode()) > _MOST_BYTES:` → `if False:",
    )


def test_every_module_has_tests_that_judge_it() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poodle"]
    judges = settings["runner_opts"]["tests"]
    assert list(judges) == settings["only_files"]
    for module, tests in judges.items():
        assert all((ROOT / path).is_file() for path in (f"src/{module}", *tests)), module


@pytest.mark.parametrize("name", sorted(set(read_explained(PAGE.read_text()))), ids=" ".join)
def test_what_the_page_explains_is_still_there(name: tuple[str, str, str]) -> None:
    module, function, change = name
    source = (ROOT / "src" / module).read_text()
    assert change.split("` → `")[0] in map(str.strip, source.splitlines())
    assert function == "module" or re.search(rf"(def|class) {function}\b", source)


def test_every_list_item_of_a_mutant_is_read() -> None:
    page = PAGE.read_text()
    assert len(list(read_explained(page))) == page.count("` → `") > 0
