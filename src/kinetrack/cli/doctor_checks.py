"""The checks of `kinetrack doctor`, from what all else stands on to what only some need."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from rich.filesize import decimal

import kinetrack
from kinetrack.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What is broken hinders the commands; a note is for a person to judge.
State = Literal["ok", "note", "broken"]

_CONSTRAINTS = "constraints.txt"
_INSTALL = "make install"
_LEAST_BYTES = 10**9
_SERVER_S = 10
_REMOTE_S = 20
# Those whose version another machine's results hang on; all that are required must be there.
_PINNED = ("dvc", "mlflow", "torch", "torchvision", "pillow", "numpy", "typer", "pyyaml", "av")


class Finding(NamedTuple):
    """What one check saw, and what a person can do about it."""

    state: State
    told: str
    remedy: str = ""


def check_machine(root: Path) -> Iterator[Finding]:
    """See what this machine has chosen, and choose it for the checks that follow."""
    from kinetrack.machine import MACHINE_FILE, apply_machine_options

    apply_machine_options(root)
    chosen = "chosen there" if (root / MACHINE_FILE).exists() else "not there: all by default"
    yield Finding("ok", f"{MACHINE_FILE} {chosen}")


def check_packages(root: Path) -> Iterator[Finding]:
    """See whether the environment is the one that the project was tested in."""
    wrong = list(_wrong_packages(root))
    yield from wrong
    package = Path(kinetrack.__file__).resolve().parent
    ours = (root / "src/kinetrack").resolve()
    if ours.is_dir() and package != ours:
        told = f"the command is of {package}, the stages run {ours}"
        yield Finding("broken", told, f"{_INSTALL} && . .venv/bin/activate")
    yield from _check_path(root)
    if not wrong:
        version = ".".join(map(str, sys.version_info[:3]))
        yield Finding("ok", f"Python {version}, kinetrack {metadata.version('kinetrack')}")


def _wrong_packages(root: Path) -> Iterator[Finding]:
    pinned = _read_constraints(root / _CONSTRAINTS)
    installed = {name: _installed_version(name) for name in _required_packages()}
    for name, version in installed.items():
        if version is None:
            yield Finding("broken", f"package {name} is missing", _INSTALL)
    others = [
        f"{name} {installed[name]} instead of {pinned[name]}"
        for name in _PINNED
        # Without the local part: 2.14.1+cpu is another build of the same.
        if installed.get(name) and name in pinned and _public(installed[name]) != pinned[name]
    ]
    if others:
        yield Finding(
            "note", f"versions that nobody tested together: {', '.join(others)}", _INSTALL
        )


def _required_packages() -> list[str]:
    lines = metadata.requires("kinetrack") or []
    return [re.split(r"[^\w.-]", line)[0].lower() for line in lines if "extra ==" not in line]


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _public(version: str | None) -> str:
    return (version or "").split("+")[0]


def _read_constraints(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {
        name.lower(): _public(version) for name, _, version in (x.partition("==") for x in lines)
    }


def _check_path(root: Path) -> Iterator[Finding]:
    """See whether a bare `dvc repro` would run the stages with this environment."""
    from kinetrack.versioning.setup import python_of_path

    found = python_of_path(root)
    if found is None or found.absolute().parent != Path(sys.executable).absolute().parent:
        what = f"the first `python` of PATH is {found}" if found else "PATH has no `python`"
        activate = Path(sys.prefix) / "bin/activate"
        place = activate.relative_to(root) if activate.is_relative_to(root) else activate
        told = f"{what}: a bare `dvc repro` would not run in this environment"
        yield Finding("note", told, f". {shlex.quote(str(place))}")


def check_git(root: Path) -> Iterator[Finding]:
    """See whether Git works here, and whether nothing is left half-done."""
    from kinetrack.versioning.setup import inspect_git

    git = inspect_git(root)
    if not git.version:
        yield Finding("broken", "Git is not installed", "apt install git, or https://git-scm.com")
        return
    if git.problem:
        owned = "dubious ownership" in git.problem
        safe = f"git config --global --add safe.directory {shlex.quote(str(root))}"
        start = "git init && git add . && git commit -m start"
        yield Finding("broken", f"Git: {git.problem}", safe if owned else start)
        return
    if not git.commit:
        yield Finding("broken", "there is no commit yet", "git add . && git commit -m start")
    if not git.person:
        name = 'git config --global user.name "Your Name"'
        told = "Git does not know who commits; dvc exp run needs it too"
        yield Finding("broken", told, f"{name} && git config --global user.email you@example.org")
    if git.conflicts:
        told = f"a merge is not ended: {', '.join(git.conflicts)}"
        remedy = (
            "for dvc.lock: git checkout --theirs dvc.lock && dvc repro; then git add, git commit"
        )
        yield Finding("broken", told, remedy)
    for name in git.untracked_data:
        told = f"{name} stands for data, and Git does not track it: dvc exp would not see it"
        yield Finding("note", told, f"git add {shlex.quote(name)}")
    if git.commit and git.person and not git.conflicts:
        where = f"branch {git.branch}" if git.branch else "no branch"
        yield Finding("ok", f"Git {git.version}, {where} at {git.commit}")


def check_dvc(root: Path) -> Iterator[Finding]:
    """See whether DVC works here, and whether its links let an edit destroy its cache."""
    from kinetrack.versioning.setup import inspect_dvc

    if not (root / ".dvc").is_dir():
        told = "the project is not under DVC (a new one: dvc init)"
        yield Finding("broken", told, "git checkout .dvc")
        return
    dvc = inspect_dvc(root)
    if dvc.problem:
        yield Finding("broken", f"DVC: {dvc.problem}", "git checkout .dvc/config")
        return
    risky = [link for link in dvc.links if link in ("hardlink", "symlink")]
    if risky:
        told = f"cache.type {', '.join(risky)}: an edited file changes the object of the cache too"
        yield Finding("note", told, "dvc config cache.type reflink,copy && dvc checkout --relink")
    yield Finding(
        "ok", f"DVC {dvc.version}" + "; its cache is set to another folder" * dvc.is_shared
    )


def check_remotes(root: Path) -> Iterator[Finding]:
    """See whether the data have a second place, and whether that answers."""
    from kinetrack.versioning.remotes import check_remote, list_remotes, secrets_in_git

    remotes = list_remotes(root)
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
    for remote in remotes:
        place = f"{remote.name} ({remote.url}{', the default' * remote.is_default})"
        trouble = check_remote(root, remote.name, timeout_s=_REMOTE_S)
        if remote.asks_password:
            yield Finding("note", f"{place}: {trouble}", f"dvc push -r {shlex.quote(remote.name)}")
        elif trouble:
            kind = urlsplit(remote.url).scheme or "folders"
            remedy = f"dvc remote list, and docs/sharing.md on {kind}"
            yield Finding("broken", f"{place}: {trouble}", remedy)
        else:
            yield Finding("ok", f"{place} answers")


def check_params(root: Path) -> Iterator[Finding]:
    """See whether the params are usable."""
    from kinetrack.cli.check import read_params
    from kinetrack.params import PARAMS_FILE

    params = read_params(root / PARAMS_FILE)
    yield Finding("ok", f"{PARAMS_FILE} is fine; data set {params.dataset}")


def check_devices(_: Path) -> Iterator[Finding]:
    """See what computes, and whether that is what a person wants of this machine."""
    import torch

    from kinetrack.learning.device import choose_device
    from kinetrack.learning.processes import wanted_processes
    from kinetrack.parallel import count_workers

    device, processes, workers = choose_device(), wanted_processes(), count_workers()
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    )
    yield Finding("ok", f"{device} ({name}), {processes} to train, {workers} to decode")
    if device.type == "cpu" and not torch.cuda.is_available():
        if not shutil.which("nvidia-smi"):
            yield Finding("note", "no CUDA device: training takes the CPU")
        else:
            told = f"there is an NVIDIA driver, but torch {torch.__version__} finds no CUDA device"
            remedy = "nvidia-smi; make install TORCH_INDEX=https://download.pytorch.org/whl/cu130"
            yield Finding("note", told, remedy)


def check_disk(root: Path) -> Iterator[Finding]:
    """See whether there is room, and whether what the project writes can be written."""
    from kinetrack.versioning.cache import cache_folder

    places = [
        root,
        *(root / name for name in ("data", "mlruns", ".kinetrack") if (root / name).exists()),
    ]
    for place in places:
        if not os.access(place, os.W_OK):
            yield Finding(
                "broken", f"{place} cannot be written", f"ls -ld {shlex.quote(str(place))}"
            )
    free = shutil.disk_usage(root).free
    if free < _LEAST_BYTES:
        told = f"{decimal(free)} are free at {root}"
        yield Finding("broken", told, "kinetrack disk tells what takes room, kinetrack gc frees it")
    else:
        yield Finding("ok", f"{decimal(free)} are free")
    try:
        cache = cache_folder(root)
    except InputError:  # told by the check of DVC
        return
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    elsewhere = shutil.disk_usage(there).free
    if there.stat().st_dev != root.stat().st_dev and elsewhere < _LEAST_BYTES:
        told = f"{decimal(elsewhere)} are free at DVC's cache, {cache}"
        yield Finding("broken", told, "kinetrack gc")


def check_store(_: Path) -> Iterator[Finding]:
    """See whether MLflow takes and gives runs, and whether some wait to be sent."""
    from kinetrack.tracking import outage
    from kinetrack.tracking.store import http_limits, local_database, open_store, quiet

    database = local_database()
    if database and not database.exists():
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
            remedy = "look at MLFLOW_TRACKING_URI and the server; trainings go on without it"
            yield Finding("broken", told, remedy)
            return
        yield Finding("ok", f"{outage.place()}, {number} experiment{'s' * (number != 1)}")
        yield from _count_unsent(client)


def _count_unsent(client: "MlflowClient") -> Iterator[Finding]:
    from kinetrack.tracking.replay import count_unsent

    if number := count_unsent(client):
        told = f"{number} training{'s' * (number != 1)} of this machine MLflow was not told all of"
        yield Finding("note", told, "kinetrack track")


CHECKS: dict[str, Callable[[Path], Iterator[Finding]]] = {
    "machine": check_machine,
    "python": check_packages,
    "git": check_git,
    "dvc": check_dvc,
    "remote": check_remotes,
    "params": check_params,
    "devices": check_devices,
    "disk": check_disk,
    "mlflow": check_store,
}
