"""`kinetrack track`: MLflow brought to what the files of this project say.

What an outage kept from MLflow, what DVC took from its run cache, and what a colleague committed
or pushed as an experiment has files here, but no run.
"""

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kinetrack.data.index import INDEX_NAME, SIDES
from kinetrack.errors import InputError
from kinetrack.files import file_md5, write_alone
from kinetrack.learning.checkpoint import CARD_NAME, ModelCard, read_card
from kinetrack.stages.evaluate import describe_result
from kinetrack.stages.train_run import describe_model, hash_code, name_run
from kinetrack.tracking import outage
from kinetrack.tracking.evaluations import send_evaluation
from kinetrack.tracking.groups import update_groups
from kinetrack.tracking.journal import LoggedEpoch, ModelFacts, Training, journal_path, read
from kinetrack.tracking.lineage import git_facts
from kinetrack.tracking.paging import all_runs
from kinetrack.tracking.replay import (
    MADE_OF_TAG,
    attach_final_locks,
    make_missing_runs,
    replay_journals,
)
from kinetrack.tracking.runs import flatten
from kinetrack.tracking.store import open_store, quiet
from kinetrack.versioning.cache import cache_folder, copy_out, folder_listing, object_path
from kinetrack.versioning.history import Origin, PastTraining, list_past_trainings
from kinetrack.versioning.lock import folder_md5

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MODEL = Path("data/model")
_REPORTS = "reports/evaluate/"
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


class _Past(NamedTuple):
    """A training of the past, and the card of its model."""

    training: PastTraining
    card: ModelCard


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

    @contextmanager
    def find_model(facts: ModelFacts) -> Iterator[Path | None]:
        with _find_model(root, cache, facts.md5) as folder:
            yield folder

    replayed = replay_journals(client, find_model, of_other_stores=of_other_stores)
    for line in replayed.failed:
        sys.stderr.write(f"not tracked: {line}\n")
    past = list(_read_past(root, cache))
    trainings = [_describe(one, root) for one in past]
    # What has a journal here is sent to the store that it was meant for.
    elsewhere = [one for one in trainings if not _has_journal(one)]
    made = make_missing_runs(client, elsewhere, find_model)
    evaluated = sum(
        _send_evaluation(client, one, root, cache) for one in past if one.training.is_evaluated
    )
    runs = list(all_runs(client, deleted_too=True))
    attach_final_locks(client, trainings, runs)
    groups = update_groups(client, runs)
    return Tracked(replayed.sent, made, evaluated, groups, replayed.without_model)


def _has_journal(past: Training) -> bool:
    """Whether this machine made the model, and not only began to."""
    return any(one.model == past.model for one in read(journal_path(past.id)))


@contextmanager
def _find_model(root: Path, cache: Path, md5: str) -> Iterator[Path | None]:
    """The model folder with this md5: the one in its place, else a copy of DVC's."""
    if (root / _MODEL).is_dir() and folder_md5(root / _MODEL) == md5:
        yield root / _MODEL
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, _MODEL.name)
        yield folder if copy_out(cache, md5, folder) else None


def _read_past(root: Path, cache: Path) -> Iterator[_Past]:
    for training in list_past_trainings(root, on_damaged=_tell_damaged):
        listing = folder_listing(cache, training.model_md5) or {}
        path = object_path(cache, listing.get(CARD_NAME, "0" * 32))
        try:
            yield _Past(training, _read_card(path))
        except InputError:  # another version's, which cannot be served
            continue


def _tell_damaged(origin: Origin, error: Exception) -> None:
    where = f"of commit {origin.commit}" if origin.commit else "of the workspace"
    sys.stderr.write(f"not tracked: dvc.lock {where}: {outage.reason(error)}\n")


def _read_card(path: Path) -> ModelCard:
    with tempfile.TemporaryDirectory() as scratch:
        if path.is_file():
            Path(scratch, CARD_NAME).write_bytes(path.read_bytes())
        return read_card(Path(scratch))


def _describe(past: _Past, root: Path) -> Training:
    """What MLflow shall show of a training that only its results tell of."""
    one, card = past.training, past.card
    origin = one.origin
    git = (
        {"git.commit": origin.commit, "git.dirty": "false"}
        if origin.commit
        else git_facts(root, environ=os.environ)
    )
    tags = {
        **git,
        "mlflow.source.git.commit": git["git.commit"],
        MADE_OF_TAG: "committed results" if origin.commit else "results in the workspace",
        "train_key": one.train_key,
        "model_sha256": card.weights_sha256,
        "model_md5": one.model_md5,
        "model.parameters": str(card.parameters),
        "model.gflop_per_clip": str(card.gflop_per_clip),
        "model.epoch": str(card.epoch),
        "code_sha256": hash_code(one.code),
        "data.videos_md5": one.inputs.get(f"data/videos/{one.dataset}", ""),
        "data.split_md5": one.inputs.get("data/splits/split.json", ""),
        "data.tensors_md5": one.tensors_md5,
        "dvc.commit": origin.commit,
        "dvc.exp_name": ", ".join(one.experiments),
        "dvc.exp_baseline_rev": origin.baseline,
    }
    params = {"dataset": one.dataset, **one.params}
    return Training(
        id=one.train_key,
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or one.dataset,
        name=name_run(params, tags, presets=root / "presets"),
        begun_ms=origin.time_ms,
        params=flatten(params),
        tags={name: value for name, value in tags.items() if value},
        files=_small_files(one),
        epochs=_read_epochs(one),
        model=describe_model(card, one.model_md5),
        status="FINISHED",
        ended_ms=origin.time_ms,
    )


def _small_files(one: PastTraining) -> dict[str, str]:
    return {
        path: content.decode("utf-8", "surrogateescape")
        for path, content in one.files.items()
        if "/" not in path
    }


def _read_epochs(one: PastTraining) -> dict[int, LoggedEpoch]:
    """The history of a training, of which only the order in time is known."""
    text = one.files.get("reports/train/history.csv", b"").decode("utf-8", "replace")
    epochs = {}
    for row in csv.DictReader(io.StringIO(text)):
        metrics = {
            f"{side}/{metric}": float(row[f"{side}_{metric}"])
            for side in SIDES
            for metric in ("loss", "accuracy")
            if row.get(f"{side}_{metric}", "nan") != "nan"
        }
        epochs[int(row["epoch"])] = LoggedEpoch(one.origin.time_ms, metrics)
    return epochs


def _send_evaluation(client: "MlflowClient", past: _Past, root: Path, cache: Path) -> int:
    files = {
        path.removeprefix(_REPORTS): content
        for path, content in past.training.files.items()
        if path.startswith(_REPORTS)
    }
    if not {"metrics.json", "confusion.csv"} <= set(files):
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        result = describe_result(
            json.loads(files["metrics.json"]),
            past.card,
            Path(scratch),
            tensors_md5=past.training.tensors_md5,
            tensors=None
            if past.training.origin.commit
            else _tensors_here(past.training, root, cache),
        )
        return send_evaluation(client, result)


def _tensors_here(training: PastTraining, root: Path, cache: Path) -> Path | None:
    """The packed clips in their place, if they are those of the training: for pictures.

    By their index, which has the md5 of each: hashing all of them would take minutes.
    """
    folder = root / "data/tensors" / training.dataset
    expected = (folder_listing(cache, training.tensors_md5) or {}).get(INDEX_NAME)
    index = folder / INDEX_NAME
    return folder if index.is_file() and file_md5(index) == expected else None
