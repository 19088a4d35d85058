"""What the pipeline's reports say of the model in its place."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.versioning.lock import folder_md5, locked_stage

MODEL = "data/model"
HISTORY = "reports/train/history.csv"
EVALUATION = "reports/evaluate"
_METRICS = f"{EVALUATION}/metrics.json"
_TENSORS = "data/tensors/"
_STAGES = ("sample", "frames", "split", "tensors", "train", "evaluate")
_REMEDY = "make repro"


class Locked(NamedTuple):
    """What DVC recorded of the evaluation and all before it."""

    dataset: str
    tensors_md5: str
    params: dict[str, Any]
    """By section."""


def read_table(path: Path, columns: set[str]) -> list[dict[str, str]]:
    """Read a report that has these columns, and perhaps others.

    Raises:
        InputError: it is missing, damaged, or another table.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, "cannot be read", found=error, remedy=_REMEDY) from None
    return parse_table(content, columns, place=path, remedy=_REMEDY)


def parse_table(
    content: bytes, columns: set[str], *, place: Path | str, remedy: str
) -> list[dict[str, str]]:
    """Parse a table that has these columns, and perhaps others; one mapping a row.

    Args:
        place: for the message.

    Raises:
        InputError: it is damaged, or another table.
    """
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = list(csv.DictReader(text, restkey="(beyond the last)"))
    except (ValueError, csv.Error) as error:
        raise InputError(place, "cannot be read", found=error, remedy=remedy) from None
    if not rows or not columns <= set(rows[0]):
        expected = ", ".join(sorted(columns))
        raise InputError(place, "is no such table", expected=expected, remedy=remedy)
    return rows


def read_metrics(root: Path) -> dict[str, float]:
    """Read the figures of the evaluation.

    Raises:
        InputError: they are missing or damaged.
    """
    path = root / _METRICS
    try:
        metrics: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "cannot be read", found=error, remedy=_REMEDY) from None
    return metrics


def read_lock(root: Path) -> Locked:
    """Read what made the reports, which must be of the model that lies in its place.

    Raises:
        InputError: the model was not evaluated, a report is not as DVC recorded it, or a stage
            before was run again since: its params and files are of another model.
    """
    train, evaluate = (locked_stage(name, root=root) for name in ("train", "evaluate"))
    deps = _md5s(evaluate, "deps")
    if MODEL not in deps:
        raise InputError(root / EVALUATION, "is of no model yet", remedy=_REMEDY)
    recorded = {**_md5s(train, "outs"), **_md5s(evaluate, "outs"), MODEL: deps[MODEL]}
    for path, md5 in recorded.items():
        if _md5_here(root / path) != md5:
            problem = "is not what the evaluation recorded"
            raise InputError(root / path, problem, remedy="dvc repro evaluate, or dvc checkout")
    _require_in_step(root)
    dataset = locked_dataset(root)
    return Locked(dataset, deps.get(f"{_TENSORS}{dataset}", ""), locked_params(root))


def locked_dataset(root: Path) -> str:
    """Return the data set of the evaluation that DVC recorded; empty where there is none."""
    deps = _md5s(locked_stage("evaluate", root=root), "deps")
    return next((path.removeprefix(_TENSORS) for path in deps if path.startswith(_TENSORS)), "")


def locked_params(root: Path) -> dict[str, Any]:
    """Return the params by section with which DVC ran the stages."""
    return dict(_sections(root))


def _require_in_step(root: Path) -> None:
    """Refuse a lock in which a stage read other data than the stage before it has made since."""
    stages = [locked_stage(name, root=root) for name in _STAGES]
    made = {path: md5 for stage in stages for path, md5 in _md5s(stage, "outs").items()}
    read = [pair for stage in stages for pair in _md5s(stage, "deps").items()]
    for path, md5 in read:
        if not path.startswith("data/"):  # code
            continue
        # Of a folder a stage may read one file; what is not here was not mixed up either.
        now = made.get(path) or _md5_of_file(root / path) or md5
        if now != md5:
            problem = "was made anew since the model was evaluated"
            raise InputError(root / path, problem, remedy="dvc repro")


def _md5_of_file(path: Path) -> str:
    return file_md5(path) if path.is_file() else ""


def _md5s(stage: dict[str, Any], kind: str) -> dict[str, str]:
    return {entry["path"]: str(entry["md5"]) for entry in stage.get(kind, ()) if "md5" in entry}


def _md5_here(path: Path) -> str:
    return folder_md5(path) if path.is_dir() else _md5_of_file(path)


def _sections(root: Path) -> Iterator[tuple[str, Any]]:
    """The params of every stage; of single keys of a section, its owner has the whole."""
    for name in _STAGES:
        params = locked_stage(name, root=root).get("params", {}).get("params.yaml", {})
        yield from ((key, value) for key, value in params.items() if "." not in key)
