"""With the real DVC, which must keep what is not its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kinetrack.errors import InputError
from kinetrack.versioning.commands import add_data
from kinetrack.versioning.dataset_facts import DatasetFacts, recall_facts, remember_facts

DESCRIBED = Path("data/videos/mine.dvc")
TAPES = DatasetFacts(r"^(tape\d+) ")


def run(folder: Path, *command: str) -> str:
    program = [sys.executable, "-m", "dvc"] if command[0] == "dvc" else [command[0]]
    done = subprocess.run(
        [*program, *command[1:]], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a folder `data/videos/mine` that nothing knows yet."""
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    (tmp_path / DESCRIBED.with_suffix("")).mkdir(parents=True)
    (tmp_path / DESCRIBED.with_suffix("") / "one").touch()
    return tmp_path


@pytest.mark.parametrize("facts", [TAPES, DatasetFacts(None), DatasetFacts("it's (\u00fc)\t")])
def test_dvc_keeps_what_a_data_set_remembers(root: Path, facts: DatasetFacts) -> None:
    folder = DESCRIBED.with_suffix("")
    add_data(folder, root=root, facts=facts)
    assert recall_facts(root / DESCRIBED) == facts
    assert "data/videos/mine.dvc" in run(root, "git", "diff", "--cached", "--name-only")
    assert run(root, "git", "diff", "--name-only") == ""  # they are in the index too
    before = yaml.safe_load((root / DESCRIBED).read_text())["outs"]
    (root / folder / "two").touch()
    run(root, "dvc", "add", str(folder))
    assert yaml.safe_load((root / DESCRIBED).read_text())["outs"] != before
    assert recall_facts(root / DESCRIBED) == facts
    (root / folder / "three").touch()
    run(root, "dvc", "commit", "-f", str(DESCRIBED))
    add_data(folder, root=root)  # as `kinetrack forget` does
    assert recall_facts(root / DESCRIBED) == facts
    assert "up to date" in run(root, "dvc", "status")


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        (TAPES, "rm -rf data/videos/none data/videos/none.dvc, then import it again"),
        (None, "dvc add data/videos/none && git add data/videos/none.dvc"),
    ],
)
def test_where_dvc_refuses_a_folder_the_remedy_does_not_lose_the_facts(
    root: Path, facts: DatasetFacts | None, remedy: str
) -> None:
    with pytest.raises(InputError, match="not under version control") as refused:
        add_data(Path("data/videos/none"), root=root, facts=facts)
    assert refused.value.remedy == remedy


@pytest.mark.parametrize(
    "text",
    ["outs: []", "meta: 3", "meta: {kinetrack: 3}", "meta: {kinetrack: {}}", "meta: {other: 1}"],
)
def test_file_without_facts_has_none(tmp_path: Path, text: str) -> None:
    described = tmp_path / "mine.dvc"
    assert recall_facts(described) is None
    described.write_text(text)
    assert recall_facts(described) is None


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    described = tmp_path / "mine.dvc"
    described.write_text("outs: [")
    with pytest.raises(InputError, match=r"mine\.dvc: cannot be read.*git checkout"):
        recall_facts(described)
    described.write_text("meta: {kinetrack: {group_pattern: [1]}}")
    with pytest.raises(InputError, match=r"group_pattern, found \[1\], expected a regular"):
        recall_facts(described)


def test_facts_stand_in_two_readable_lines(tmp_path: Path) -> None:
    described = tmp_path / "mine.dvc"
    described.write_text("outs:\n- path: mine\n")
    remember_facts(described, TAPES)
    assert described.read_text() == (
        "outs:\n- path: mine\nmeta:\n  kinetrack:\n    group_pattern: '^(tape\\d+) '\n"
    )
