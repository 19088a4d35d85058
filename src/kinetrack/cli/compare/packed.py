"""The packed test clips of this project, for pictures of what runs were tested on."""

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from kinetrack.data.sampling import ClipGeometry
from kinetrack.data.tensors import read_sides
from kinetrack.errors import InputError
from kinetrack.using.pages.comparison import PackedClips
from kinetrack.versioning.lock import locked_inputs, locked_stage

_SPLIT = "data/splits/split.json"
_TENSORS = "data/tensors/"


def find_packed_clips(root: Path, split_md5s: Collection[str]) -> PackedClips | None:
    """Find the packed test clips, if they are of one of these splits: names alone are no proof."""
    # What they were packed by: a later split may lie beside them.
    if locked_inputs("tensors", root=root).get(_SPLIT) not in split_md5s:
        return None
    stage = locked_stage("tensors", root=root)
    paths = [str(entry["path"]) for entry in stage.get("outs", ())]
    folder = next((path for path in paths if path.startswith(_TENSORS)), None)
    if folder is None:
        return None
    try:
        geometry = ClipGeometry.model_validate(stage["params"]["params.yaml"]["pack"])
        return PackedClips(read_sides(root / folder)["test"], geometry)
    except (InputError, KeyError, ValidationError):  # not pulled, or packed by another version
        return None
