"""Every command that README and docs show is one: its options are there, its targets too."""

import re
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from kinetrack.cli.main import app

from documented import PAGES, Command, blocks_of, commands_of, split_line
from project import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = [command for page in PAGES for command in commands_of(page)]
# What is not asked whether it would take these words, and why not.
UNCHECKED = {
    **dict.fromkeys((".", "cd", "echo", "export"), "the shell's own"),
    **dict.fromkeys(("find", "install", "mkdir"), "of every Unix"),
    "curl": "of the system",
    "jupyter": "JupyterLab is installed by whoever wants it",
    "pre-commit": "tells by nothing but an exit code what it takes",
}


def check_kinetrack(arguments: Sequence[str]) -> None:
    command, name, left = get_command(app), "kinetrack", list(arguments)
    while isinstance(command, TyperGroup) and left and not left[0].startswith("-"):
        name = f"{name} {left[0]}"
        command = command.commands[left.pop(0)]
    options = {x for param in command.get_params(typer.Context(command)) for x in param.opts}
    # They act as soon as they are read.
    if at_once := {"--help", "--version", "--install-completion"} & {*left}:
        assert at_once <= options
    else:
        command.make_context(name, left)


def check_make(arguments: Sequence[str]) -> None:
    for word in arguments:
        variable = re.match(r"([A-Z_]+)=", word)
        wanted = rf"\$\({variable[1]}\)" if variable else rf"(?m)^{re.escape(word)}:.*## "
        assert re.search(wanted, MAKEFILE), word


def check_dvc(arguments: Sequence[str]) -> None:
    from dvc.cli import parse_args

    parse_args(list(arguments))


def check_git(arguments: Sequence[str]) -> None:
    listed = subprocess.run(
        ["git", "--list-cmds=main,others"], capture_output=True, text=True, check=True
    )
    assert arguments[0] in listed.stdout.split()


def check_python(arguments: Sequence[str]) -> None:
    option, module, *_ = arguments
    assert option == "-m"
    assert find_spec(module), module


def check_torchrun(arguments: Sequence[str]) -> None:
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(list(arguments))
    assert not parsed.module or find_spec(parsed.training_script)


def check_mlflow(arguments: Sequence[str]) -> None:
    from mlflow.cli import cli

    walk_click(cli, arguments)


def check_dask(arguments: Sequence[str]) -> None:
    (command,) = entry_points(group="dask_cli", name=arguments[0])
    walk_click(command.load(), arguments[1:])


def walk_click(command: Any, arguments: Sequence[str]) -> None:
    left = list(arguments)
    while hasattr(command, "get_command") and left and not left[0].startswith("-"):
        command = command.get_command(None, left.pop(0))
        assert command, arguments
    command.make_context("", left)


CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    "kinetrack": check_kinetrack,
    "make": check_make,
    "dvc": check_dvc,
    "git": check_git,
    "python": check_python,
    "torchrun": check_torchrun,
    "mlflow": check_mlflow,
    "dask": check_dask,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_takes_its_words(page: Path) -> None:
    wrong = []
    for command in commands_of(page):
        program, *arguments = command.words
        if program not in UNCHECKED:
            try:
                CHECKS[program](arguments)
            # argparse ends the process, the others have errors of their own.
            except (Exception, SystemExit) as error:
                wrong.append((command.line, " ".join(command.words), repr(error)))
    assert wrong == []


def test_what_is_not_checked_is_listed_and_shown() -> None:
    programs = {command.words[0] for command in COMMANDS}
    assert programs - CHECKS.keys() == UNCHECKED.keys()
    assert CHECKS.keys() <= programs


def test_a_wrong_command_would_be_found() -> None:
    wrong = {
        "kinetrack": [
            "check --version",
            "check --hard",
            "chekc",
            "import",
            "frames hide x",
            "promote --alias",
        ],
        "make": ["rerpo", "bench PART=train"],
        "dvc": ["exp rum", "repro --no-such", "remote add"],
        "git": ["comit -m x"],
        "python": ["-m benchmarks.lod", "-c 1"],
        "torchrun": ["--nodes 2 x.py", "-m kinetrack.stages.tain"],
        "mlflow": ["models sreve", "server --prot 5000"],
        "dask": ["schedluer", "worker --nthreads many"],
    }
    assert wrong.keys() == CHECKS.keys()
    for program, lines in wrong.items():
        for line in lines:
            with pytest.raises((Exception, SystemExit)):
                CHECKS[program](line.split())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("make repro   # the user's first", [("make", "repro")]),
        ("A=1 B=2 dvc repro && dvc push", [("dvc", "repro"), ("dvc", "push")]),
        ("echo 'a && b' > file; ls", [("echo", "a && b"), ("ls",)]),
        ("find . | kinetrack predict -", [("find", "."), ("kinetrack", "predict", "-")]),
        ("# only a word", []),
    ],
)
def test_lines_are_split_as_a_shell_does(line: str, words: list[tuple[str, ...]]) -> None:
    assert list(split_line(line)) == words


def test_a_command_knows_its_line() -> None:
    for command in COMMANDS:
        assert isinstance(command, Command)
        lines = (ROOT / command.page).read_text().splitlines()
        assert command.words[0] in lines[command.line - 1], command


def test_every_block_with_a_name_is_run_by_a_test() -> None:
    """By test_documented_runs.py, the last ones by test_team.py."""
    named = {page.name: {kind for kind, _ in blocks_of(page)} for page in PAGES}
    assert {name: kinds for name, kinds in named.items() if kinds} == {
        "getting-started.md": {"tiny"},
        "data.md": {"tiny"},
        "experimenting.md": {"tiny", "sweep", "swept", "worked", "judged"},
        "own-videos.md": {"clips"},
        "sharing.md": {"team", "Ann", "Ben"},
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_of_code_that_a_page_names_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"`((?:\w+/)+\w+\.py)(?:::\w+)?`", text)
    places = [ROOT, ROOT / "src", ROOT / "src/kinetrack", ROOT / "src/kinetrack/learning"]
    missing = {name for name in named if not any((place / name).is_file() for place in places)}
    assert missing == set()
