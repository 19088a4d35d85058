"""How every stage command starts and ends."""

import importlib
import os
import signal
import sys
import threading
from pathlib import Path, PurePath

import psutil
import typer

import kinetrack
from kinetrack.errors import EXIT_BAD_INPUT, InputError
from kinetrack.machine import apply_machine_options
from kinetrack.signals import exit_when_asked
from kinetrack.versioning.at_work import is_left_alone


def run(stage: str) -> None:
    """Run a stage's `main` on the command line; bad input ends in one line and exit code 2."""
    # By its real name, not as `__main__`: worker processes import the functions they are sent.
    module = importlib.import_module(f"kinetrack.stages.{stage}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(module.main)
    exit_when_asked()  # what is half-written is removed then, and the MLflow run ends as KILLED
    _end_with_those_above()
    try:
        _require_own_code()
        # In the temporary checkout of an experiment, DVC_ROOT is the project that it was queued in.
        apply_machine_options(Path(os.environ.get("DVC_ROOT") or Path.cwd()))
        app()
    except InputError as error:
        _tell(error)
        sys.exit(EXIT_BAD_INPUT)
    finally:
        # It ends by itself now: an exit within Python's own clearing up would be told as an error.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _tell(error: InputError) -> None:
    if _in_team():
        # Of several processes, each may say the same: their launcher prints the first cause.
        from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

        ErrorHandler().record_exception(error)
    else:
        sys.stderr.write(f"error: {error}\n")


def _in_team() -> bool:
    """Whether torch's launcher has started this process."""
    return "TORCHELASTIC_ERROR_FILE" in os.environ


def _end_with_those_above() -> None:
    """End when DVC or the launcher was killed: the next run would meet one that still writes."""
    dvc = _find_dvc()
    if dvc is None and "DVC_STAGE" in os.environ and is_left_alone(Path.cwd()):
        sys.exit(128 + signal.SIGTERM)  # it was killed while this process loaded its code
    above = [dvc, psutil.Process().parent() if _in_team() else None]
    for process in above:
        if process:
            threading.Thread(target=_end_after, args=(process,), daemon=True).start()


def _find_dvc() -> psutil.Process | None:
    """The nearest process above this one that is DVC."""
    process = psutil.Process()
    try:
        while parent := process.parent():
            if _is_dvc(parent):
                return parent
            process = parent
    except psutil.Error:  # somebody else's process, where the system hides those
        pass
    return None


def _is_dvc(process: psutil.Process) -> bool:
    try:
        return any(PurePath(part).name == "dvc" for part in process.cmdline())
    except psutil.Error:
        return False


def _end_after(process: psutil.Process) -> None:
    psutil.wait_procs([process])
    os.kill(os.getpid(), signal.SIGTERM)


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
