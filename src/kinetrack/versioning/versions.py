"""All versions of the data that this project knows: what DVC caches in each of them."""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import yaml

from kinetrack.errors import InputError
from kinetrack.versioning.commits import (
    PLAIN,
    STASHES,
    LockLoader,
    Origin,
    git,
    git_names,
    list_commits,
    list_experiments,
    list_stashes,
    read_commits,
    time_ms,
)
from kinetrack.versioning.tracked import (
    find_declaration,
    is_uncached,
    list_tracked,
    recorded_md5,
)

# "stash": set aside by `git stash` or `git add`, or an experiment that waits in DVC's queue.
Kind = Literal["workspace", "tip", "commit", "experiment", "stash"]

_LOCK = "dvc.lock"
_PIPELINE = "dvc.yaml"
_DVC_FILES = ":(glob)**/*.dvc"
# Branches, tags and remote branches, and what comes before their names.
_TIPS = ("refs/heads/", "refs/tags/", "refs/remotes/")
# What a file that was edited, or has the marks of a conflict, leads to.
_DAMAGED = (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, RecursionError)


class Version(NamedTuple):
    """The outputs that DVC caches, as the files of a commit or of the workspace record them."""

    origin: Origin
    kind: Kind
    names: tuple[str, ...]
    """Branches, tags and remote branches that end in it; of a stash, what it is."""
    outputs: dict[str, str]
    """Md5 by path, relative to the project; a folder's ends in ".dir"."""
    inputs: frozenset[str] = frozenset()
    """Those of `outputs` that no stage makes: `.dvc` files record them."""
    problem: str = ""
    """Why its outputs are not known; "" where they are."""


class _Recorded(NamedTuple):
    """What the files of one version say."""

    outputs: dict[str, str]
    inputs: frozenset[str]
    problem: str = ""


def list_versions(root: Path) -> list[Version]:
    """List the workspace, then commits (the newest first), experiments and stashes.

    Listed are commits of branches, tags and remote branches that changed `dvc.lock` or a `.dvc`
    file. What cannot be read has a `problem` and no outputs. Among the stashes is what `git add`
    has set aside, with an empty commit, where it is neither the workspace's nor a tip's.

    Raises:
        InputError: the workspace's own files cannot be read.
    """
    commits, experiments = list_commits(root, _LOCK, _DVC_FILES), list_experiments(root)
    tips, stashes = _list_tips(root), _list_stashes(root)
    origins = [*dict.fromkeys([*commits, *experiments, *tips, *stashes])]
    contents = _read_contents(root, origins)
    ends = _find_ends(commits, tips, contents)
    recorded = {origin: _read_recorded(contents[origin]) for origin in origins}
    in_history = sorted({*commits, *ends}, key=lambda one: (-one.time_ms, one.commit))
    here = read_version(root)
    return [
        here,
        *(
            Version(one, "tip" if one in ends else "commit", ends.get(one, ()), *recorded[one])
            for one in in_history
        ),
        *(Version(one, "experiment", (), *recorded[one]) for one in experiments),
        *(Version(one, "stash", names, *recorded[one]) for one, names in stashes.items()),
        *_read_index(root, [here.outputs, *(recorded[one].outputs for one in ends)]),
    ]


def read_version(root: Path) -> Version:
    """Read what a project's files record now, committed or not.

    Raises:
        InputError: one of them cannot be read.
    """
    tracked = [one for one in list_tracked(root) if one.is_cached and one.md5]
    inputs = frozenset(one.path for one in tracked if not one.is_stage)
    lock = root / _LOCK
    origin = Origin("", int(lock.stat().st_mtime * 1000) if lock.is_file() else 0)
    return Version(origin, "workspace", (), {one.path: one.md5 for one in tracked}, inputs)


def list_checkouts(root: Path) -> list[Path]:
    """List the checkouts in which DVC runs experiments beside the workspace."""
    found = (root / ".dvc/tmp/exps").glob("*/.dvc")
    return sorted(path.parent for path in found if path.is_dir())


