"""Whether the machines of a cluster have the code, versions and files that give the same bytes."""

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import av
from distributed import Client, Worker
from PIL import features

import kinetrack
from kinetrack.errors import InputError

_PACKAGES = ("av", "numpy", "pillow", "torch")
START_ANEW = "give it the environment and code of this machine, and start it anew"


@cache  # so it is the code that this process has imported, whatever is on disk later
def describe_code() -> Mapping[str, str]:
    """What must be equal here and on a worker so that it makes the same bytes."""
    return {
        "Python": platform.python_version(),
        "processor": platform.machine(),
        **{name: metadata.version(name) for name in _PACKAGES},
        "FFmpeg": av.ffmpeg_version_info,
        "JPEG library": str(features.version_feature("libjpeg_turbo")),
        "code of kinetrack": _hash_code(Path(kinetrack.__file__).parent),
    }


def _hash_code(package: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(package).as_posix()}\0{content}\0".encode())
    return whole.hexdigest()[:12]


def refuse_strangers(client: Client, facts: Mapping[str, str], folder: Path) -> None:
    """Ask every worker that is there now; one that comes later is asked by its first task.

    Args:
        facts: `describe_code` of this machine.
        folder: one of ours, to which a worker must be able to write.

    Raises:
        InputError: a worker has other code, versions or files.
    """
    answers = client.run(_introduce, facts, folder, on_error="return")
    for address, answer in sorted(answers.items()):
        if isinstance(answer, InputError):
            raise answer
        if isinstance(answer, Exception):
            raise InputError(
                f"worker {address}",
                "cannot run this Kinetrack",
                found=f"{type(answer).__name__}: {answer}",
                remedy=START_ANEW,
            )


def _introduce(facts: Mapping[str, str], folder: Path, *, dask_worker: Worker) -> InputError | None:
    return find_difference(facts, folder, dask_worker.address)


def find_difference(facts: Mapping[str, str], folder: Path, address: str) -> InputError | None:
    """Return in what this worker differs from the machine that sends the work; None in nothing."""
    place = f"worker {address}"
    for name, found in describe_code().items():
        if found != facts[name]:
            return InputError(
                place,
                f"has another {name}",
                found=found,
                expected=facts[name],
                remedy=START_ANEW,
            )
    if not os.access(folder, os.W_OK):
        return InputError(
            place,
            "cannot write to our files",
            expected=f"to share {folder.parent.parent}",
            remedy="put the project on storage that all machines mount at one path",
        )
    return None
