"""What MLflow was not told: journals of this machine's trainings, and trainings of others."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kinetrack.files import is_being_written, write_alone
from kinetrack.tracking.journal import Journal, Training, read_all, spool_folder
from kinetrack.tracking.outage import place, reason
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.projection import FindModel, Projection, log_text
from kinetrack.tracking.store import DeletedExperimentError, find_if_any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LOCK = "dvc.lock"
_LOCK_TAG = "dvc.lock_md5"
# Only runs that no training on this machine made have it.
MADE_OF_TAG = "made_of"
_EXPERIMENT_OF_EVERY_STORE = "0"


class Replayed(NamedTuple):
    """What was sent, in runs."""

    sent: int
    without_model: int  # the model's files are not on this machine
    failed: tuple[str, ...] = ()
    """What hindered a training, though the store answers: one line each."""


def identify(client: "MlflowClient") -> str:
    """Name a store: a project's own one may be moved, and one that is made anew is another one."""
    experiment = find_if_any(client.get_experiment, _EXPERIMENT_OF_EVERY_STORE)
    return f"{place()} of {experiment.creation_time if experiment else 'unknown'}"


def replay_journals(
    client: "MlflowClient", find_model: FindModel, *, of_other_stores: bool = False
) -> Replayed:
    """Send what this store lacks of the trainings that the journals have.

    Only of those that were meant for it: who tries things out at home need not tell the team.

    A training without an end that is not at work now was killed, and is recorded as such.

    Args:
        of_other_stores: send those too that were meant for another store.

    Raises:
        Exception: whatever MLflow raises when it does not answer; the trainings before are sent.
    """
    store, sent, without_model = identify(client), 0, 0
    failed: list[str] = []
    for path, training in read_all(spool_folder()):
        alone = path.with_name(training.id)
        is_meant = of_other_stores or place() in training.places
        if not is_meant or training.is_sent(store) or is_being_written(alone):
            continue
        if training.lacks_only_model(store) and not _is_there(training, find_model):
            without_model += 1
            continue
        try:
            with write_alone(alone):
                has_model = _replay(client, Journal(path, training.id), store, find_model)
        except Exception as error:  # of this training, or of the store?
            identify(client)
            failed.append(f"{training.name} ({path.name}): {reason(error)}")
            continue
        sent += 1
        without_model += not has_model
    return Replayed(sent, without_model, tuple(failed))


def count_unsent(client: "MlflowClient") -> int:
    """Count the trainings of this machine that this store was to get and has not got all of.

    Those at work now, and those that only lack a model which may be elsewhere, do not count.
    """
    store = identify(client)
    return sum(
        place() in training.places
        and not training.is_sent(store)
        and not training.lacks_only_model(store)
        and not is_being_written(path.with_name(training.id))
        for path, training in read_all(spool_folder())
    )


def _is_there(training: Training, find_model: FindModel) -> bool:
    if training.model is None:
        return True
    with find_model(training.model) as folder:
        return folder is not None


def _replay(client: "MlflowClient", journal: Journal, store: str, find_model: FindModel) -> bool:
    assert journal.training
    if journal.training.status == "RUNNING":
        journal.end("KILLED")
    has_model = Projection(client).send(journal.training, find_model)
    journal.mark_sent(store, has_model=has_model)
    return has_model


def make_missing_runs(
    client: "MlflowClient", trainings: Iterable[Training], find_model: FindModel
) -> int:
    """Make runs of trainings that no run of this store is of; return how many were made.

    A run is of a training that has its train key, or made its model of the same tensors; so are
    those that were deleted in MLflow, but none that failed or was killed before it had a model.
    """
    known = {
        name
        for run in all_runs(client, deleted_too=True)
        if not _is_half_made(run) and not _is_given_up(run)
        for name in _names(run.data.tags)
    }
    made = 0
    for training in trainings:
        names = _names(training.tags)
        if known.isdisjoint(names):
            known.update(names)
            with suppress(DeletedExperimentError):
                Projection(client).send(training, find_model)
                made += 1
    return made


def _is_half_made(run: "Run") -> bool:
    """Whether the making of a run was interrupted; a training of this machine is no such run."""
    return MADE_OF_TAG in run.data.tags and run.info.status == "RUNNING"


def _is_given_up(run: "Run") -> bool:
    """Whether a training ended without a model: another machine may have made it since."""
    return run.info.status in ("FAILED", "KILLED") and "model_md5" not in run.data.tags


def _names(tags: dict[str, str]) -> set[tuple[str, ...]]:
    """Return by what a training is known."""
    names: set[tuple[str, ...]] = set()
    if "train_key" in tags:
        names.add((tags["train_key"],))
    if "model_md5" in tags and "data.tensors_md5" in tags:
        names.add((tags["model_md5"], tags["data.tensors_md5"]))
    return names


def _made_it(run: "Run", training: Training) -> bool:
    """Whether a run ended with the model that a training is known for."""
    made = run.data.tags.get("model_md5") == training.tags["model_md5"]
    return made and run.info.status == "FINISHED" and run.info.lifecycle_stage == "active"


def attach_final_locks(
    client: "MlflowClient", trainings: Iterable[Training], runs: Iterable["Run"]
) -> None:
    """Give runs the `dvc.lock` that DVC wrote after their training, and the commit that has it.

    A run whose result DVC took for an experiment too gets its name, unless it has one.
    """
    final = {training.tags["train_key"]: training for training in trainings}
    for run in runs:
        training = final.get(run.data.tags.get("train_key", ""))
        lock = training.files.get(_LOCK) if training else None
        if training is None or lock is None or not _made_it(run, training):
            continue
        tags = {_LOCK_TAG: hashlib.md5(lock.encode(), usedforsecurity=False).hexdigest()}
        for name in ("dvc.commit", "dvc.exp_name"):
            if name in training.tags and (name == "dvc.commit" or name not in run.data.tags):
                tags[name] = training.tags[name]
        if any(run.data.tags.get(name) != value for name, value in tags.items()):
            log_text(client, run.info.run_id, lock, _LOCK)
            for name, value in tags.items():
                client.set_tag(run.info.run_id, name, value)
