"""`kinetrack track`: MLflow brought to what the files of this project say.

What an outage kept from MLflow, what DVC took from its run cache, and what a colleague committed
or pushed as an experiment has files here, but no run.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kinetrack.cli.past import describe_training, evaluation_of, read_past
from kinetrack.errors import InputError
from kinetrack.files import write_alone
from kinetrack.tracking import outage
from kinetrack.tracking.evaluations import send_evaluation
from kinetrack.tracking.groups import update_groups
from kinetrack.tracking.journal import ModelFacts, Training, journal_path, read
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.replay import attach_final_locks, make_missing_runs, replay_journals
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import open_store
from kinetrack.versioning.cache import cache_folder, copy_out
from kinetrack.versioning.lock import folder_md5

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MODEL = Path("data/model")
_LOCK = Path(".kinetrack/track")


class Tracked(NamedTuple):
    """What MLflow was told, in runs."""

    replayed: int = 0
    made: int = 0
    evaluated: int = 0
    groups: int = 0
    without_model: int = 0

    def describe(self) -> str:
        """One line."""
        parts = [
            (self.replayed, "sent from this machine's journals"),
            (self.made, "made of committed results"),
            (self.groups, "group" + "s" * (self.groups != 1) + " of repetitions"),
            (self.without_model, "without their model: it is not in DVC's cache (dvc pull)"),
        ]
        told = [f"{number} {what}" for number, what in parts if number]
        have = "run has its" if self.evaluated == 1 else "runs have their"
        return "; ".join([f"track: {self.evaluated} {have} test result", *told])


def track(root: Path, *, of_other_stores: bool = False) -> Tracked:
    """Bring MLflow to what the journals, DVC and Git say; a second time, nothing is left to do.

    Raises:
        InputError: MLflow cannot be used, or another process is at it.
    """
    with write_alone(root / _LOCK), quiet():
        try:
            return _track(open_store(), root, of_other_stores=of_other_stores)
        except InputError:
            raise
        except Exception as error:  # whatever a store raises
            problem = "cannot be told all; what it was told stays"
            found = outage.reason(error)
            raise InputError(f"MLflow at {outage.address()}", problem, found=found) from error


def track_if_possible(root: Path) -> None:
    """As `track`; what hinders it is one line, and other work goes on."""
    try:
        track(root)
    except InputError as error:
        sys.stderr.write(f"not tracked: {error}\n")


def _track(client: "MlflowClient", root: Path, *, of_other_stores: bool) -> Tracked:
    cache = cache_folder(root)
    find_model = partial(_find_model, root, cache)
    replayed = replay_journals(client, find_model, of_other_stores=of_other_stores)
    for line in replayed.failed:
        sys.stderr.write(f"not tracked: {line}\n")
    past = list(read_past(root, cache))
    trainings = [describe_training(one, root) for one in past]
    # What has a journal here is sent to the store that it was meant for.
    elsewhere = [one for one in trainings if not _has_journal(one)]
    made = make_missing_runs(client, elsewhere, find_model)
    evaluated = 0
    for one in past:
        with evaluation_of(one, root=root, cache=cache) as result:
            evaluated += send_evaluation(client, result) if result else 0
    runs = list(all_runs(client, deleted_too=True))
    attach_final_locks(client, trainings, runs)
    groups = update_groups(client, runs)
    return Tracked(replayed.sent, made, evaluated, groups, replayed.without_model)


def _has_journal(past: Training) -> bool:
    """Whether this machine made the model, and not only began to."""
    return any(one.model == past.model for one in read(journal_path(past.id)))


@contextmanager
def _find_model(root: Path, cache: Path, facts: ModelFacts) -> Iterator[Path | None]:
    """The folder of a model: the one in its place, else a copy of DVC's."""
    if (root / _MODEL).is_dir() and folder_md5(root / _MODEL) == facts.md5:
        yield root / _MODEL
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, _MODEL.name)
        yield folder if copy_out(cache, facts.md5, folder) else None
