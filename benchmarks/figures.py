"""What the benchmarks found: lines of a table, ratios with goals, and the file that has all."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import joblib
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Cost
from benchmarks.scratch import ROOT
from kinetrack.files import write_json

GIGABYTE = 1e9
_PACKAGES = ("torch", "torchvision", "av", "pillow", "numpy", "dvc", "joblib")
Values = dict[str, float | int | str]


class Line(NamedTuple):
    """What one side of a comparison cost; `disk_bytes` is what it wrote, of all clips."""

    key: str
    title: str
    clips: int
    cost: Cost
    disk_bytes: int = 0


class Figure(NamedTuple):
    """One number under its key; a ratio has a goal that it should reach or stay below."""

    key: str
    title: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """What the goal is, and whether it is met; "" without one."""
        if self.at_least is not None:
            return f">= {self.at_least:g}: {'met' if self.value >= self.at_least else 'MISSED'}"
        if self.at_most is not None:
            return f"<= {self.at_most:g}: {'met' if self.value <= self.at_most else 'MISSED'}"
        return ""


class Findings(NamedTuple):
    """What one part found.

    `counts` are for the file alone; `notes` say what a reader should know about the comparison.
    """

    lines: Sequence[Line]
    figures: Sequence[Figure]
    counts: Mapping[str, int] = {}
    notes: Sequence[str] = ()


def flatten(findings: Findings) -> Values:
    """All numbers under flat keys, as `preprocess.ours.cpu_s`."""
    values: Values = {figure.key: round(figure.value, 4) for figure in findings.figures}
    values |= findings.counts
    for line in findings.lines:
        values |= {
            f"{line.key}.clips": line.clips,
            f"{line.key}.seconds": round(line.cost.wall_s, 3),
            f"{line.key}.cpu_s": round(line.cost.cpu_s, 3),
            f"{line.key}.peak_gb": round(line.cost.peak_bytes / GIGABYTE, 3),
        }
        if line.disk_bytes:
            values[f"{line.key}.disk_bytes"] = line.disk_bytes
    return values


def describe_run(*, data: str) -> Values:
    """When, where and of what code; beside the figures of each part, as parts run by themselves."""
    return {
        "commit": _describe_commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "data": data,
        "processor": _name_processor(),
        "cores": int(joblib.cpu_count()),
        "python": platform.python_version(),
        "ffmpeg": _print_of("ffmpeg", "-version").partition(" Copyright")[0],
        **{package: version(package) for package in _PACKAGES},
    }


def _describe_commit() -> str:
    """The commit of this checkout, with "-dirty" for files that differ; "" without Git."""
    return _print_of("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _print_of(*command: str) -> str:
    """What a command prints; "" when it is not there or fails."""
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def _name_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def merge_figures(path: Path, values: Mapping[str, float | int | str]) -> None:
    """Put values into the file; those of parts that did not run now stay."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, dict(sorted({**earlier, **values}.items())))


def show(console: Console, title: str, findings: Findings) -> None:
    """Print a table of what each side cost, and one of the figures."""
    if findings.lines:
        console.print(_table_of_costs(title, findings.lines))
    table = Table("figure", "", "value", "goal", title="" if findings.lines else title)
    for figure in findings.figures:
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3f}"
        table.add_row(figure.key, figure.title, value, figure.verdict)
    console.print(table)
    for note in findings.notes:
        console.print(f"  {note}")


def _table_of_costs(title: str, lines: Sequence[Line]) -> Table:
    table = Table("", "clips", "clips/s", "CPU s", "CPU ms/clip", "peak MB", "MB on disk")
    table.title = title
    for line in lines:
        table.add_row(
            line.title,
            f"{line.clips:,}",
            f"{line.clips / line.cost.wall_s:,.1f}",
            f"{line.cost.cpu_s:,.1f}",
            f"{1000 * line.cost.cpu_s / line.clips:,.1f}",
            f"{line.cost.peak_bytes / 1e6:,.0f}",
            f"{line.disk_bytes / 1e6:,.0f}" if line.disk_bytes else "",
        )
    return table
