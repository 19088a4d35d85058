"""A trained model by its folder, its run or its name in the registry."""

import os
from pathlib import Path

from kinetrack.errors import InputError
from kinetrack.tracking.fetching import fetch_model
from kinetrack.tracking.registry import find_run_or_hint
from kinetrack.using.inference import Recogniser, load_recogniser
from kinetrack.using.scratch import scratch_folder

_PRESENT = "data/model"
_NO_MODEL = "make repro trains one, dvc pull fetches one; or name a run"


def load(model: str | os.PathLike[str] = _PRESENT) -> Recogniser:
    """Load a trained model: `kinetrack.load("data/model").predict("clip.mp4")`.

    Args:
        model: a model folder; or of MLflow a run (its id or the beginning of it, its name, its
            experiment in DVC), `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        InputError: there is none, or not a whole one.
    """
    folder = Path(model)
    if folder.is_dir():
        return load_recogniser(folder)
    address = os.fspath(model)
    if not address.startswith(("models:", "run:", "runs:")):
        if "/" in address:
            raise InputError(address, "is no model folder", remedy=_NO_MODEL)
        address = f"run:{find_run_or_hint(address).run_id}"
    with scratch_folder() as scratch:
        fetched = scratch / "model"
        fetch_model(address, fetched)
        return load_recogniser(fetched)
