"""How every stage command starts and ends."""

import importlib
import signal
import sys
from pathlib import Path

import typer

import kinetrack
from kinetrack.errors import EXIT_BAD_INPUT, InputError


def run(stage: str) -> None:
    """Run a stage's `main` on the command line; bad input ends in one line and exit code 2."""
    # By its real name, not as `__main__`: worker processes import the functions they are sent.
    module = importlib.import_module(f"kinetrack.stages.{stage}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(module.main)
    # As Ctrl-C: what is half-written is removed, and the MLflow run ends as KILLED.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        _require_own_code()
        app()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)


def _require_own_code() -> None:
    """Refuse to make data with another checkout's code than the one whose lock records it."""
    code = Path(kinetrack.__file__).resolve()
    if not code.is_relative_to(Path.cwd().resolve() / "src"):
        raise InputError(
            code,
            "is not the code of this checkout",
            found=f"working directory {Path.cwd()}",
            remedy="run the stage from the project's folder with PYTHONPATH=src, as dvc repro does",
        )
