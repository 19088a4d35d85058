"""`kinetrack verify --remote`: read what a DVC remote has of the present version."""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.filesize import decimal

from kinetrack.errors import printable
from kinetrack.versioning.cache import cache_folder
from kinetrack.versioning.remote_damage import (
    CheckedOnRemote,
    RemoteFinding,
    check_remote_objects,
    repair_commands,
)
from kinetrack.versioning.remote_objects import RemoteObjects
from kinetrack.versioning.remotes import list_unsent, open_remote
from kinetrack.versioning.tracked import list_tracked

DEFAULT = "default"
_MOST_SHOWN = 20


def verify_remote(root: Path, name: str, *, as_json: bool) -> bool:
    """Check a remote and print a report; return whether it has all of the present version.

    Args:
        name: of the remote; `default` is the default one.

    Raises:
        InputError: there is no such remote, it does not answer, or DVC's files cannot be read.
    """
    remote = open_remote(root, None if name == DEFAULT else name)
    checked = check_remote_objects(
        remote,
        list_tracked(root),
        cache=cache_folder(root),
        unsent=list_unsent(root, remote.name),
    )
    if as_json:
        print(json.dumps(_to_json(remote, checked), indent=2))
    else:
        for line in describe(remote, checked):
            print(printable(line))
    return not any(one.findings for one in checked)


def describe(remote: RemoteObjects, checked: Sequence[CheckedOnRemote]) -> Iterator[str]:
    """The report as lines of text; of many findings of one kind, the first few."""
    yield f"remote {remote.name} ({remote.url}):"
    width = max((len(one.path) for one in checked), default=0)
    for one in checked:
        yield _summarise(one, width)
        yield from (f"    {line}" for line in _tell_findings(remote, one))
    findings = [finding for one in checked for finding in one.findings]
    if not findings:
        not_checked = sum(bool(one.not_checked) for one in checked)
        yield "verify: all is there" + (f"; {not_checked} not checked" * bool(not_checked))
        return
    yield f"verify: {len(findings):,} finding{'s' * (len(findings) != 1)}"
    if commands := repair_commands(remote, findings):
        yield "to repair, in the project's folder, in this order:"
        yield from (f"  {command}" for command in commands)


def _summarise(one: CheckedOnRemote, width: int) -> str:
    if one.not_checked:
        return f"  {one.path:<{width}}  NOT CHECKED: {one.not_checked}"
    number = len(one.findings)
    state = f"{number:,} finding{'s' * (number != 1)}" if number else "ok"
    counted = f"{one.num_objects:,} object{'s' * (one.num_objects != 1)}"
    return f"  {one.path:<{width}}  {counted:>16}  {decimal(one.num_bytes):>9}  {state}"


def _tell_findings(remote: RemoteObjects, one: CheckedOnRemote) -> Iterator[str]:
    kinds: dict[tuple[str, bool], list[RemoteFinding]] = defaultdict(list)
    for finding in one.findings:
        kinds[finding.problem, finding.can_repair].append(finding)
    for (problem, _), kind in kinds.items():
        yield from (_tell(remote, finding) for finding in kind[:_MOST_SHOWN])
        if len(kind) > _MOST_SHOWN:
            yield f"... and {len(kind) - _MOST_SHOWN:,} more: {problem}"


def _tell(remote: RemoteObjects, finding: RemoteFinding) -> str:
    others = len(finding.paths) - 1
    same = f" (and {others:,} more of the same bytes)" if others else ""
    return f"{finding.paths[0]}{same}: {finding.problem} -> {_remedy(remote, finding)}"


def _remedy(remote: RemoteObjects, finding: RemoteFinding) -> str:
    commands = repair_commands(remote, [finding])
    if not commands:
        return _advise(finding)
    if finding.to_remove and len(commands) == 1:  # nobody knows how to remove over there
        places = ", ".join(map(remote.path_of, finding.to_remove))
        return f"remove {places}, then {commands[0]}"
    return " && ".join(commands)


def _advise(finding: RemoteFinding) -> str:
    """What a person can do where the cache here cannot send it."""
    again = "then kinetrack verify --remote again"
    if finding.is_right_here:
        return f"restore the others of {finding.owner} first, {again}"
    source = f"dvc repro {shlex.quote(finding.owner)} makes it" if finding.is_stage else "import it"
    return (
        "the cache here has no good copy either: kinetrack verify tells how to restore one, "
        f"{source} again, or push it from a clone that has it; {again}"
    )


def _to_json(remote: RemoteObjects, checked: Sequence[CheckedOnRemote]) -> dict[str, object]:
    findings = [finding for one in checked for finding in one.findings]
    return {
        "ok": not findings,
        "remote": {"name": remote.name, "url": remote.url},
        "tracked": [
            {
                **one._asdict(),
                "findings": [_finding_to_json(remote, finding) for finding in one.findings],
            }
            for one in checked
        ],
        "commands": repair_commands(remote, findings),
    }


def _finding_to_json(remote: RemoteObjects, finding: RemoteFinding) -> dict[str, object]:
    commands = repair_commands(remote, [finding])
    return {
        "paths": list(finding.paths),
        "problem": finding.problem,
        "md5": finding.md5,
        "place": remote.path_of(finding.md5),
        "commands": commands,
        "advice": "" if commands else _advise(finding),
    }
