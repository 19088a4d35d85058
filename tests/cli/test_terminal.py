"""What commands print on a terminal and in a pipe."""

import os
import pty
import re
import subprocess
import sys

import pytest

HELP = (sys.executable, "-m", "kinetrack.cli.main", "--help")
TABLE = (
    sys.executable,
    "-c",
    "from kinetrack.cli.screen import print_rows, table_console\n"
    "print_rows(('name', 'path'), [('a', 'b' * 300)], shortened=('path',))\n"
    "table_console(soft_wrap=True).print('[red]told[/]')\n",
)
# Of letters and ground, by number and by name: bold and dim are none.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


def on_terminal(command: tuple[str, ...], **variables: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    kept = {name: x for name, x in os.environ.items() if name not in ("NO_COLOR", "GITHUB_ACTIONS")}
    with subprocess.Popen(
        command,
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**kept, "TERM": "xterm-256color", "COLUMNS": "100", **variables},
    ):
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # so Linux tells that nobody writes any more
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("command", [HELP, TABLE], ids=["help", "table"])
def test_colours_are_for_terminals_that_may_show_them(command: tuple[str, ...]) -> None:
    assert COLOUR.search(on_terminal(command))
    assert not COLOUR.search(on_terminal(command, NO_COLOR="1"))
    assert "\x1b" not in on_terminal(command, TERM="dumb")


@pytest.mark.parametrize("command", [HELP, TABLE], ids=["help", "table"])
def test_a_pipe_gets_plain_text(command: tuple[str, ...]) -> None:
    kept = {name: x for name, x in os.environ.items() if name != "GITHUB_ACTIONS"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=kept)
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_a_row_is_cut_on_a_terminal_and_whole_in_a_pipe() -> None:
    assert "b" * 300 not in on_terminal(TABLE)
    piped = subprocess.run(TABLE, capture_output=True, text=True, check=True).stdout
    assert piped.splitlines()[1].split() == ["a", "b" * 300]
