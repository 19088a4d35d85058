"""What belongs to this machine: environment variables, else `.kinetrack/machine.yaml`.

Variables that are set when an experiment is queued do not reach DVC's workers; the file does.
"""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, NonNegativeInt, PositiveInt

from kinetrack.errors import InputError
from kinetrack.params import Section, load_yaml, parse_section

MACHINE_FILE = Path(".kinetrack/machine.yaml")
_VARIABLES = {
    "device": "KINETRACK_DEVICE",
    "processes": "KINETRACK_PROCESSES",
    "loaders": "KINETRACK_LOADERS",
    "resident": "KINETRACK_RESIDENT",
    "workers": "KINETRACK_WORKERS",
    "dask": "KINETRACK_DASK",
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "experiment": "MLFLOW_EXPERIMENT_NAME",
}


def _require_one_line(text: str) -> str:
    if not text or not text.isprintable():  # no variable can hold some of the others
        raise ValueError("must be one line of text")
    return text


Text = Annotated[str, AfterValidator(_require_one_line)]


class MachineOptions(Section):
    """The keys of the file; each stands for a variable, and may be left out."""

    device: Text | None = None
    """Where training and evaluation compute: cpu, cuda, cuda:1."""
    processes: PositiveInt | None = None
    """Processes that train together."""
    loaders: NonNegativeInt | None = None
    """Processes that read clips ahead of the training."""
    resident: bool | None = None
    """Whether all clips are held in the memory of the device."""
    workers: PositiveInt | None = None
    """Processes that decode clips."""
    dask: Text | None = None
    """Address of a Dask scheduler, whose workers decode instead."""
    tracking_uri: Text | None = None
    """Address of the MLflow server that runs go to."""
    experiment: Text | None = None
    """Name of the experiment in MLflow that runs go to."""


def apply_machine_options(root: Path) -> None:
    """Set those variables of `.kinetrack/machine.yaml` that the environment leaves open.

    One that is set but empty counts as set: so the file is overruled by the default.

    Args:
        root: the project; for an experiment in a temporary checkout, the one it was queued in.

    Raises:
        InputError: an unknown key, a wrong value, or a password.
    """
    for name, value in read_machine_options(root / MACHINE_FILE).items():
        os.environ.setdefault(name, value)


def read_machine_options(path: Path) -> dict[str, str]:
    """Read the file as values by variable; a missing or an empty one gives none.

    Raises:
        InputError: no safe YAML, an unknown key, a wrong value, or a password.
    """
    if not path.exists():
        return {}
    values = load_yaml(path)
    if values is None:  # nothing but comments
        return {}
    if not isinstance(values, dict):
        expected = f"some of the keys {', '.join(_VARIABLES)}"
        raise InputError(path, "is not a mapping", expected=expected)
    options = parse_section(MachineOptions, "machine", {"machine": values}, path)
    if options.tracking_uri:
        _check_address(options.tracking_uri, path)
    return {_VARIABLES[key]: _as_text(value) for key, value in options if value is not None}


def _check_address(address: str, path: Path) -> None:
    """Refuse what the file must not hold; the message does not repeat it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        raise InputError(path, "machine.tracking_uri is no address") from None
    if parts.password:
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise InputError(path, "machine.tracking_uri holds a password", remedy=remedy)
    # `sqlite:////srv/runs.db` is absolute, with three slashes it is not.
    is_absolute = parts.path.startswith("//" if parts.scheme == "sqlite" else "/")
    if parts.scheme in ("", "file", "sqlite") and not is_absolute:
        # An experiment's runs would vanish with its temporary checkout.
        problem = "machine.tracking_uri is relative"
        raise InputError(path, problem, found=address, expected="a server or an absolute path")


def _as_text(value: str | int) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
