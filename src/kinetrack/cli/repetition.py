"""A run beside its repetition: which figures differ, and whether the machines explain that."""

import json
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Literal, NamedTuple

from rich.markup import escape
from rich.table import Table

from kinetrack.cli.screen import table_console
from kinetrack.tables import read_csv
from kinetrack.tracking.records import RunRecord

# Between machines of different kinds: one sum in another order changes all later digits.
ACCURACY_TOLERANCE = 0.02
LOSS_TOLERANCE = 0.05
# Reports are rounded to six digits.
_ROUNDING = 1e-6
# Where these are equal, the same code, data and params promise the same bytes.
_MACHINE_KIND = ("host.capability", "device", "processes", "version.torch")
_GPU = "host.gpu"

Verdict = Literal["equal", "within tolerance", "different"]


class Figure(NamedTuple):
    """A metric of a run, and of its repetition."""

    name: str
    run: float
    repeated: float

    @property
    def difference(self) -> float:
        """By how much the repetition is larger."""
        return self.repeated - self.run

    @property
    def is_equal(self) -> bool:
        """Whether they are equal but for rounding."""
        return self._is_within(_ROUNDING)

    @property
    def is_tolerable(self) -> bool:
        """Whether they may differ so between machines of different kinds; counts may not."""
        if self.name.endswith("loss"):
            return self._is_within(LOSS_TOLERANCE)
        return self._is_within(_ROUNDING if "num_" in self.name else ACCURACY_TOLERANCE)

    def _is_within(self, tolerance: float) -> bool:
        return abs(round(self.difference, 6)) <= tolerance


class Outcome(NamedTuple):
    """How a repetition compares with its run, and one line on that."""

    verdict: Verdict
    line: str


def judge(
    record: RunRecord,
    figures: Sequence[Figure],
    *,
    weights_sha256: str,
    here: Mapping[str, str],
) -> Outcome:
    """Compare a run with its repetition on this machine.

    Args:
        figures: those that both have.
        weights_sha256: of the repetition.
        here: facts of this machine, by the names of the tags in which runs have theirs.
    """
    differing = [] if weights_sha256 == record.tags["model_sha256"] else ["the weights"]
    differing += [figure.name for figure in figures if not figure.is_equal]
    if not differing:
        return Outcome("equal", "equal: the same weights and the same figures")
    facts = differing_facts(record.tags, here)
    if not facts:
        line = f"different, on the same machine kind: {', '.join(differing)}"
        return Outcome("different", line)
    allowed = f"accuracies may differ by {ACCURACY_TOLERANCE}, losses by {LOSS_TOLERANCE}"
    where = f"on another machine kind ({'; '.join(facts)}), where {allowed}"
    beyond = [figure.name for figure in figures if not figure.is_tolerable]
    if beyond:
        return Outcome("different", f"different, {where}: {', '.join(beyond)}")
    return Outcome("within tolerance", f"within tolerance, {where}: {', '.join(differing)}")


def differing_facts(tags: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Say what makes this another machine kind than a run's, or leaves that open."""
    device = here["device"]
    names = (*_MACHINE_KIND, _GPU) if device == "cuda" else _MACHINE_KIND
    return [
        f"{name} {tags.get(name, 'not recorded')}, here {here.get(name, 'unknown')}"
        for name in names
        if name not in tags or tags[name] != here.get(name)
    ]


def read_figures(record: RunRecord, checkout: Path) -> list[Figure]:
    """Read the repetition's reports; the figures that both have, sorted by name."""
    last = read_csv(checkout / "reports/train/history.csv")[-1]
    repeated = {name.replace("_", "/", 1): float(value) for name, value in last.items()}
    tested = checkout / "reports/evaluate/metrics.json"
    if tested.is_file():
        metrics = json.loads(tested.read_text(encoding="utf-8"))
        repeated |= {f"test/{name}": float(value) for name, value in metrics.items()}
    pairs = (
        Figure(name, value, repeated.get(name, nan))  # nan: a side that was not watched
        for name, value in sorted(record.metrics.items())
    )
    return [figure for figure in pairs if not isnan(figure.repeated)]


def print_figures(figures: Sequence[Figure]) -> None:
    """Print a table of them."""
    table = Table("metric", box=None)
    for name in ("run", "repeated", "difference"):
        table.add_column(name, justify="right")
    for figure in figures:
        values = (figure.run, figure.repeated, figure.difference)
        table.add_row(escape(figure.name), *(f"{value:z.6f}" for value in values))
    table_console(soft_wrap=True).print(table)
