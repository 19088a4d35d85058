"""What poodle needs to know of Kinetrack's tests: `make mutants`, docs/mutation.md.

Each mutant is tried in a fork of a process that has imported the large packages already, so that it
costs a second and not the six of a new Python. Which tests judge a module stands in pyproject.toml.
"""

import ast
import gc
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path

import psutil
import pytest
from hypothesis import Phase, settings
from poodle import PoodleTestingFailedError
from poodle.data_types import (
    FileMutation,
    Mutant,
    MutantTrial,
    MutantTrialResult,
    Mutator,
    PoodleConfig,
    TestingResults,
)
from poodle.mutators import StringMutator
from poodle.util import delete_folder, mutate_lines

# Nothing of Kinetrack, nor MLflow, which imports some of it: that would be the code without mutant.
_PACKAGES = ["av", "hypothesis.extra.numpy", "matplotlib.figure", "matplotlib.backends.backend_agg"]
_PACKAGES += ["PIL.Image", "sklearn.metrics", "torch", "torchvision.transforms.v2", "typer"]
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/mutation.md"
_SPARE_MEMORY_BYTES = 4 * 2**30
_NO_PYTHON = "no Python"


class Strings(StringMutator):
    """Changes text, but for that of messages, and for choices, which the params' tests list."""

    mutator_name = "Strings"

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802
        """Leave out what is said when something is wrong."""
        if not ast.unparse(node.func).endswith("Error"):
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:  # noqa: N802
        """Leave out choices."""
        if ast.unparse(node.value) != "Literal":
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:  # noqa: N802
        """Leave out types."""
        if not self.is_annotation(node):
            super().visit_Constant(node)


class Conditions(ast.NodeVisitor, Mutator):
    """Turns each condition into its contrary."""

    mutator_name = "Conditions"

    def create_mutations(
        self, parsed_ast: ast.Module, *_: object, **__: object
    ) -> list[FileMutation]:
        """One mutant a condition."""
        tests = [
            test
            for node in ast.walk(parsed_ast)
            for test in [*getattr(node, "ifs", []), getattr(node, "test", None)]
            if test is not None and ast.unparse(test) != "__name__ == '__main__'"
        ]
        return [self.create_file_mutation(test, f"(not ({ast.unparse(test)}))") for test in tests]


def try_mutant(
    config: PoodleConfig,
    run_folder: Path,
    mutant: Mutant,
    timeout: float | None,
    *_: object,
    **__: object,
) -> MutantTrialResult:
    """Run the tests of the mutant's module; without a mutant, those of all modules asked for."""
    _load_packages()
    source = run_folder / mutant.source_folder
    if mutant.source_file is None:
        modules = config.only_files
    else:
        modules = [mutant.source_file.relative_to(mutant.source_folder).as_posix()]
        if not _is_python((run_folder / mutant.source_file).read_text()):
            return MutantTrialResult(True, MutantTrialResult.RC_OTHER, _NO_PYTHON)
    tests = [test for module in modules for test in config.runner_opts["tests"][module]]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "told").touch()
        code = _run_tests(list(dict.fromkeys(tests)), source.absolute(), Path(scratch), timeout)
        told = (Path(scratch) / "told").read_text(errors="replace")
    if code is None:
        return MutantTrialResult(False, MutantTrialResult.RC_TIMEOUT)
    if code == 0:
        return MutantTrialResult(False, MutantTrialResult.RC_NOT_FOUND)
    return MutantTrialResult(True, MutantTrialResult.RC_FOUND, told[-2000:])


@cache
def _load_packages() -> None:
    """Once for all forks: poodle runs the tests without a mutant in its own process first."""
    for package in _PACKAGES:
        import_module(package)
    assert not [name for name in sys.modules if name.startswith("kinetrack")]
    gc.freeze()  # what is imported is not gone through again after each run of the tests


def _is_python(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _run_tests(
    tests: list[str], source: Path, scratch: Path, timeout_s: float | None
) -> int | None:
    """Exit code of pytest in a process of its own; None when it had to be ended."""
    child = multiprocessing.get_context("fork").Process(
        target=_be_pytest, args=(tests, source, scratch)
    )
    child.start()
    # Not `join`, after which its number may be another's.
    is_late = not wait([child.sentinel], timeout_s)
    assert child.pid
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # with the processes that a test has started
    child.join()
    return None if is_late else child.exitcode


def _be_pytest(tests: list[str], source: Path, scratch: Path) -> None:
    os.setsid()
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE_MEMORY_BYTES,) * 2)
    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = str(source)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "--tb=short", "--assert=plain", "-p", "no:cacheprovider"]
    options += ["-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin"]
    options += ["-m", "not slow", f"--basetemp={scratch / 'files'}"]
    with (scratch / "told").open("w") as told, redirect_stdout(told), redirect_stderr(told):
        code = pytest.main([*options, *tests], plugins=[_Hasty()])
    os._exit(code)