def locked_outputs(lock: bytes) -> dict[str, str]:
    """Return the MD5 by path of what stages made, by a `dvc.lock`; nothing of a damaged one."""
    return _read_recorded({_LOCK: lock}).outputs


def _list_tips(root: Path) -> dict[Origin, tuple[str, ...]]:
    """Names by the commit that they lead to; also what is checked out without a branch."""
    names: dict[str, list[str]] = {}
    refs = git(root, "for-each-ref", "--format=%(refname)", *_TIPS)
    # A tag may be one of a tag; what leads to no commit, as a tag of a file may, is "missing".
    wanted = "".join(f"{ref}^{{commit}}\n" for ref in refs)
    commits = git(root, "cat-file", "--batch-check=%(objectname)", stdin=wanted) if refs else []
    for ref, commit in zip(refs, commits, strict=True):
        # .../HEAD is another name for one of the others.
        if not ref.endswith("/HEAD") and not commit.endswith(" missing"):
            names.setdefault(commit, []).append(ref.split("/", 2)[2])
    if not git(root, "symbolic-ref", "--quiet", "HEAD"):
        for commit in git(root, "rev-parse", "--verify", "--quiet", "HEAD"):
            names.setdefault(commit, []).append("HEAD")
    times = _times_ms(root, names)
    return {Origin(one, times[one]): tuple(sorted(names[one])) for one in names if one in times}


def _times_ms(root: Path, commits: Collection[str]) -> dict[str, int]:
    if not commits:
        return {}
    show = ("log", "--no-walk=unsorted", *PLAIN, "--format=%H %ct")
    lines = [line.split() for line in git(root, *show, *commits)]
    return {commit: 1000 * int(seconds) for commit, seconds in lines}


def _list_stashes(root: Path) -> dict[Origin, tuple[str, ...]]:
    return {
        Origin(commit, time_ms(root, commit)): (STASHES[stash.ref],)
        for stash in list_stashes(root)
        for commit in stash.commits
    }


def _read_index(root: Path, known: Sequence[Mapping[str, str]]) -> Iterator[Version]:
    """What `git add` has set aside, unless one of `known` has all of it."""
    paths = git_names(root, "ls-files", "-z", "--", _LOCK, _PIPELINE, _DVC_FILES)
    index = Origin("", 0)  # to Git, a file behind no commit is that of the index
    contents = read_commits(root, [(index, path) for path in paths if "\n" not in path])
    recorded = _read_recorded({path: content for (_, path), content in contents.items()})
    if not any(recorded.outputs.items() <= one.items() for one in known):
        yield Version(index, "stash", ("git add",), *recorded)


def _read_contents(root: Path, origins: Sequence[Origin]) -> dict[Origin, dict[str, bytes]]:
    """The files of each commit that record outputs, and the one that says which are cached."""
    paths = (_LOCK, _PIPELINE, *_list_dvc_files(root, origins))
    contents: dict[Origin, dict[str, bytes]] = {origin: {} for origin in origins}
    wanted = [(origin, path) for origin in origins for path in paths]
    for (origin, path), content in read_commits(root, wanted).items():
        contents[origin][path] = content
    return contents


def _list_dvc_files(root: Path, origins: Sequence[Origin]) -> list[str]:
    """Every `.dvc` file that one of these commits, or one before it, has brought or changed."""
    if not origins:
        return []
    show = ("log", "-m", "--full-history", "--name-only", "-z", "--relative", "--format=")
    # By the standard input there may be more commits than a command line takes.
    commits = "\n".join(origin.commit for origin in origins)
    names = git_names(root, *show, "--stdin", "--", _DVC_FILES, stdin=commits)
    return [name for name in names if name.endswith(".dvc") and "\n" not in name]


