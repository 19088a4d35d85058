"""Commits that say what DVC tracked: which there are, and files of many of them at once."""

import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import yaml

from kinetrack.errors import InputError
from kinetrack.params import Yaml12Loader

STASHES = {
    "refs/stash": "git stash",
    "refs/exps/stash": "dvc queue",
    "refs/exps/celery/stash": "dvc queue",
    "refs/exps/celery/failed": "dvc queue",
}
_EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")
# Whatever a person has set for reading logs.
PLAIN = ("--no-show-signature", "--no-patch")


class LockLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2 as DVC writes it, read ten times as fast: a history has a lock for each training."""

    yaml_implicit_resolvers = Yaml12Loader.yaml_implicit_resolvers


class Origin(NamedTuple):
    """Where a result is kept: a commit, which may be one of DVC's experiments, or the workspace."""

    commit: str
    """Empty for the workspace."""
    time_ms: int
    """Of the commit, or of the workspace's lock."""
    experiment: str = ""
    baseline: str = ""
    """The commit that an experiment started from."""


class Stash(NamedTuple):
    """Work that was set aside."""

    ref: str
    """One of `STASHES`, which tells by what."""
    number: int
    """Of the list of this kind; the newest has 0."""
    commits: tuple[str, ...]
    """The work, the index at that time, and untracked files where they were set aside too."""


def list_commits(root: Path, *paths: str) -> list[Origin]:
    """List the commits of branches, tags and remote branches that changed a path, the newest first.

    Those of branches whose result a merge threw away count too.
    """
    # A branch without a commit yet is no revision.
    head = ("HEAD",) if git(root, "rev-parse", "--verify", "--quiet", "HEAD") else ()
    everywhere = ("--full-history", "--branches", "--remotes", "--tags", *head, "--", *paths)
    commits = [line.split() for line in git(root, "log", *PLAIN, "--format=%H %ct", *everywhere)]
    return [Origin(commit, 1000 * int(seconds)) for commit, seconds in commits]


def list_experiments(root: Path) -> list[Origin]:
    """List DVC's experiments that have a result."""
    experiments = []
    for line in git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"):
        commit, _, ref = line.partition(" ")
        if match := _EXPERIMENT.fullmatch(ref):
            experiments.append(Origin(commit, time_ms(root, commit), match[3], match[1] + match[2]))
    return experiments


def list_stashes(root: Path) -> list[Stash]:
    """List the work that was set aside, the newest of each kind first."""
    present = git(root, "for-each-ref", "--format=%(refname)", *STASHES)
    found = []
    for ref in (ref for ref in present if ref in STASHES):
        walk = ("log", "--walk-reflogs", *PLAIN, "--format=%H %P", ref, "--")
        for number, line in enumerate(git(root, *walk)):
            commit, _, *others = line.split()  # the first parent is where the work began
            found.append(Stash(ref, number, (commit, *others)))
    return found


def time_ms(root: Path, commit: str) -> int:
    """When a commit was made."""
    return 1000 * int(git(root, "show", *PLAIN, "--format=%ct", commit)[0])


def git(root: Path, *arguments: str, stdin: str = "") -> list[str]:
    """Return the lines that Git prints; none where there is no repository.

    Raises:
        InputError: there is one, and Git fails at it.
    """
    return _run(root, *arguments, stdin=stdin).decode("utf-8", "replace").splitlines()


def git_names(root: Path, *arguments: str, stdin: str = "") -> list[str]:
    """Return the names of files that Git prints with `-z`, each once, sorted."""
    names = _run(root, *arguments, stdin=stdin).split(b"\0")
    return sorted({os.fsdecode(name) for name in names if name})


def _run(root: Path, *arguments: str, stdin: str = "") -> bytes:
    """What Git says; nothing where there is no repository, and what it fails at is told.

    To take a failure for "no commits" would have `kinetrack gc` remove what they need.
    """
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return b""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        result = subprocess.run(
            command, cwd=root, input=stdin.encode(), capture_output=True, check=False
        )
    except OSError as error:
        problem = "is a Git repository, but Git cannot be started"
        raise InputError(root, problem, found=error.strerror, remedy="kinetrack doctor") from None
    if result.returncode == 1 and "--quiet" in arguments:  # its way to say no
        return b""
    if result.returncode != 0:
        lines = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason"]
        problem = "Git cannot tell its commits"
        raise InputError(root, problem, found=lines[0][:200], remedy="kinetrack doctor")
    return result.stdout


def read_commits(
    root: Path, wanted: Collection[tuple[Origin, str]]
) -> dict[tuple[Origin, str], bytes]:
    """Read files of commits, as far as they are there, by one process of Git for all.

    Paths are relative to `root`.
    """
    if not wanted:
        return {}
    names = "".join(f"{origin.commit}:./{path}\n" for origin, path in wanted)
    command = ["git", "cat-file", "--batch"]
    result = subprocess.run(
        command, cwd=root, input=os.fsencode(names), capture_output=True, check=False
    )
    found, told, place = {}, result.stdout, 0
    for key in wanted:
        end = told.index(b"\n", place)
        head, place = told[place:end], end + 1
        if not head.endswith(b" missing"):
            size = int(head.split()[-1])
            found[key] = told[place : place + size]
            place += size + 1
    return found
