"""The kept inputs are replayed by the fast tests; the slow ones look for new ones for a moment."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing.run import CORPUS, ROOT, fuzz
from tests.fuzzing.targets import TARGETS, Target

MOST_KEPT_BYTES = 1_000_000
# So many runs take a few seconds on a slow core, most of them for imports.
RUNS = {"params": 200, "model": 100, "checkpoint": 300, "tensors": 200, "pipeline": 500}
OTHER_RUNS = 1000


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_no_finding_any_more(name: str) -> None:
    target: Target = TARGETS[name]()
    paths = sorted((CORPUS / name).iterdir())
    assert len(paths) > 1
    for path in paths:
        try:
            target(path.read_bytes())
        except Exception as error:
            error.add_note(f"with {path.relative_to(ROOT)}")
            raise


def test_the_kept_inputs_are_small_and_each_is_of_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_KEPT_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_moment_of_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="it has no wheel for this platform")
    outcome = fuzz(name, tmp_path, f"-runs={RUNS.get(name, OTHER_RUNS)}", "-seed=1")
    assert outcome.crashes == [], outcome.explain()
    assert outcome.runs >= RUNS.get(name, OTHER_RUNS), outcome.explain()
    assert outcome.edges > 20


@pytest.mark.slow
def test_the_fuzzer_does_find_what_is_there(tmp_path: Path) -> None:
    """A target that breaks at one word is broken by it, so the loop that feeds the others works."""
    pytest.importorskip("atheris", reason="it has no wheel for this platform")
    script = tmp_path / "weak.py"
    script.write_text(
        "import sys, atheris\n"
        "@atheris.instrument_func\n"
        "def weak(data):\n"
        "    if data[:1] == b'F':\n"
        "        if data[1:2] == b'U':\n"
        "            if data[2:3] == b'Z':\n"
        "                raise RuntimeError('found')\n"
        "atheris.Setup(sys.argv, weak)\n"
        "atheris.Fuzz()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), "-runs=200000", "-seed=1", f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    [crash] = tmp_path.glob("crash-*")
    assert crash.read_bytes().startswith(b"FUZ")
