import io
import sys
from typing import Any

import pytest
from rich.console import Console

from kinetrack.cli.predict import progress
from kinetrack.cli.predict.progress import Watch


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def watch(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Watch, Screen]:
    screen = Screen()

    def on_screen(**_: Any) -> Console:
        return Console(file=screen, width=100, **options)

    monkeypatch.setattr(progress, "Console", on_screen)
    return Watch(), screen


def test_pipe_hears_nothing_of_what_ends_soon(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Watch()
    for answer in bars.videos("ab", total=2):
        for step in bars.steps([1, 2], total=2, name="a.avi"):
            sys.stdout.write(f"{answer} {step}\n")
    captured = capsys.readouterr()
    assert captured.out.split("\n") == ["a 1", "a 2", "b 1", "b 2", ""]
    assert captured.err == ""


def test_pipe_hears_a_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetrack.parallel._LINE_EVERY_S", 0)
    list(Watch().steps([1, 2], total=2, name="a\n.avi"))
    assert capsys.readouterr().err.startswith(r"predict: a\n.avi: 1 of 2, ")


def test_terminal_shows_one_bar_for_the_list_and_one_for_the_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars, screen = watch(monkeypatch, force_terminal=True, color_system=None)
    for _ in bars.videos(_with_steps(bars), total=2):
        pass
    assert "predict" in screen.getvalue()
    assert "video[b].avi" in screen.getvalue()  # no markup
    assert "1/2" in screen.getvalue()


def _with_steps(bars: Watch) -> Any:
    for _ in range(2):
        for _ in bars.steps([1, 2, 3], total=3, name="video[b].avi"):
            bars._bars and bars._bars.refresh()
        yield "answer"


def test_answers_are_printed_while_no_bar_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bars, screen = watch(monkeypatch, force_terminal=True, color_system=None)
    stdout = sys.stdout
    for _ in bars.videos([1, 2], total=2):
        assert sys.stdout is stdout  # rich would send it to stderr
        erased = screen.getvalue().rstrip()
        assert erased.endswith("\x1b[2K")
        assert "\x1b[?25h" in erased  # and the cursor is back
        screen.truncate(0)


def test_terminal_that_cannot_erase_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    bars, screen = watch(monkeypatch, force_terminal=True)
    assert list(bars.videos([1, 2], total=2)) == [1, 2]
    assert list(bars.steps([1, 2], total=2, name="a")) == [1, 2]
    assert screen.getvalue() == ""


def test_error_takes_the_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    bars, screen = watch(monkeypatch, force_terminal=True, color_system=None)

    def failing() -> Any:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(bars.videos(failing(), total=2))
    assert screen.getvalue().rstrip().endswith("\x1b[2K")