class _Hasty:
    """Leaves a failing example as it is, and has those by hand, which are quick, go first."""

    def pytest_sessionstart(self) -> None:
        plain = settings.get_profile("kinetrack")
        settings.register_profile("mutants", plain, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: hasattr(getattr(item, "obj", None), "hypothesis"))


def report(
    config: PoodleConfig,
    echo: Callable[..., None],
    testing_results: TestingResults,
    *_: object,
    **__: object,
) -> None:
    """Tell the figures of each module, and the survivors that docs/mutation.md does not explain.

    Raises:
        PoodleTestingFailedError: there are such survivors.
    """
    trials = [x for x in testing_results.mutant_trials if x.result.reason_desc != _NO_PYTHON]
    explained = set(read_explained(PAGE.read_text()))
    survivors = {name_of(trial.mutant): trial for trial in trials if _survived(trial)}
    echo("\n".join(["", *_table(trials, explained)]))
    new = sorted(survivors.keys() - explained)
    for place in sorted({place for place, _, _ in new}):
        echo(f"\n### {place}")
        for name in (name for name in new if name[0] == place):
            echo(f"  - `{name[1]}`: `{name[2]}`    line {survivors[name].mutant.lineno}")
    tried = {name_of(trial.mutant) for trial in trials}
    for name in sorted((explained & tried) - survivors.keys()):
        echo(f"explained, and killed all the same: {name}")
    delete_folder(config.work_folder, config)  # poodle does it only when all is well
    if new:
        raise PoodleTestingFailedError(f"{len(new)} mutants survive and are not explained")


def _survived(trial: MutantTrial) -> bool:
    return trial.result.reason_code == MutantTrialResult.RC_NOT_FOUND


def _table(trials: Iterable[MutantTrial], explained: set[tuple[str, str, str]]) -> Iterator[str]:
    yield "| module | mutants | killed | endless | survived, explained | survived | score |"
    yield "|---|---|---|---|---|---|---|"
    counts: dict[str, Counter[str]] = {}
    for trial in trials:
        name = name_of(trial.mutant)
        outcome = trial.result.reason_code
        if _survived(trial) and name in explained:
            outcome = "explained"
        counts.setdefault(name[0], Counter())[outcome] += 1
    counts["all"] = sum(counts.values(), Counter())
    for module, found in counts.items():
        killed, endless = found[MutantTrialResult.RC_FOUND], found[MutantTrialResult.RC_TIMEOUT]
        survived = found[MutantTrialResult.RC_NOT_FOUND]
        score = (killed + endless) / max(killed + endless + survived, 1)
        numbers = (found.total(), killed, endless, found["explained"], survived, f"{score:.1%}")
        yield f"| `{module}` | {' | '.join(map(str, numbers))} |"


def name_of(mutant: Mutant) -> tuple[str, str, str]:
    """What a mutant is known by though lines come and go: module, function, changed line."""
    assert mutant.source_file is not None
    text = (ROOT / mutant.source_file).read_text()
    old = text.splitlines(keepends=True)
    new = "".join(mutate_lines(mutant, old)).splitlines(keepends=True)
    number = next(number for number, line in enumerate(new) if line != old[number])
    module = mutant.source_file.relative_to(mutant.source_folder).as_posix()
    change = f"{old[number].strip()}` → `{new[number].strip()}"
    return module, _function_at(ast.parse(text), mutant.lineno), change


def _function_at(tree: ast.Module, line: int) -> str:
    """The innermost function or class of a line, "module" outside of all."""
    holding = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and min([node.lineno, *(x.lineno for x in node.decorator_list)]) <= line
        and line <= (node.end_lineno or node.lineno)
    ]
    return max(holding, key=lambda node: node.lineno).name if holding else "module"


def read_explained(page: str) -> Iterator[tuple[str, str, str]]:
    """The mutants that the page explains: headings name modules, list items name mutants."""
    module = ""
    for line in page.splitlines():
        if heading := re.fullmatch(r"### `?([\w/.]+\.py)`?", line):
            module = heading[1]
        elif item := re.fullmatch(r"\s*- `(\w+)`: `(.+)`", line):
            yield module, item[1], item[2]
