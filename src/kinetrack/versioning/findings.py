"""What is wrong with files that DVC tracks, and the commands that bring them back, in order."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Phase = Literal["choose", "remove", "check out", "fetch", "make", "commit"]
_PHASES: tuple[Phase, ...] = ("choose", "remove", "check out", "fetch", "make", "commit")


class Step(NamedTuple):
    """A shell command, run in the project's folder, and when its turn is."""

    phase: Phase
    command: str


class Finding(NamedTuple):
    """What is wrong with one file or folder, and what brings it back.

    `path` is relative to the project. `steps` come one after the other, each if the one before did
    not fail. `advice` is for a person: what to do where no command can, or beside the commands.
    """

    path: str
    problem: str
    steps: tuple[Step, ...] = ()
    advice: str = ""

    @property
    def remedy(self) -> str:
        """Commands and advice in one line."""
        commands = " && ".join(step.command for step in self.steps)
        return "; ".join(text for text in (commands, self.advice) if text)


def in_order(findings: Iterable[Finding]) -> list[str]:
    """The commands of all findings, each once, in an order in which they do no harm."""
    steps = dict.fromkeys(step for finding in findings for step in finding.steps)
    ordered = sorted(steps, key=lambda step: _PHASES.index(step.phase))
    return [step.command for step in ordered]
