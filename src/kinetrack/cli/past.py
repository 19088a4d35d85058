"""Trainings of the past, as MLflow shall show them: made of what Git and DVC's cache have."""

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
from kinetrack.files import file_md5
from kinetrack.learning.checkpoint import CARD_NAME, ModelCard, read_card
from kinetrack.stages.evaluate import describe_result
from kinetrack.stages.train_run import describe_model, hash_code, name_run
from kinetrack.tracking import outage
from kinetrack.tracking.journal import LoggedEpoch, Training
from kinetrack.tracking.lineage import git_facts
from kinetrack.tracking.replay import MADE_OF_TAG
from kinetrack.tracking.runs import flatten
from kinetrack.versioning.cache import folder_listing, object_path
from kinetrack.versioning.commits import Origin
from kinetrack.versioning.history import PastTraining, list_past_trainings

if TYPE_CHECKING:
    from kinetrack.tracking.evaluations import Result

_REPORTS = "reports/evaluate/"


class Past(NamedTuple):
    """A training of the past, and the card of its model."""

    training: PastTraining
    card: ModelCard


def read_past(root: Path, cache: Path) -> Iterator[Past]:
    """Read what branches, tags, experiments and the workspace have the results of."""
    for training in list_past_trainings(root, on_damaged=_tell_damaged):
        listing = folder_listing(cache, training.model_md5) or {}
        path = object_path(cache, listing.get(CARD_NAME, "0" * 32))
        try:
            yield Past(training, _read_card(path))
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


def describe_training(past: Past, root: Path) -> Training:
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


@contextmanager
def evaluation_of(past: Past, *, root: Path, cache: Path) -> "Iterator[Result | None]":
    """Yield the test result that a training's reports have, its files in a scratch folder."""
    files = {
        path.removeprefix(_REPORTS): content
        for path, content in past.training.files.items()
        if path.startswith(_REPORTS)
    }
    if not past.training.is_evaluated or not {"metrics.json", "confusion.csv"} <= set(files):
        yield None
        return
    is_here = not past.training.origin.commit
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        yield describe_result(
            json.loads(files["metrics.json"]),
            past.card,
            Path(scratch),
            tensors_md5=past.training.tensors_md5,
            tensors=_tensors_here(past.training, root, cache) if is_here else None,
        )


def _tensors_here(training: PastTraining, root: Path, cache: Path) -> Path | None:
    """The packed clips in their place, if they are those of the training: for pictures.

    By their index, which has the md5 of each: hashing all of them would take minutes.
    """
    folder = root / "data/tensors" / training.dataset
    expected = (folder_listing(cache, training.tensors_md5) or {}).get(INDEX_NAME)
    index = folder / INDEX_NAME
    return folder if index.is_file() and file_md5(index) == expected else None
