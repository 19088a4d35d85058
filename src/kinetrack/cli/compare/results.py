"""Results on the same test clips: of runs in MLflow, of registered models, of files."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from kinetrack.errors import InputError
from kinetrack.tracking.groups import GROUP, KIND_TAG, REPEATED_PARAMS
from kinetrack.tracking.records import (
    RunRecord,
    find_children,
    find_record,
    read_artifact,
    refuse_run,
)
from kinetrack.tracking.registry import find_model_version, find_run_or_hint
from kinetrack.using.comparison import (
    JudgedClip,
    are_grouped,
    differing_clips,
    parse_predictions,
    with_groups,
)

FILE_SUFFIX = ".csv"
_PREDICTIONS = "evaluation/predictions.csv"
_REGISTERED = re.compile(r"models:/(?P<name>[^/:@]+)(?:@(?P<alias>[\w-]+)|/(?P<number>\d{1,9}))")
_EVALUATE = (
    "bring its model back (its commit, or dvc exp apply), dvc repro evaluate, kinetrack track"
)
# Folds test other clips each; whatever else is drawn anew, tests the same ones again.
_FOLD = "split.fold"
_DRAWN = tuple(name for name in REPEATED_PARAMS if name != _FOLD)


class Part(NamedTuple):
    """One run of a group."""

    run_id: str
    fold: str
    repetition: str
    """What was drawn anew, as `train.seed 1`; empty where that is the same in all runs."""
    clips: list[JudgedClip]


class Result(NamedTuple):
    """A result on test clips: of a run, of a group of runs, or of a file."""

    name: str
    clips: list[JudgedClip]
    record: RunRecord | None = None
    """None for a file."""
    parts: tuple[Part, ...] = ()
    """The runs of a group."""


def read_results(names: Sequence[str]) -> list[Result]:
    """Read what models said of the same test clips.

    Groups that one result does not know are taken over from another one.

    Args:
        names: runs as `find_record` takes them, groups of repetitions among them, of which all
            tests count; `models:/NAME@ALIAS` or `models:/NAME/VERSION` for
            the run of a registered model; files by their suffix `.csv`.

    Raises:
        InputError: no such run, one without an evaluation, a damaged file, other test clips than
            those of another one; MLflow does not answer.
    """
    results = [_read(name) for name in names]
    for earlier, later in combinations(results, 2):  # the first one need not know groups
        _require_same_clips(earlier, later)
    return _share_groups(results)


def _read(run: str) -> Result:
    if run.endswith(FILE_SUFFIX):
        return _read_file(Path(run))
    record = _find_run(run)
    name = f"{record.name} ({record.run_id[:8]})"
    if record.tags.get(KIND_TAG) == GROUP:
        parts = _read_parts(record)
        return Result(name, sorted(one for part in parts for one in part.clips), record, parts)
    clips = _read_predictions(record)
    if clips is None:
        problem = f"was not evaluated: MLflow has no {_PREDICTIONS} of it"
        raise refuse_run(record, problem, f"status {record.status.lower()}", remedy=_EVALUATE)
    return Result(name, clips, record)


def _read_parts(group: RunRecord) -> tuple[Part, ...]:
    """Read what the runs of a group said; a training that was made twice counts once."""
    runs = find_children(group)
    varied = [name for name in _DRAWN if len({run.params.get(name) for run in runs}) > 1]
    tested: dict[tuple[str, ...], tuple[RunRecord, list[JudgedClip]]] = {}
    for run in reversed(runs):  # made twice, the later one need not have been evaluated yet
        drawn = _drawn(run, REPEATED_PARAMS)
        if drawn not in tested and (clips := _read_predictions(run)) is not None:
            tested[drawn] = run, clips
    if not tested:
        raise refuse_run(group, "is a group of runs of which none was evaluated", remedy=_EVALUATE)
    parts = tuple(_to_part(run, varied, clips) for run, clips in reversed(tested.values()))
    names = Counter(one.key for part in parts for one in part.clips)
    if twice := [key for key, count in names.items() if count > 1]:
        problem = "is a group of which two runs tested one clip"
        raise refuse_run(group, problem, "/".join(twice[0][:2]), remedy="name single runs")
    return parts


def _drawn(run: RunRecord, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(run.params.get(name, "") for name in names)


def _to_part(run: RunRecord, varied: Sequence[str], clips: Sequence[JudgedClip]) -> Part:
    values = zip(varied, _drawn(run, varied), strict=True)
    repetition = ", ".join(f"{name} {value}" for name, value in values)
    named = [one._replace(repetition=repetition) for one in clips]
    return Part(run.run_id, run.params.get(_FOLD, ""), repetition, named)


def _read_predictions(record: RunRecord) -> list[JudgedClip] | None:
    content = read_artifact(record, _PREDICTIONS)
    if content is None:
        return None
    try:
        return parse_predictions(content)
    except ValueError as error:
        problem = f"its {_PREDICTIONS} cannot be read"
        raise refuse_run(record, problem, error, remedy=_EVALUATE) from None


def _read_file(path: Path) -> Result:
    # Named from the project's folder, as the commands that the text tells.
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    if not path.is_file():  # a pipe would block
        problem = "is no regular file" if path.exists() else "does not exist"
        raise InputError(shown, problem, remedy="dvc repro evaluate makes reports/evaluate")
    try:
        return Result(str(shown), parse_predictions(path.read_bytes()))
    except OSError as error:
        raise InputError(shown, "cannot be read", found=error.strerror) from None
    except ValueError as error:
        raise InputError(shown, "is no table of predictions", found=error) from None


def _find_run(run: str) -> RunRecord:
    registered = _REGISTERED.fullmatch(run)
    if registered is None:
        return find_run_or_hint(run)
    version = find_model_version(
        registered["name"], registered["alias"] or int(registered["number"])
    )
    if not version.run_id:
        raise InputError(str(version), "does not say which run made it", remedy="name a run")
    return find_record(version.run_id)


def count_clips(clips: Sequence[JudgedClip]) -> int:
    """How many clips there are; one may have been tested several times."""
    return len({(one.label, one.clip) for one in clips})


def _require_same_clips(first: Result, other: Result) -> None:
    differing = differing_clips(first.clips, other.clips)
    if differing:
        clips = {one.key for one in (*first.clips, *other.clips)}
        raise InputError(
            other.name,
            f"was tested on other clips than {first.name}",
            found=f"{len(differing)} of {len(clips)} differ, as {differing[0]}",
            expected="the same names, classes and groups",
            remedy="train and evaluate both on one split",
        )


def _share_groups(results: list[Result]) -> list[Result]:
    """Give all results the groups that one of them knows: the clips are the same."""
    known = next((one.clips for one in results if are_grouped(one.clips)), None)
    if known is None:
        return results
    return [one._replace(clips=with_groups(one.clips, known)) for one in results]
