"""Starting several processes of one training on this machine, by torch's own launcher."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kinetrack.errors import EXIT_BAD_INPUT, InputError
from kinetrack.learning.processes import PROCESSES_VARIABLE, TeamLostError

_REMEDY = "run it again: it goes on after the last whole epoch"


def launch(module: str, arguments: Sequence[str], *, processes: int) -> None:
    """Run `python -m MODULE ARGUMENTS` in some processes that form a team, to their end.

    When one of them ends early, the others are ended too.

    Raises:
        InputError: what the first one that failed said, or that one was killed.
    """
    # What it says about its own work is for those who write launchers.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
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


def _explain(failures: Sequence[ProcessFailure]) -> Exception:
    """Tell which of the failures was the first cause: a lost team is only the echo of another."""
    lost = TeamLostError.__name__
    told = [failure for failure in failures if failure.exitcode == EXIT_BAD_INPUT]
    causes = [failure.message for failure in told if not failure.message.startswith(f"{lost}:")]
    if causes:
        return ToldError(causes[0].partition(": ")[2])
    killed = [failure for failure in failures if failure.exitcode < 0]
    others = [failure for failure in failures if failure not in told and failure not in killed]
    if killed and not others:
        name = signal.Signals(-killed[0].exitcode).name
        return InputError(
            PROCESSES_VARIABLE, "a process of the training has died", found=name, remedy=_REMEDY
        )
    return InputError(
        PROCESSES_VARIABLE,
        "a process of the training has failed",
        found=f"exit code {(others or list(failures))[0].exitcode}",
        remedy=f"see what it has printed above; then {_REMEDY}",
    )


class ToldError(InputError):
    """What another process said, as its line stands."""

    def __init__(self, line: str) -> None:
        super().__init__("", line)

    def __str__(self) -> str:
        return self.problem
