"""How far a list of videos is, and the steps of a long one: on stderr, out of the answers' way."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kinetrack.errors import printable
from kinetrack.parallel import with_progress

Item = TypeVar("Item")

_NAME_WIDTH = 30


class Watch:
    """On a terminal a bar for the list and one for the steps of a video; else a line a minute.

    The bars are taken away while an answer is printed, which may go to the same terminal.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._is_log = not console.is_terminal
        # A terminal that cannot take a bar away gets none.
        self._bars = _make_bars(console) if console.is_interactive else None

    def videos(self, answers: Iterable[Item], *, total: int) -> Iterator[Item]:
        """Pass the answers on, one a video."""
        if self._bars is None:
            yield from self._log(answers, total=total, description="predict")
            return
        task = self._bars.add_task("predict", total=total)
        try:
            self._bars.start()
            for answer in answers:
                self._bars.stop()
                yield answer
                self._bars.advance(task)
                self._bars.start()
        finally:
            self._bars.stop()

    def steps(self, steps: Iterable[Item], *, total: int, name: str) -> Iterator[Item]:
        """Pass the steps of a video on, or what else is done `total` times."""
        name = printable(name)
        if self._bars is None:
            yield from self._log(steps, total=total, description=f"predict: {name}")
            return
        task = self._bars.add_task(name[-_NAME_WIDTH:], total=total)
        try:
            for step in steps:
                yield step
                self._bars.advance(task)
        finally:
            self._bars.remove_task(task)

    def _log(self, items: Iterable[Item], *, total: int, description: str) -> Iterable[Item]:
        if not self._is_log:
            return items
        return with_progress(items, total=total, description=description)


def _make_bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # Else rich would have whatever is printed go where the bars are: to stderr.
        redirect_stdout=False,
    )
