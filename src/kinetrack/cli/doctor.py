"""`kinetrack doctor`: what of the set-up is missing or broken, and what to do about it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetrack.cli.doctor_checks import CHECKS, Finding
from kinetrack.errors import InputError, printable


def examine(root: Path, *, as_json: bool) -> bool:
    """Run every check, print what each found, and tell whether nothing is broken.

    A check that fails by itself is a finding too: the others go on.
    """
    os.chdir(root)
    findings: dict[str, list[Finding]] = {}
    for part, check in CHECKS.items():
        findings[part] = list(_run(check, root))
        if not as_json:
            _print(part, findings[part])
    broken = [one for found in findings.values() for one in found if one.state == "broken"]
    if as_json:
        print(json.dumps(_to_json(findings), indent=2))
    else:
        print(f"doctor: {len(broken)} to mend" if broken else "doctor: nothing is broken")
    return not broken


def _run(check: Callable[[Path], Iterator[Finding]], root: Path) -> Iterator[Finding]:
    try:
        yield from check(root)
    except InputError as error:
        problem = str(error).removesuffix(f" -> {printable(error.remedy)}")
        yield Finding("broken", problem, error.remedy)


def _print(part: str, findings: list[Finding]) -> None:
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        # At once: the next check may wait for a remote.
        print(printable(f"{part:<8} {finding.state:<7} {finding.told}{remedy}"), flush=True)


def _to_json(findings: dict[str, list[Finding]]) -> dict[str, object]:
    every = [{"part": part, **one._asdict()} for part, found in findings.items() for one in found]
    return {"ok": all(one["state"] != "broken" for one in every), "findings": every}
