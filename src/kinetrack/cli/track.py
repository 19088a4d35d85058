"""`kinetrack track`: give MLflow what a skipped stage could not.

A training that makes the same model again (in a fresh clone, or by `dvc repro -f train`) is a new
run, but DVC has no reason to evaluate that model again.
"""

import json
from pathlib import Path

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import read_card
from kinetrack.stages.evaluate import Evaluation, add_to_runs
from kinetrack.versioning.lock import folder_md5, locked_inputs

_MODEL = Path("data/model")
_REPORTS = Path("reports/evaluate")


def track(root: Path) -> str:
    """Add the evaluation in `reports/` to every run of its model; return one line.

    Raises:
        InputError: there is no evaluation of the model that is in `data/model`.
    """
    card = read_card(root / _MODEL)
    inputs = locked_inputs("evaluate", root=root)
    evaluated = inputs.get(_MODEL.as_posix())
    path = root / _REPORTS / "metrics.json"
    if evaluated != folder_md5(root / _MODEL):
        raise InputError(path, "is not of the model in data/model", remedy="dvc repro")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "cannot be read", found=error, remedy="dvc repro") from None
    tensors_md5 = next(
        (md5 for name, md5 in inputs.items() if name.startswith("data/tensors/")), None
    )
    runs = add_to_runs(Evaluation(card, metrics), root / _REPORTS, tensors_md5=tensors_md5)
    if runs == 0:
        return "track: this MLflow store has no run of this model"
    return f"track: MLflow runs of this model: {runs}, all with its test result"
