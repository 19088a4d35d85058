"""What Git and DVC are set up like here, for a person to judge; nothing is changed."""

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_LONGEST = 200
# None of them may wait for a person.
_ENVIRON = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}


class GitSetup(NamedTuple):
    """Git in a folder. What is not there is empty."""

    version: str = ""
    problem: str = ""
    """Why Git does not work on this folder."""
    branch: str = ""
    commit: str = ""
    person: str = ""
    """Who commits: `name <email>`; empty where Git would refuse to."""
    conflicts: tuple[str, ...] = ()
    """Files with a merge that nobody has ended."""
    untracked_data: tuple[str, ...] = ()
    """Files with which DVC stands for data, and which Git does not know."""


class DvcSetup(NamedTuple):
    """DVC in a folder."""

    version: str = ""
    problem: str = ""
    """Why DVC does not work in this folder."""
    remedy: str = ""
    links: tuple[str, ...] = ()
    """How files come from the cache, if it was chosen: copy, reflink, hardlink, symlink."""
    is_shared: bool = False
    """Whether the cache is also that of other projects."""
    open_site_cache: Path | None = None
    """Where DVC reads pickles that every person on this machine could put there."""


def inspect_git(root: Path) -> GitSetup:
    """See whether Git can do what DVC and experiments need of it."""
    installed = _ask(["git", "--version"], root)
    if installed is None:
        return GitSetup()
    number = installed.text.removeprefix("git version ")
    inside = _ask(["git", "rev-parse", "--is-inside-work-tree"], root)
    if inside is None or inside.trouble:
        return GitSetup(number, problem=inside.trouble if inside else "it cannot be started")
    return GitSetup(
        number,
        branch=_text(["git", "branch", "--show-current"], root),
        commit=_text(["git", "rev-parse", "--short", "HEAD"], root),
        person=_find_person(root),
        conflicts=_names(["git", "diff", "--name-only", "--diff-filter=U", "-z"], root),
        untracked_data=_names(
            ["git", "ls-files", "--others", "--exclude-standard", "-z", "--", "*.dvc"], root
        ),
    )


def differs_from_commit(name: str, *, root: Path) -> bool:
    """Whether a file was changed or added since the last commit; not where Git does not work."""
    return _text(["git", "status", "--porcelain", "--", name], root) != ""


def inspect_dvc(root: Path) -> DvcSetup:
    """See whether DVC works here, and how it brings files from its cache."""
    installed = version("dvc")
    settings = _ask([sys.executable, "-m", "dvc", "config", "--list"], root)
    if settings is None or settings.trouble:
        trouble = settings.trouble if settings else "it cannot be started"
        return DvcSetup(installed, trouble, _mend_config(root))
    # It reads dvc.yaml, dvc.lock and every .dvc file.
    stages = _ask([sys.executable, "-m", "dvc", "stage", "list"], root)
    if stages is None or stages.trouble:
        trouble = stages.trouble if stages else "it cannot be started"
        return DvcSetup(installed, trouble, "mend that file: git diff, git checkout HEAD -- FILE")
    values = dict(line.split("=", 1) for line in settings.text.splitlines() if "=" in line)
    links = values.get("cache.type", "").split(",")
    return DvcSetup(
        installed,
        links=tuple(link.strip() for link in links if link.strip()),
        is_shared="cache.dir" in values,
        open_site_cache=_find_open_site_cache(root, values.get("core.site_cache_dir")),
    )


def _find_open_site_cache(root: Path, configured: str | None) -> Path | None:
    """Return the folder of DVC's site cache if other people may write in it.

    What DVC remembers there about files, it reads with pickle (CVE-2025-69872, for which there is
    no release that mends it); it makes the folder for all to write, by default in /var/tmp.
    """
    from dvc.dirs import site_cache_dir

    folder = Path(root, site_cache_dir(configured), "repo")
    reached = all(_allows_others(above, stat.S_IXOTH) for above in folder.parents)
    return folder if reached and _allows_others(folder, stat.S_IWOTH) else None


def _allows_others(folder: Path, permission: int) -> bool:
    """What is not there yet is made by DVC, for all."""
    return not folder.exists() or bool(folder.stat().st_mode & permission)


def _mend_config(root: Path) -> str:
    """Say which of DVC's files of settings is to be mended."""
    from configobj import ConfigObj, ConfigObjError

    for name in (".dvc/config", ".dvc/config.local"):
        try:
            ConfigObj(str(root / name), encoding="utf-8", interpolation=False)
        except (ConfigObjError, UnicodeDecodeError, OSError):
            return f"git checkout HEAD -- {name}" if name == ".dvc/config" else f"mend {name}"
    return "dvc config --list --show-origin; mend that file"


def python_of_path(root: Path) -> Path | None:
    """Return the `python` that a bare `dvc repro` calls for the stages; None when there is none."""
    for folder in os.get_exec_path():
        found = Path(root, folder, "python")
        if found.is_file() and os.access(found, os.X_OK):
            return found
    return None


class _Answer(NamedTuple):
    text: str
    trouble: str
    """Empty when the command did what it was to do."""


def _ask(command: Sequence[str], root: Path) -> _Answer | None:
    """Return what a command says; None when it cannot be started."""
    try:
        result = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **_ENVIRON},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # names of files
            check=False,
        )
    except OSError:
        return None
    trouble = ""
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        trouble = lines[0].removeprefix("fatal: ").removeprefix("ERROR: ")[:_LONGEST]
    return _Answer(result.stdout.strip(), trouble)


def _text(command: Sequence[str], root: Path) -> str:
    answer = _ask(command, root)
    return answer.text if answer and not answer.trouble else ""


def _names(command: Sequence[str], root: Path) -> tuple[str, ...]:
    return tuple(name for name in _text(command, root).split("\0") if name)


def _find_person(root: Path) -> str:
    signed = _text(["git", "var", "GIT_COMMITTER_IDENT"], root)
    name, bracket, _ = signed.rpartition(">")  # behind it stands the time
    return name + bracket
