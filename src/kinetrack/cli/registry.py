"""`kinetrack promote`: a run's model under a name, and the alias to that which is better."""

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.cli.models import LABELS_TAG, read_labels
from kinetrack.cli.scores import ACCURACY, Score, are_same_clips, from_tags, read_score, to_tags
from kinetrack.errors import InputError, printable
from kinetrack.files import write_alone
from kinetrack.learning.checkpoint import ModelCard, load_model, read_card, read_trained_on
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.records import RunRecord, find_latest_of_model, find_record, refuse_run
from kinetrack.tracking.registry import (
    ModelVersion,
    list_model_versions,
    register_model,
    require_alias,
    require_name,
    set_alias,
)
from kinetrack.using.model_card import inert

_LOCK = Path(".kinetrack/promote")
_MODEL = Path("data/model")
# Of the run, kept by a version since a run may be deleted.
_RUN_TAGS = (
    "git.commit",
    "git.dirty",
    "data.videos_md5",
    "data.split_md5",
    "data.tensors_md5",
    "model_sha256",
    "model_md5",
)
_MOST_LABELS = 40
_UNKNOWN = "?"


class _Candidate(NamedTuple):
    """A run whose model is to be promoted, and all that its version will say."""

    record: RunRecord
    card: ModelCard
    size: int
    score: Score

    def to_tags(self) -> dict[str, str]:
        clip = self.card.clip
        run = {name: self.record.tags[name] for name in _RUN_TAGS if name in self.record.tags}
        return {
            **run,
            **to_tags(self.score),
            "dataset": self.record.params.get("dataset", _UNKNOWN),
            "run.name": self.record.name,
            LABELS_TAG: json.dumps(self.card.labels, ensure_ascii=False),
            "model.name": self.card.model,
            "model.input": f"{clip.num_frames} x {clip.size_px} x {clip.size_px}, "
            f"{self.card.input.kind}",
            "model.parameters": str(self.card.parameters),
            "model.bytes": str(self.size),
        }


class Promotion(NamedTuple):
    """What was done with a run's model, or would be."""

    name: str
    alias: str
    metric: str
    candidate: _Candidate
    version: ModelVersion | None
    """None where nothing was done."""
    before: ModelVersion | None
    """The one that had the alias, if it is of another run."""

    def describe(self) -> str:
        """Lines for people."""
        record, score = self.candidate.record, self.candidate.score
        what = f"{self.version} is {self.alias}"
        if self.version is None:
            what = f"{self.name} would have a new {self.alias}"
        lines = [f"promote: {what}: run {record.name} ({record.run_id})"]
        lines.append(f"  {score.describe(self.metric)}")
        if self.before:
            earlier = from_tags(self.before.tags)
            told = f": {earlier.describe(self.metric)}" if earlier else ""
            lines.append(f"  before: {self.before}{told}")
        return "\n".join(printable(line) for line in lines)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        earlier = from_tags(self.before.tags) if self.before else None
        return {
            "name": self.name,
            "version": self.version.version if self.version else None,
            "alias": self.alias,
            "run_id": self.candidate.record.run_id,
            "is_done": self.version is not None,
            "metric": self.metric,
            "value": self.candidate.score.metrics[self.metric],
            "interval": self.candidate.score.interval if self.metric == ACCURACY else None,
            "before": {
                "version": self.before.version,
                "run_id": self.before.run_id,
                "value": earlier.metrics.get(self.metric) if earlier else None,
            }
            if self.before
            else None,
        }


def promote(
    run: str | None,
    *,
    alias: str,
    root: Path,
    name: str | None = None,
    metric: str = ACCURACY,
    force: bool = False,
    dry_run: bool = False,
) -> Promotion:
    """Register the model of a run and give it an alias, if it is better than the present one.

    Better: strictly, by a metric on the same test clips. A model is registered once, whatever
    aliases it gets. An interrupted promotion is completed by the same command.

    Args:
        run: None: the newest one that made the model in its place here.
        name: of the registered model; None: that of the data set.
        force: without a comparison.
        dry_run: change nothing.

    Raises:
        InputError: no such run, one without a finished, evaluated and whole model; one that is not
            better or cannot be compared; MLflow does not answer.
    """
    require_alias(alias)
    record = _find_present(root) if run is None else find_record(run)
    _require_promotable(record, metric)
    name = name or record.params.get("dataset", "")
    require_name(name)
    candidate = _read_candidate(record, root)
    # Two at once would both compare with the same one, and the worse might be the last.
    with write_alone(root / _LOCK):
        versions = [version for version in list_model_versions() if version.name == name]
        present = next((version for version in versions if alias in version.aliases), None)
        if not force:
            _require_same_labels(candidate, versions)
            _require_better(candidate, present, alias=alias, metric=metric)
        before = present if present and present.run_id != record.run_id else None
        done = Promotion(name, alias, metric, candidate, None, before)
        if dry_run:
            return done
        tags, description = candidate.to_tags(), _describe(candidate)
        version = register_model(record.run_id, name, tags=tags, description=description)
        set_alias(version, alias)
    return done._replace(version=version)


