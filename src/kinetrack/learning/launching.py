"""Starting several processes of one training on this machine, by torch's own launcher."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kinetrack.errors import EXIT_BAD_INPUT, InputError
from kinetrack.learning.processes import PROCESSES_VARIABLE, TeamLostError

# The second one has a level of its own.
_CHATTY_LOGGERS = ("torch.distributed", "torch.distributed.elastic.agent.server.api")
# How the launcher ends those that are left.
_BY_LAUNCHER = (-signal.SIGTERM, 128 + signal.SIGTERM)
_REMEDY = "run it again: it goes on after the last whole epoch"


def launch(module: str, arguments: Sequence[str], *, processes: int) -> None:
    """Run `python -m MODULE ARGUMENTS` in some processes that form a team, to their end.

    When one of them ends early, the others are ended too, and all of them by Ctrl-C and SIGTERM.

    Raises:
        InputError: what the first one that failed said, or that one was killed.
    """
    # What it says about its own work is for those who write launchers.
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Each process sets its own threads; unset, the launcher would say that it has chosen 1.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="kinetrack-team-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *arguments)
        except ChildFailedError as error:
            raise _explain(list(error.failures.values())) from None
        except SignalException as error:
            # As of a stage without a launcher: `Aborted.`, or the exit code of the signal.
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + error.sigval)


def _explain(failures: Sequence[ProcessFailure]) -> Exception:
    """Tell which of the failures was the first cause: a lost team is only the echo of another."""
    lost = TeamLostError.__name__
    told = [failure for failure in failures if failure.exitcode == EXIT_BAD_INPUT]
    causes = [said for said in map(_said, told) if not said.startswith(f"{lost}:")]
    if causes:
        return ToldError(causes[0].partition(": ")[2])
    own = [failure for failure in failures if failure.exitcode not in _BY_LAUNCHER] or failures
    killed = [failure for failure in own if failure.exitcode < 0]
    others = [failure for failure in own if failure not in told and failure not in killed]
    if killed and not others:
        name = signal.Signals(-killed[0].exitcode).name
        return InputError(
            PROCESSES_VARIABLE, "a process of the training has died", found=name, remedy=_REMEDY
        )
    return InputError(
        PROCESSES_VARIABLE,
        "a process of the training has failed",
        found=f"exit code {(others or own)[0].exitcode}",
        remedy=f"see what it has printed above; then {_REMEDY}",
    )


def _said(failure: ProcessFailure) -> str:
    """The name of the error that a process has written down, and its line."""
    message: Any = failure.message  # torch says str, and has a mapping where there was an error
    return str(message["message"] if isinstance(message, dict) else message)


class ToldError(InputError):
    """What another process said, as its line stands."""

    def __init__(self, line: str) -> None:
        super().__init__("", line)

    def __str__(self) -> str:
        return self.problem
