"""Checks of the machine: environment, devices, disks."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from rich.filesize import decimal

import kinetrack
from kinetrack.cli.doctor.finding import Finding
from kinetrack.errors import InputError

_CONSTRAINTS = "constraints.txt"
_INSTALL = "make install"
_LEAST_BYTES = 10**9
# Those whose version another machine's results hang on; all that are required must be there.
_PINNED = ("dvc", "mlflow", "torch", "torchvision", "pillow", "numpy", "typer", "pyyaml", "av")
# What commands write, links to other disks included.
_WRITTEN = (
    ".",
    "data",
    "data/videos",
    "data/frames",
    "data/tensors",
    "mlruns",
    ".kinetrack",
    ".dvc",
    ".dvc/tmp",
)


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
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        name.lower(): _public(version) for name, _, version in (x.partition("==") for x in lines)
    }


def _check_path(root: Path) -> Iterator[Finding]:
    """See whether a bare `dvc repro` would run the stages with this environment."""
    from kinetrack.versioning.setup import python_of_path

    found = python_of_path(root)
    # Not the file itself: it is a link to the Python that the environment was made with.
    if found is None or not found.parent.samefile(Path(sys.executable).parent):
        what = f"the first `python` of PATH is {found}" if found else "PATH has no `python`"
        activate = Path(sys.prefix) / "bin/activate"
        place = activate.relative_to(root) if activate.is_relative_to(root) else activate
        told = f"{what}: a bare `dvc repro` would not run in this environment"
        yield Finding("note", told, f". {shlex.quote(str(place))}")


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
    cluster = os.environ.get("KINETRACK_DASK")
    decode = f"the cluster {cluster} (not asked)" if cluster else f"{workers} processes"
    yield Finding("ok", f"{device} ({name}); {processes} to train; {decode} to decode")
    if device.type == "cpu" and not torch.cuda.is_available():
        if not shutil.which("nvidia-smi"):
            yield Finding("note", "no CUDA device: training takes the CPU")
        else:
            told = f"there is an NVIDIA driver, but torch {torch.__version__} finds no CUDA device"
            remedy = "nvidia-smi; make install TORCH_INDEX=https://download.pytorch.org/whl/cu130"
            yield Finding("note", told, remedy)


def check_disk(root: Path) -> Iterator[Finding]:
    """See whether there is room, and whether what commands write can be written."""
    from kinetrack.versioning.cache import cache_folder

    places = [root / name for name in _WRITTEN]
    try:
        cache = cache_folder(root)
        places.append(next(folder for folder in (cache, *cache.parents) if folder.exists()))
    except InputError:  # told by the check of DVC
        pass
    disks: dict[int, Path] = {}
    for place in (place for place in places if place.exists()):
        disks.setdefault(place.stat().st_dev, place)
        if not os.access(place, os.W_OK):
            told = f"{place} cannot be written"
            yield Finding("broken", told, f"ls -ld {shlex.quote(str(place))}; mount")
    for place in disks.values():
        free = shutil.disk_usage(place).free
        if free < _LEAST_BYTES:
            told = f"{decimal(free)} are free at {place}"
            remedy = "kinetrack disk tells what takes room, kinetrack gc frees it"
            yield Finding("broken", told, remedy)
        else:
            yield Finding("ok", f"{decimal(free)} are free at {place}")
