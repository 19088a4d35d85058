"""Checks of the project: Git, DVC, remotes, params, MLflow."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kinetrack.cli.doctor.finding import Finding
from kinetrack.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from kinetrack.versioning.remotes import Remote

_SERVER_S = 10
_REMOTE_S = 20
_ADDRESS = "look at MLFLOW_TRACKING_URI, or tracking_uri in .kinetrack/machine.yaml"


def check_git(root: Path) -> Iterator[Finding]:
    """See whether Git works here, and whether nothing is left half-done."""
    from kinetrack.versioning.setup import inspect_git

    git = inspect_git(root)
    if not git.version:
        yield Finding("broken", "Git is not installed", "apt install git, or https://git-scm.com")
        return
    if git.problem:
        yield Finding("broken", f"Git: {git.problem}", _mend_git(git.problem))
        return
    if not git.commit:
        yield Finding("broken", "there is no commit yet", "git add . && git commit -m start")
    if not git.person:
        name = 'git config --global user.name "Your Name"'
        told = "Git does not know who commits; dvc exp run needs it too"
        yield Finding("broken", told, f"{name} && git config --global user.email you@example.org")
    if git.conflicts:
        told = f"a merge is not ended: {', '.join(git.conflicts)}"
        lock = "git checkout --theirs dvc.lock && dvc repro; "
        is_lock = any(Path(name).name == "dvc.lock" for name in git.conflicts)
        yield Finding("broken", told, f"{lock * is_lock}mend each file, git add it, git commit")
    for name in git.untracked_data:
        told = f"{name} stands for data, and Git does not track it: dvc exp would not see it"
        yield Finding("note", told, f"git add {shlex.quote(name)}")
    if git.commit and git.person and not git.conflicts:
        where = f"branch {git.branch}" if git.branch else "no branch"
        yield Finding("ok", f"Git {git.version}, {where} at {git.commit}")


def _mend_git(problem: str) -> str:
    if owned := re.search("dubious ownership in repository at '(.*)'", problem):
        return f"git config --global --add safe.directory {shlex.quote(owned[1])}"
    if "not a git repository (or any" in problem:
        return "git init && git add . && git commit -m start"
    return "git status tells more"


def check_dvc(root: Path) -> Iterator[Finding]:
    """See whether DVC works here, and whether its links let an edit destroy its cache."""
    from kinetrack.versioning.setup import inspect_dvc

    if not (root / ".dvc").is_dir():
        told = "the project is not under DVC (a new one: dvc init)"
        yield Finding("broken", told, "git checkout .dvc")
        return
    dvc = inspect_dvc(root)
    if dvc.problem:
        yield Finding("broken", f"DVC: {dvc.problem}", dvc.remedy)
        return
    risky = [link for link in dvc.links if link in ("hardlink", "symlink")]
    if risky:
        told = f"cache.type {', '.join(risky)}: an edited file changes the object of the cache too"
        yield Finding("note", told, "dvc config cache.type reflink,copy && dvc checkout --relink")
    if dvc.open_site_cache:
        told = (
            f"everybody on this machine may write {dvc.open_site_cache},"
            " from which DVC loads code (SECURITY.md)"
        )
        remedy = "dvc config --global core.site_cache_dir ~/.cache/dvc"
        yield Finding("note", told, f"install -d -m 700 ~/.cache/dvc && {remedy}")
    yield Finding(
        "ok", f"DVC {dvc.version}" + "; its cache is set to another folder" * dvc.is_shared
    )


def check_remotes(root: Path) -> Iterator[Finding]:
    """See whether the data have a second place, and whether that answers."""
    from kinetrack.versioning.remotes import check_remote, list_remotes, secrets_in_git

    try:
        remotes = list_remotes(root)
    except InputError:
        yield Finding("note", "not looked at: DVC's configuration cannot be read")
        return
    for option in secrets_in_git(root):
        told = f"{option} stands in .dvc/config, which Git shows to all"
        remedy = "take it out, set it with dvc remote modify --local, and change that secret"
        yield Finding("broken", told, remedy)
    if not remotes:
        told = "there is no DVC remote: the data are on this machine alone"
        yield Finding("note", told, "dvc remote add -d team ADDRESS (docs/sharing.md)")
    elif not any(remote.is_default for remote in remotes):
        told = "no remote is the default: dvc push and dvc pull have no place"
        yield Finding("broken", told, f"dvc remote default {shlex.quote(remotes[0].name)}")
    yield from _find_uncommitted(remotes, root)
    for remote in remotes:
        yield _try_remote(remote, check_remote(root, remote.name, timeout_s=_REMOTE_S))


def _find_uncommitted(remotes: Sequence["Remote"], root: Path) -> Iterator[Finding]:
    from kinetrack.versioning.setup import differs_from_commit

    shared = [remote.name for remote in remotes if "project" in remote.where]
    if shared and differs_from_commit(".dvc/config", root=root):
        told = f".dvc/config, which names {', '.join(shared)}, is not committed as it is"
        remedy = "git add .dvc/config && git commit -m 'DVC remote' .dvc/config"
        yield Finding("note", f"{told}: a colleague's clone would not have it", remedy)


def _try_remote(remote: "Remote", trouble: str | None) -> Finding:
    place = f"{remote.name} ({remote.url}{', the default' * remote.is_default})"
    if remote.asks_password:
        return Finding("note", f"{place}: {trouble}", f"dvc push -r {shlex.quote(remote.name)}")
    if trouble:
        remedy = "dvc remote list; docs/sharing.md tells what each kind of remote needs"
        return Finding("broken", f"{place}: {trouble}", remedy)
    if urlsplit(remote.url).scheme == "":
        if not Path(remote.url).exists():
            told = f"{place}: the folder is not there; the first dvc push would make it"
            return Finding("note", told, "ls -ld, mount: is this the right place?")
        if not os.access(remote.url, os.W_OK):
            return Finding("note", f"{place} answers, but cannot be written: dvc push would fail")
    return Finding("ok", f"{place} answers")


def check_params(root: Path) -> Iterator[Finding]:
    """See whether the params are usable."""
    from kinetrack.cli.check import read_params
    from kinetrack.params import PARAMS_FILE

    params = read_params(root / PARAMS_FILE)
    yield Finding("ok", f"{PARAMS_FILE} is fine; data set {params.dataset}")


def check_store(_: Path) -> Iterator[Finding]:
    """See whether MLflow takes and gives runs, and whether some wait to be sent."""
    from kinetrack.tracking import outage
    from kinetrack.tracking.database import require_writable
    from kinetrack.tracking.settings import http_limits, quiet
    from kinetrack.tracking.store import local_database, open_store

    database = local_database()
    if database and not database.exists():
        is_ours = database.parent.name == "mlruns"
        if not is_ours and not database.parent.is_dir():
            raise InputError(database, "its folder is not there", remedy=_ADDRESS)
        yield Finding("ok", f"{outage.place()}: no training yet")
        return
    with http_limits(timeout_s=_SERVER_S, retries=0), quiet():
        try:
            client = open_store(timeout_s=_SERVER_S)
            number = len(client.search_experiments())
        except InputError:
            raise
        except Exception as error:  # whatever a store raises
            told = f"{outage.address()} does not answer: {outage.reason(error)}"
            yield Finding("broken", told, f"{_ADDRESS}, and the server; trainings go on without")
            return
        if database:
            require_writable(database, timeout_s=_SERVER_S)
        yield Finding("ok", f"{outage.place()}, {number} experiment{'s' * (number != 1)}")
        yield from _count_unsent(client)


def _count_unsent(client: "MlflowClient") -> Iterator[Finding]:
    from kinetrack.tracking.replay import count_unsent

    if number := count_unsent(client):
        told = f"{number} training{'s' * (number != 1)} of this machine MLflow was not told all of"
        yield Finding("note", told, "kinetrack track")
