"""Where a command works: in the project around here, or outside of one."""

import os
from pathlib import Path

from kinetrack.errors import InputError

_MODEL = "data/model"


def enter() -> Path:
    """Go to the project's folder, from anywhere below it, and see what its machine has chosen."""
    from kinetrack.machine import apply_machine_options
    from kinetrack.tracking.artifacts import find_root

    root = find_root()
    apply_machine_options(root)
    os.chdir(root)
    return root


def enter_if_project(*, needs_runs: bool = True) -> Path | None:
    """As `enter`; outside of a project, where nothing of one is needed, stay: None.

    Args:
        needs_runs: of those, a tracking server has to be named then.
    """
    from kinetrack.tracking.artifacts import find_root

    try:
        find_root()
    except InputError as error:
        if not needs_runs or os.environ.get("MLFLOW_TRACKING_URI"):
            return None
        remedy = "run this inside the project, or set MLFLOW_TRACKING_URI"
        raise InputError(error.path, error.problem, remedy=remedy) from None
    return enter()


def present_model() -> str:
    """The model of the project around here; videos are named from here, so nobody goes there.

    Raises:
        InputError: there is no project around here, and no `data/model` either.
    """
    from kinetrack.machine import apply_machine_options
    from kinetrack.tracking.artifacts import find_root

    try:
        root = find_root()
    except InputError as error:
        if Path(_MODEL).is_dir():  # a copy of it
            return _MODEL
        remedy = "run this inside the project, or name a model: --model FOLDER"
        raise InputError(error.path, error.problem, remedy=remedy) from None
    apply_machine_options(root)
    return str(root / _MODEL)