def _find_present(root: Path) -> RunRecord:
    weights = read_card(root / _MODEL).weights_sha256
    record = find_latest_of_model(weights)
    if record is None:
        raise InputError(_MODEL, "no finished run in MLflow made it", remedy="kinetrack track")
    return record


def _require_promotable(record: RunRecord, metric: str) -> None:
    """Check what can be seen without its files."""
    if record.tags.get("kind") == "group":
        raise refuse_run(record, "is a group of runs", remedy="name one of them")
    if record.status != "FINISHED" or "model_sha256" not in record.tags:
        found = f"status {record.status.lower()}"
        raise refuse_run(record, "has no finished model", found, "a finished training")
    results = {name for name in record.metrics if name.startswith("test/")}
    known = sorted(results - {"test/num_clips"})
    if not known:
        remedy = "bring its model back (its commit, or dvc exp apply), then dvc repro evaluate"
        raise refuse_run(record, "was not evaluated: it has no test result", remedy=remedy)
    if metric not in known:
        raise refuse_run(record, f"has no metric {metric}", None, f"one of {', '.join(known)}")
    if not math.isfinite(record.metrics[metric]):
        raise refuse_run(record, f"its {metric} is no number", record.metrics[metric])


def _read_candidate(record: RunRecord, root: Path) -> _Candidate:
    """Read the model from MLflow, whole and checked: what is promoted can be fetched and loaded."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        fetch_model(f"run:{record.run_id}", folder)
        _, card = load_model(folder)
        read_trained_on(folder, card)
        size = sum(path.stat().st_size for path in folder.iterdir())
    recorded = record.tags["model_sha256"]
    if card.weights_sha256 != recorded:
        problem = "its model in MLflow is not the one that it made"
        raise refuse_run(record, problem, f"sha256 {card.weights_sha256}", f"sha256 {recorded}")
    return _Candidate(record, card, size, read_score(record, root=root))


def _require_same_labels(candidate: _Candidate, versions: Sequence[ModelVersion]) -> None:
    """Refuse another kind of recogniser under a name: who uses it by name relies on its classes."""
    known = [(one, labels) for one in versions if (labels := read_labels(one.tags)) is not None]
    if known and known[-1][1] != candidate.card.labels:
        version, labels = known[-1]
        raise refuse_run(
            candidate.record,
            f"tells other classes apart than {version}",
            _name_some(candidate.card.labels, most=5),
            _name_some(labels, most=5),
            remedy="give it a --name of its own, or --force",
        )


def _require_better(
    candidate: _Candidate, present: ModelVersion | None, *, alias: str, metric: str
) -> None:
    """Compare with the version that has the alias now, if another one has it."""
    if present is None or present.run_id == candidate.record.run_id:
        return
    other, new = from_tags(present.tags), candidate.score
    force = f"--force makes it {alias} all the same"
    if other is None or metric not in other.metrics:
        problem = f"cannot be compared: {present}, which is {alias}, has no recorded {metric}"
        raise refuse_run(candidate.record, problem, new.describe(metric), remedy=force)
    figures = (new.describe(metric), f"more than {other.describe(metric)}")
    if not are_same_clips(new, candidate.record.tags, other, present.tags):
        problem = f"cannot be compared: it was tested on other clips than {present}, now {alias}"
        remedy = f"train and evaluate both on one split; {force}"
        raise refuse_run(candidate.record, problem, *figures, remedy=remedy)
    if not _is_better(new.metrics[metric], other.metrics[metric], metric):
        expected = figures[1].replace("more", "less", 1) if _is_cost(metric) else figures[1]
        problem = f"is not better than {present}, which is {alias}"
        raise refuse_run(candidate.record, problem, figures[0], expected, remedy=force)


def _is_cost(metric: str) -> bool:
    """Whether less is better."""
    return metric.endswith(("loss", "error"))


def _is_better(new: float, present: float, metric: str) -> bool:
    return new < present if _is_cost(metric) else new > present


def _describe(candidate: _Candidate) -> str:
    """What the page of a version shows, in Markdown."""
    record, card, tags = candidate.record, candidate.card, candidate.to_tags()
    changed = " with uncommitted changes" if tags.get("git.dirty") == "true" else ""
    classes = inert(_name_some(card.labels, most=_MOST_LABELS))
    facts = {
        "Test": candidate.score.describe(),
        "Classes": f"{len(card.labels)}: {classes}",
        "Network": f"{card.model}, {card.parameters} parameters, {candidate.size} bytes",
        "Input": f"{tags['model.input']} (frames, height, width)",
        "Data set": inert(tags["dataset"]),
        "Run": inert(f"{record.name}, {record.run_id}"),
        "Commit": inert(tags.get("git.commit", _UNKNOWN)) + changed,
        "Model, by DVC's MD5": inert(tags.get("model_md5", _UNKNOWN)),
        "Split, by DVC's MD5": inert(tags.get("data.split_md5", _UNKNOWN)),
        "Videos, by DVC's MD5": inert(tags.get("data.videos_md5", _UNKNOWN)),
    }
    return "\n".join(f"- **{name}:** {fact}" for name, fact in facts.items())


def _name_some(labels: Sequence[str], *, most: int) -> str:
    more = [f"... ({len(labels)})"] if len(labels) > most else []
    return ", ".join([*labels[:most], *more])