def _find_ends(
    commits: Sequence[Origin],
    tips: Mapping[Origin, tuple[str, ...]],
    contents: Mapping[Origin, Mapping[str, bytes]],
) -> dict[Origin, tuple[str, ...]]:
    """Names by the commit whose outputs they end in; a tip that is like none stands for itself."""
    known: dict[frozenset[tuple[str, bytes]], Origin] = {}
    for origin in commits:  # the newest first
        known.setdefault(_signature(contents[origin]), origin)
    found: dict[Origin, tuple[str, ...]] = {}
    for tip, names in tips.items():
        signature = _signature(contents[tip])
        if any(name != _PIPELINE for name, _ in signature):  # it records something
            origin = tip if tip in commits else known.get(signature, tip)
            found[origin] = tuple(sorted({*found.get(origin, ()), *names}))
    return found


def _signature(contents: Mapping[str, bytes]) -> frozenset[tuple[str, bytes]]:
    return frozenset(contents.items())


def _read_recorded(contents: Mapping[str, bytes]) -> _Recorded:
    """Read each file by itself: one in disorder takes nothing from the others."""
    made: dict[str, str] = {}
    added: dict[str, str] = {}
    problems = []
    try:
        made = dict(_outputs_of_lock(contents.get(_LOCK, b""), contents.get(_PIPELINE, b"")))
    except _DAMAGED as error:
        problems.append(_describe(_LOCK, error))
    for name, content in contents.items():
        if name.endswith(".dvc"):
            try:
                added |= dict(_outputs(_parse(content), str(PurePosixPath(name).parent)))
            except _DAMAGED as error:
                problems.append(_describe(name, error))
    return _Recorded(made | added, frozenset(added), problem="; ".join(problems)[:200])


def _describe(name: str, error: Exception) -> str:
    return f"{name}: {' '.join(str(error).split())}"


def require_all_seen(root: Path) -> None:
    """Refuse a repository that needs more than `list_versions` lists.

    Raises:
        InputError: a shallow clone, another worktree, or a pipeline in a subfolder.
    """
    if git(root, "rev-parse", "--is-shallow-repository") == ["true"]:
        remedy = "git fetch --unshallow"
        raise InputError(root, "is a clone without its older commits", remedy=remedy)
    trees = git(root, "worktree", "list", "--porcelain")
    others = [line.partition(" ")[2] for line in trees if line.startswith("worktree ")][1:]
    if others:
        remedy = f"git worktree remove {shlex.quote(others[0])}"
        raise InputError(others[0], "is another worktree, whose data are not seen", remedy=remedy)
    lock = f":(glob)*/**/{_LOCK}"
    show = ("log", "--all", "-m", "--full-history", "--name-only", "-z", "--relative", "--format=")
    here = ("ls-files", "--others", "--exclude-standard", "-z")
    for name in (*git_names(root, *show, "--", lock), *git_names(root, *here, "--", lock)):
        # Copies of locks that tell of runs and models are no pipelines.
        if not name.startswith((".dvc/", ".venv/", ".kinetrack/", "mlruns/", "models/")):
            remedy = "dvc gc sees it, but no runs of MLflow"
            raise InputError(name, "is of another pipeline, whose data are not seen", remedy=remedy)


def _outputs_of_lock(lock: bytes, pipeline: bytes) -> Iterator[tuple[str, str]]:
    stages = _parse(lock).get("stages") or {}
    declared = _parse(pipeline).get("stages") or {}
    for name, stage in stages.items():
        declaration = find_declaration(str(name), declared)
        cached = [
            out for out in stage.get("outs") or () if not is_uncached(str(out["path"]), declaration)
        ]
        yield from _outputs({"outs": cached}, str(declaration.get("wdir", ".")))


def _outputs(entry: Mapping[str, Any], folder: str) -> Iterator[tuple[str, str]]:
    folder = _below(folder, str(entry.get("wdir", ".")))
    for out in entry.get("outs") or ():
        md5 = recorded_md5(out)
        if md5 and out.get("cache", True) is not False:
            yield _below(folder, str(out["path"])), md5


def _below(folder: str, path: str) -> str:
    return os.path.normpath(PurePosixPath(folder, path))


@lru_cache(maxsize=4096)
def _parse(content: bytes) -> dict[str, Any]:
    """Read a file of DVC's; many commits have the same one."""
    return yaml.load(content, LockLoader) or {}  # a safe loader
