"""`kinetrack verify`: read everything that DVC tracks, and name what is not as it should be."""

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from kinetrack.cli.verify_contents import Checked, Contents
from kinetrack.errors import printable
from kinetrack.params import PARAMS_FILE, load_params
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.findings import Finding, Step, in_order
from kinetrack.versioning.restore import find_damage
from kinetrack.versioning.tracked import Tracked, list_tracked
from kinetrack.versioning.verify import CheckedOutput, verify_tracked

_MOST_SHOWN = 20
_OF_A_DATASET = re.compile(r"data/(?:frames|tensors)/([^/]+)")


class Report(NamedTuple):
    """All that was checked."""

    tracked: list[Checked]
    contents: list[Checked]

    @property
    def findings(self) -> list[Finding]:
        """All that was found."""
        return [found for one in (*self.tracked, *self.contents) for found in one.findings]


def verify(root: Path, *, as_json: bool) -> bool:
    """Check all and print a report; return whether all is well.

    Raises:
        InputError: the project is not under DVC, or its files of DVC's cannot be read.
    """
    report = check_all(root)
    print(json.dumps(_to_json(report), indent=2) if as_json else "\n".join(describe(report)))
    return not report.findings


def check_all(root: Path) -> Report:
    """Check what DVC tracks, then whether what lies here belongs together and opens.

    Raises:
        InputError: the project is not under DVC, or its files of DVC's cannot be read.
    """
    dataset = load_params(root / PARAMS_FILE)["dataset"]
    tracked, cache = list_tracked(root), cache_folder(root)
    outputs, hashed = verify_tracked(tracked, root=root, cache=cache)
    found = find_damage(outputs, root=root)
    checked = {output.tracked: output for output in outputs}
    damaged = {finding.path for findings in found.values() for finding in findings}
    contents = Contents(root, damaged=damaged, md5s={path: one.md5 for path, one in hashed.items()})
    report = Report(
        [_to_checked(one, checked.get(one), found.get(one, [])) for one in tracked],
        list(contents.check()),
    )
    return _for_other_datasets(report, dataset)


def _to_checked(tracked: Tracked, output: CheckedOutput | None, findings: list[Finding]) -> Checked:
    if output is None:
        return Checked(tracked.path, "", 0, [], tracked.not_checkable)
    num_files = len(output.files)
    counted = f"{num_files:,} file{'s' * (num_files != 1)}" if output.is_here else "not here"
    return Checked(tracked.path, counted, sum(file.num_bytes for file in output.files), findings)


def _for_other_datasets(report: Report, dataset: str) -> Report:
    """Have the data set chosen first, where a stage is to make another one than the present."""

    def adapt(checked: Checked) -> Checked:
        match = _OF_A_DATASET.match(checked.path)
        if match is None or match[1] == dataset:
            return checked
        choose = Step("choose", f"kinetrack use {shlex.quote(match[1])}")
        findings = [
            finding._replace(steps=(choose, *finding.steps)) if finding.steps else finding
            for finding in checked.findings
        ]
        return checked._replace(findings=findings)

    return Report(list(map(adapt, report.tracked)), list(map(adapt, report.contents)))


def describe(report: Report) -> Iterator[str]:
    """The report as lines of text; of many findings of one kind, the first few."""
    if not report.tracked:
        yield "verify: DVC tracks nothing here yet -> make repro"
    width = max((len(one.path) for one in (*report.tracked, *report.contents)), default=0)
    shown: list[Finding] = []
    for heading, part in (("tracked by DVC", report.tracked), ("contents", report.contents)):
        if part:
            yield f"{heading}:"
        for checked in part:
            yield printable(_summarise(checked, width))
            few, more = _first_of_each_kind(checked.findings)
            shown += few
            yield from (f"    {printable(_tell(finding))}" for finding in few)
            yield from (f"    {printable(line)}" for line in more)
    yield from _conclude(report, shown)


def _summarise(checked: Checked, width: int) -> str:
    number = len(checked.findings)
    state = f"{number} finding{'s' * (number != 1)}" if number else "ok"
    if checked.not_checked:
        state = f"NOT CHECKED: {checked.not_checked}"
    size = decimal(checked.num_bytes) if checked.num_bytes else ""
    return f"  {checked.path:<{width}}  {checked.counted:>20}  {size:>9}  {state}".rstrip()


def _tell(finding: Finding) -> str:
    return f"{finding.path}: {finding.problem} -> {finding.remedy}"


def _first_of_each_kind(findings: Sequence[Finding]) -> tuple[list[Finding], list[str]]:
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.problem].append(finding)
    few = [finding for kind in kinds.values() for finding in kind[:_MOST_SHOWN]]
    more = [
        f"... and {len(kind) - _MOST_SHOWN:,} more: {problem}"
        for problem, kind in kinds.items()
        if len(kind) > _MOST_SHOWN
    ]
    return few, more


def _conclude(report: Report, shown: Sequence[Finding]) -> Iterator[str]:
    number = len(report.findings)
    if not number:
        not_checked = sum(bool(one.not_checked) for one in report.tracked)
        yield "verify: all is as recorded" + (f"; {not_checked} not checked" * bool(not_checked))
        return
    yield f"verify: {number:,} finding{'s' * (number != 1)}"
    commands = in_order(shown)
    if commands:
        yield "to restore, in the project's folder, in this order:"
        yield from (f"  {printable(command)}" for command in commands)
    if len(commands) < len(in_order(report.findings)):
        yield "then kinetrack verify again for the others; kinetrack verify --json names all"


def _to_json(report: Report) -> dict[str, object]:
    return {
        "ok": not report.findings,
        "tracked": [_checked_to_json(checked) for checked in report.tracked],
        "contents": [_checked_to_json(checked) for checked in report.contents],
        "commands": in_order(report.findings),
    }


def _checked_to_json(checked: Checked) -> dict[str, object]:
    findings = [
        {
            "path": finding.path,
            "problem": finding.problem,
            "commands": [step.command for step in finding.steps],
            "advice": finding.advice,
        }
        for finding in checked.findings
    ]
    return {**checked._asdict(), "findings": findings}
