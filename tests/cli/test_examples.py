"""Every command has examples in its help, and every example is a command that there is."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from kinetrack.cli.examples import list_examples
from kinetrack.cli.main import app

ROOT = typer.main.get_command(app)
USAGE_ERROR = typer.BadParameter.__base__


def find_commands() -> list[str]:
    """Every command and subcommand, as a person types it."""
    names = []
    for name, command in ROOT.commands.items():
        below = getattr(command, "commands", {})
        if command.callback or not below:
            names.append(name)
        names += [f"{name} {sub}" for sub in below]
    return names


def parse(example: str) -> str:
    """Parse a command line as the command would, without running it; its command."""
    program, *words = shlex.split(example)
    assert program == "kinetrack"
    command, names = ROOT, []
    while words and words[0] in getattr(command, "commands", {}):
        names.append(words.pop(0))
        command = command.commands[names[-1]]
    assert names
    command.make_context(names[-1], words)
    return " ".join(names)


@pytest.mark.parametrize("example", list_examples())
def test_each_example_can_be_parsed(example: str) -> None:
    assert parse(example) in find_commands()


@pytest.mark.parametrize("example", ["kinetrack train --fast", "kinetrack", "kinetrack bake"])
def test_what_is_no_command_is_noticed(example: str) -> None:
    with pytest.raises((USAGE_ERROR, AssertionError)):
        parse(example)


@pytest.mark.parametrize("command", find_commands())
def test_each_command_shows_its_examples(command: str) -> None:
    ours = [example for example in list_examples() if parse(example) == command]
    assert ours
    screen = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).stdout
    shown = [" ".join(line.split("#")[0].split()) for line in screen.splitlines()]
    assert [example for example in ours if example not in shown] == []
