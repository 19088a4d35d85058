"""The page on every command of `kinetrack`, from the app itself."""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from handbook.text import code, paragraphs, plain, table
from kinetrack.cli import main  # noqa: F401  # its import adds the commands
from kinetrack.cli.app import app

NAME = "kinetrack"
_INTRODUCTION = """\
# The command line

Made from the code by `make docs`; a test compares. `kinetrack COMMAND --help` says the same.

Commands work from anywhere below the project's folder. Bad input ends with exit code 2 and one line
that says where, what was found, what was expected and what to do
([troubleshooting](../troubleshooting.md)); other exit codes are explained with the command."""


def describe_commands() -> str:
    """The whole page."""
    group = get_command(app)
    commands = list(_walk(group, NAME))
    lines = [_INTRODUCTION, ""]
    for panel in dict.fromkeys(panel for panel, _, _ in commands):
        lines += [f"## {plain(panel)}", ""]
        mine = [(name, command) for at, name, command in commands if at == panel]
        lines += table(["command", "does"], [_overview(*one) for one in mine])
        for one in mine:
            lines += ["", *_describe(*one)]
        lines.append("")
    return "\n".join(lines)


def _walk(group: Any, prefix: str, panel: str = "") -> Iterator[tuple[str, str, Any]]:
    """Panel, name and command of everything that can be called, in the order of `--help`."""
    assert isinstance(group, TyperGroup)
    for name in group.list_commands(typer.Context(group)):
        command: Any = group.commands[name]
        at, whole = panel or command.rich_help_panel, f"{prefix} {name}"
        if not isinstance(command, TyperGroup) or command.invoke_without_command:
            yield at, whole, command
        if isinstance(command, TyperGroup):
            yield from _walk(command, whole, at)


def _overview(name: str, command: Any) -> list[str]:
    first = (command.help or "").split("\n\n")[0]
    # As the table of contents makes it of the heading.
    anchor = name.replace(" ", "-")
    return [f"[{code(name)}](#{anchor})", plain(first)]


def _describe(name: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    yield from [f"### {code(name)}", "", paragraphs(command.help or ""), ""]
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    options = [*_records(command, context, "option")]
    yield from ["```text", " ".join([name, *pieces, *["[OPTIONS]"] * bool(options)]), "```"]
    if rows := [*_records(command, context, "argument"), *options]:
        yield from ["", *rows]
    if examples := [line.strip() for line in (command.epilog or "").splitlines()[1:]]:
        yield from ["", "```sh", *examples, "```"]


def _records(command: Any, context: typer.Context, kind: str) -> Iterator[str]:
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if param.param_type_name == kind and record and "--help" not in param.opts:
            yield f"- `{record[0]}`: {plain(record[1])}"
