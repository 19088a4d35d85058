"""All checks of `kinetrack doctor` one after the other, and their findings as text or JSON."""

import json
import os
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from kinetrack.cli.doctor import environment, project
from kinetrack.cli.doctor.finding import Check, Finding
from kinetrack.errors import InputError, printable
from kinetrack.machine import MACHINE_FILE, read_machine_options

# From what all else stands on to what only some need.
CHECKS: dict[str, Check] = {
    "machine": environment.check_machine,
    "python": environment.check_packages,
    "git": project.check_git,
    "dvc": project.check_dvc,
    "remote": project.check_remotes,
    "params": project.check_params,
    "devices": environment.check_devices,
    "disk": environment.check_disk,
    "mlflow": project.check_store,
}
_LONGEST = 200


def examine(root: Path, *, as_json: bool) -> bool:
    """Run every check, print what each found, and tell whether nothing is broken.

    A check that fails by itself is a finding too: the others go on.

    Raises:
        InputError: the project's folder cannot be entered.
    """
    _enter(root, say=not as_json)
    chosen = _chosen_in_file(root)
    findings: dict[str, list[Finding]] = {}
    for part, check in CHECKS.items():
        findings[part] = list(run_check(check, root, chosen_in_file=chosen))
        if not as_json:
            _print(part, findings[part])
    broken = [one for found in findings.values() for one in found if one.state == "broken"]
    if as_json:
        print(json.dumps(_to_json(findings), indent=2))
    else:
        print(f"doctor: {len(broken)} broken" if broken else "doctor: nothing is broken")
    return not broken


def run_check(
    check: Check, root: Path, *, chosen_in_file: Collection[str] = ()
) -> Iterator[Finding]:
    """Return what a check finds; what it stumbles over is the last of it.

    Args:
        chosen_in_file: variables that have their value from the machine's file.
    """
    try:
        yield from check(root)
    except InputError as error:
        problem = str(error).removesuffix(f" -> {printable(error.remedy)}")
        yield Finding("broken", problem, _remedy(error, chosen_in_file))
    except Exception as error:  # whatever is broken here, the other checks go on
        lines = str(error).splitlines() or [""]
        told = f"cannot be looked at: {type(error).__name__}: {lines[0][:_LONGEST]}"
        yield Finding("broken", told, "look at what the message names")


def _enter(root: Path, *, say: bool) -> None:
    if say and Path.cwd() != root:
        print(printable(f"cd {shlex.quote(str(root))}   # the remedies are for this folder"))
    try:
        os.chdir(root)
    except OSError as error:
        remedy = "unset DVC_ROOT" if os.environ.get("DVC_ROOT") else f"ls -ld {root}"
        raise InputError(root, "cannot be entered", found=error.strerror, remedy=remedy) from None


def _chosen_in_file(root: Path) -> set[str]:
    """Variables that have their value from the machine's file, and from nothing else."""
    try:
        return set(read_machine_options(root / MACHINE_FILE)) - set(os.environ)
    except (InputError, OSError):  # told by the check of that file
        return set()


def _remedy(error: InputError, chosen_in_file: Collection[str]) -> str:
    """Say what to do, or at least where a person changes what cannot be used."""
    if str(error.path) in chosen_in_file:
        return f"edit {MACHINE_FILE}"
    if error.remedy:
        return error.remedy
    if str(error.path).isupper():
        return f"set another {error.path}, or unset it"
    return f"edit {error.path}"


def _print(part: str, findings: list[Finding]) -> None:
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        # At once: the next check may wait for a remote.
        print(printable(f"{part:<8} {finding.state:<7} {finding.told}{remedy}"), flush=True)


def _to_json(findings: dict[str, list[Finding]]) -> dict[str, object]:
    every = [{"part": part, **one._asdict()} for part, found in findings.items() for one in found]
    return {"ok": all(one["state"] != "broken" for one in every), "findings": every}
