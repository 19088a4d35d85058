"""Presets: complete params files that take the place of `params.yaml`."""

import re
from difflib import unified_diff
from pathlib import Path

from kinetrack.errors import InputError, printable
from kinetrack.files import write_text
from kinetrack.params import DATASET_PATTERN, PARAMS_FILE, load_params

PRESETS_FOLDER = Path("presets")
_DATASET_LINE = re.compile(r"^dataset:[ \t]*[^\s#]+", re.MULTILINE)


def apply_preset(
    name: str, *, root: Path, force: bool, keep_dataset: bool, dry_run: bool = False
) -> str:
    """Replace `params.yaml` by a preset; return one line on what was done.

    Args:
        force: also where edits are lost.
        keep_dataset: all but the data set is replaced.
        dry_run: change nothing; return a line for each line that would differ.

    Raises:
        InputError: no such preset, or a damaged one; or `params.yaml` has edits that would be lost.
    """
    presets = _read_presets(root)
    if name not in presets:
        raise InputError(root / PRESETS_FOLDER, f"no preset {name}", expected=", ".join(presets))
    text, path = presets[name], root / PARAMS_FILE
    load_params(root / PRESETS_FOLDER / f"{name}.yaml")  # before the one that works is replaced
    if path.exists() and not path.is_file():
        raise InputError(path, "is no regular file", remedy="remove it")
    if keep_dataset:
        text = set_dataset(text, load_params(path)["dataset"])
    if path.exists() and not force and not _would_lose_nothing(path, presets, keep_dataset):
        raise InputError(
            path,
            "was edited: it is none of the presets",
            remedy=f"commit or copy it, then: kinetrack preset {name} --force",
        )
    if dry_run:
        return _describe_changes(path, text, name)
    write_text(path, text)
    return f"{PARAMS_FILE} is preset {name} now, dataset {load_params(path)['dataset']}"


def _describe_changes(path: Path, text: str, name: str) -> str:
    old = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = unified_diff(
        old.splitlines(), text.splitlines(), PARAMS_FILE.name, f"preset {name}", n=0, lineterm=""
    )
    told = [printable(line) for line in lines if not line.startswith("@@")]
    return "\n".join(told) or f"{PARAMS_FILE} is preset {name} already"


def use_dataset(name: str, *, root: Path) -> str:
    """Choose another data set in `params.yaml`; return one line on what was done.

    Raises:
        InputError: no such data set, or `params.yaml` cannot be read.
    """
    if not re.fullmatch(DATASET_PATTERN, name):
        raise InputError(repr(name), "is no name of a data set", expected=DATASET_PATTERN)
    videos, path = root / "data/videos", root / PARAMS_FILE
    load_params(path)  # what cannot be read is left as it is
    known = {path.stem for path in videos.glob("*.dvc")} | {"sample"}
    if name not in known and not (videos / name).is_dir():
        raise InputError(
            videos / name,
            "is no data set",
            expected=", ".join(sorted(known)),
            remedy=f"kinetrack import SOURCE --name {name}",
        )
    text = path.read_text(encoding="utf-8")
    if not _DATASET_LINE.search(text):
        raise InputError(path, "has no line that begins with dataset:", remedy="edit it by hand")
    write_text(path, set_dataset(text, name))
    return f"{PARAMS_FILE}: dataset {load_params(path)['dataset']}"


def find_preset(root: Path) -> str | None:
    """Name of the preset that `params.yaml` is, whatever its data set; None when it was edited."""
    content = _without_dataset((root / PARAMS_FILE).read_text(encoding="utf-8"))
    presets = _read_presets(root).items()
    return next((name for name, text in presets if _without_dataset(text) == content), None)


def set_dataset(text: str, dataset: str) -> str:
    """Put another data set into the text of a params file."""
    # Quotes keep a name such as 2024 or null a name.
    return _DATASET_LINE.sub(f'dataset: "{dataset}"', text, count=1)


def _read_presets(root: Path) -> dict[str, str]:
    files = sorted(file for file in (root / PRESETS_FOLDER).glob("*.yaml") if file.is_file())
    return {file.stem: file.read_text(encoding="utf-8", errors="replace") for file in files}


def _would_lose_nothing(path: Path, presets: dict[str, str], keep_dataset: bool) -> bool:
    content = path.read_text(encoding="utf-8", errors="replace")
    if keep_dataset:
        return _without_dataset(content) in map(_without_dataset, presets.values())
    return content in presets.values()


def _without_dataset(text: str) -> str:
    return set_dataset(text, "any")
