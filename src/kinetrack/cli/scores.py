"""The test result of a run, as a model version keeps it: figures, their interval, which clips."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.errors import InputError
from kinetrack.tables import read_csv
from kinetrack.tracking.records import RunRecord, read_artifact, refuse_run
from kinetrack.using.intervals import group_interval
from kinetrack.versioning.cache import cache_folder, folder_listing, object_path

ACCURACY = "test/accuracy"
_PREDICTIONS = "evaluation/predictions.csv"
_COLUMNS = ("clip", "actual", "predicted")
_REMEDY = "bring its model back (its commit, or dvc exp apply), dvc repro evaluate, kinetrack track"
_DIGITS = 6
# By these, names of clips are contents of clips: the first is of the frames of all sides.
_CONTENT_TAGS = ("data.split_md5", "data.videos_md5")
_METRICS, _INTERVAL, _CLIPS, _GROUPS, _CLIPS_SHA256 = (
    f"test.{name}" for name in ("metrics", "interval", "clips", "groups", "clips_sha256")
)
# What tags that a person wrote lead to.
_NO_SCORE = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


class Score(NamedTuple):
    """A result on test clips."""

    metrics: dict[str, float]
    """By MLflow's names, as `test/accuracy`."""
    num_clips: int
    clips_sha256: str
    """Of the names and classes of the clips."""
    num_groups: int | None = None
    """None where it is not known which clip is of which group; then there is no interval."""
    interval: tuple[float, float] | None = None
    """Of the accuracy, 95 %."""

    def describe(self, metric: str = ACCURACY) -> str:
        """Tell a figure with its interval, and what it is of."""
        text = f"{metric} {self.metrics.get(metric, math.nan):.4f}"
        if metric == ACCURACY and self.interval:
            text += f" ({self.interval[0]:.3f}-{self.interval[1]:.3f})"
        groups = f" in {self.num_groups} group{'s' * (self.num_groups != 1)}"
        return f"{text} on {self.num_clips} clips" + (groups if self.num_groups else "")


def to_tags(score: Score) -> dict[str, str]:
    """Write a score as tags of a model version."""
    known = {
        _METRICS: json.dumps(score.metrics, sort_keys=True),
        _CLIPS: str(score.num_clips),
        _CLIPS_SHA256: score.clips_sha256,
    }
    if score.num_groups and score.interval:
        bounds = [round(bound, 6) for bound in score.interval]
        known |= {_GROUPS: str(score.num_groups), _INTERVAL: json.dumps(bounds)}
    return known


def from_tags(tags: Mapping[str, str]) -> Score | None:
    """Read a score; None where there is none, as in a version that was made by hand."""
    try:
        read = {str(name): float(x) for name, x in json.loads(tags[_METRICS]).items()}
        metrics = {name: round(value, _DIGITS) for name, value in read.items()}
        if not all(map(math.isfinite, metrics.values())):
            return None
        score = Score(metrics, int(tags[_CLIPS]), tags[_CLIPS_SHA256])
        if _INTERVAL not in tags:
            return score
        low, high = (float(bound) for bound in json.loads(tags[_INTERVAL]))
        return score._replace(num_groups=int(tags[_GROUPS]), interval=(low, high))
    except _NO_SCORE:
        return None


def read_score(record: RunRecord, *, root: Path) -> Score:
    """Read the test result of a run from MLflow, and find how far it can be trusted.

    Raises:
        InputError: the run was not evaluated, its predictions are damaged or of another result,
            or the store does not answer.
    """
    rows = _read_predictions(record)
    are_right = [row["actual"] == row["predicted"] for row in rows]
    metrics = {
        # As in reports: a run that watched its test side has the same figure with more digits.
        name: round(value, _DIGITS)
        for name, value in sorted(record.metrics.items())
        if name.startswith("test/") and math.isfinite(value)
    }
    accuracy = sum(are_right) / len(rows)
    # Reports are rounded.
    if not math.isclose(metrics.get(ACCURACY, math.nan), accuracy, abs_tol=1e-5):
        problem = f"its {ACCURACY} is not that of its {_PREDICTIONS}"
        raise _refuse(record, problem, metrics.get(ACCURACY), accuracy)
    names = sorted(f"{row['actual']}/{row['clip']}" for row in rows)
    sha256 = hashlib.sha256("\0".join(names).encode()).hexdigest()
    score = Score(metrics, len(rows), sha256)
    groups = _find_groups(rows, record, root)
    if groups is None:
        return score
    interval = group_interval(are_right, groups)
    return score._replace(num_groups=len(set(groups)), interval=interval)


def are_same_clips(
    score: Score, tags: Mapping[str, str], other: Score, other_tags: Mapping[str, str]
) -> bool:
    """Whether two results are of the same test clips, so that they can be compared.

    The same split need not have the same test clips: those too short for a window may be dropped.
    And two splits may have the same ones, with other clips for training or validation.
    """
    is_same_data = any(
        name in tags and tags[name] == other_tags.get(name) for name in _CONTENT_TAGS
    )
    return is_same_data and score.clips_sha256 == other.clips_sha256


def _read_predictions(record: RunRecord) -> list[dict[str, str]]:
    content = read_artifact(record, _PREDICTIONS)
    if content is None:
        problem = f"was not evaluated: MLflow has no {_PREDICTIONS} of it"
        raise _refuse(record, problem, f"status {record.status}")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refuse(record, f"its {_PREDICTIONS} cannot be read", error) from None
    if not rows or any(row.get(name) is None for row in rows for name in _COLUMNS):
        expected = f"rows of {', '.join(_COLUMNS)}"
        raise _refuse(record, f"its {_PREDICTIONS} cannot be read", None, expected)
    return rows


def _find_groups(
    rows: Sequence[Mapping[str, str]], record: RunRecord, root: Path
) -> list[str] | None:
    """The group of each row: as it says, else as the index of the tensors in DVC's cache says."""
    if all(row.get("group") for row in rows):
        return [row["group"] for row in rows]
    index = _find_index(record.tags.get("data.tensors_md5", ""), root)
    listed = read_csv(index) if index else []
    groups = {(row.get("label"), row.get("clip")): row.get("group") for row in listed}
    found = [groups.get((row["actual"], row["clip"])) for row in rows]
    known = [group for group in found if group]
    return known if len(known) == len(rows) else None


def _find_index(tensors_md5: str, root: Path) -> Path | None:
    try:
        cache = cache_folder(root)
    except InputError:  # the interval is worth having, and no more
        return None
    md5 = (folder_listing(cache, tensors_md5) or {}).get("index.csv", "")
    path = object_path(cache, md5)
    return path if md5 and path.is_file() else None


def _refuse(
    record: RunRecord, problem: str, found: object = None, expected: object = None
) -> InputError:
    return refuse_run(record, problem, found, expected, remedy=_REMEDY)
