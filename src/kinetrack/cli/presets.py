"""Presets: complete params files that take the place of `params.yaml`."""

import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path
from typing import Any

from kinetrack.errors import InputError, printable
from kinetrack.files import write_text
from kinetrack.params import DATASET_PATTERN, PARAMS_FILE, load_params, parse_section
from kinetrack.versioning.dataset_facts import DatasetFacts, recall_facts
from kinetrack.yaml_text import leave_out_value, put_value, quote_value

PRESETS_FOLDER = Path("presets")
# What DATASET_PATTERN says.
NAME_WORDS = "small letters, digits, - and _, a letter or digit first"
_DATASET = ("dataset",)
_PATTERN = ("frames", "group_pattern")
# Of the names that the stage `sample` gives its clips; the presets have it too.
_SAMPLE = DatasetFacts(group_pattern=r"_g(\d+)_c\d+$")


def apply_preset(
    name: str, *, root: Path, force: bool, keep_dataset: bool, dry_run: bool = False
) -> str:
    """Replace `params.yaml` by a preset; return what was done.

    Args:
        force: also where edits are lost.
        keep_dataset: all but the data set and its group pattern is replaced.
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
        text = _keep_dataset(text, load_params(path))
    lost = None if force else _describe_lost(path, presets, name, keep_dataset=keep_dataset)
    if dry_run:
        told = _describe_changes(path, text, name)
        return f"{told}\n{lost}" if lost else told
    if lost:
        raise lost
    write_text(path, text)
    return f"{PARAMS_FILE} is preset {name} now, dataset {load_params(path)['dataset']}"


def _keep_dataset(text: str, params: Mapping[str, Any]) -> str:
    """Put the data set of loaded params, and its group pattern, into a preset's text."""
    text, facts = put_value(text, _DATASET, params["dataset"]), _present_facts(params)
    return text if facts is None else put_value(text, _PATTERN, facts.group_pattern)


def _present_facts(params: Mapping[str, Any]) -> DatasetFacts | None:
    """What loaded params say of their data set; their sections need not be sound."""
    frames = params["frames"]
    if not isinstance(frames, dict) or "group_pattern" not in frames:
        return None
    pattern = frames["group_pattern"]
    return DatasetFacts(pattern) if pattern is None or isinstance(pattern, str) else None


def _describe_lost(
    path: Path, presets: Mapping[str, str], name: str, *, keep_dataset: bool
) -> InputError | None:
    """What speaks against replacing `params.yaml`; None when nothing would be lost."""
    if not path.exists():
        return None
    content = path.read_text(encoding="utf-8", errors="replace")
    is_chosen = _without_dataset(content) in map(_without_dataset, presets.values())
    if content in presets.values() or (keep_dataset and is_chosen):
        return None
    again = f"kinetrack preset {name}{' --keep-dataset' * keep_dataset}"
    remedy = f"commit or copy it, then: {again} --force"
    if is_chosen:
        remedy = f"{again} --keep-dataset; or give the data set up: {again} --force"
    return InputError(path, "was edited: it is none of the presets", remedy=remedy)


def _describe_changes(path: Path, text: str, name: str) -> str:
    old = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = unified_diff(
        old.splitlines(), text.splitlines(), PARAMS_FILE.name, f"preset {name}", n=0, lineterm=""
    )
    told = [printable(line) for line in lines if not line.startswith("@@")]
    return "\n".join(told) or f"{PARAMS_FILE} is preset {name} already"


def use_dataset(name: str, *, root: Path) -> str:
    """Choose another data set in `params.yaml`, with its group pattern; return what was done.

    Raises:
        InputError: no such data set, or what it remembers or `params.yaml` cannot be used.
    """
    if not re.fullmatch(DATASET_PATTERN, name):
        raise InputError(repr(name), "is no name of a data set", expected=NAME_WORDS)
    videos, path = root / "data/videos", root / PARAMS_FILE
    params = load_params(path)  # what cannot be read is left as it is
    known = {path.stem for path in videos.glob("*.dvc")} | {"sample"}
    if name not in known and not (videos / name).is_dir():
        raise InputError(
            videos / name,
            "is no data set",
            expected=", ".join(sorted(known)),
            remedy=f"kinetrack import SOURCE --name {name}",
        )
    facts = _find_facts(name, params, videos)
    text = put_value(path.read_text(encoding="utf-8"), _DATASET, name)
    if facts is not None:
        text = put_value(text, _PATTERN, facts.group_pattern)
    write_text(path, text)
    return _describe_use(load_params(path), is_remembered=facts is not None)


def _find_facts(name: str, params: Mapping[str, Any], videos: Path) -> DatasetFacts | None:
    """What the data set remembers; None leaves the group pattern of `params.yaml` alone."""
    if name == "sample":
        return _SAMPLE if _is_remembered(_present_facts(params), videos) else None
    described = videos / f"{name}.dvc"
    facts = recall_facts(described)
    if facts is not None:
        # Imported when it is needed: it brings the decoder.
        from kinetrack.stages.frames import FramesParams

        parse_section(FramesParams, "frames", params, PARAMS_FILE)
        frames = {**params["frames"], **facts._asdict()}
        parse_section(FramesParams, "frames", {"frames": frames}, described)
    return facts


def _is_remembered(facts: DatasetFacts | None, videos: Path) -> bool:
    """Whether any data set remembers just that."""
    for described in sorted(videos.glob("*.dvc")):
        with suppress(InputError):  # another data set's file is not what is asked about
            if facts is not None and recall_facts(described) == facts:
                return True
    return False


def _describe_use(params: Mapping[str, Any], *, is_remembered: bool) -> str:
    told, facts = f"{PARAMS_FILE}: dataset {params['dataset']}", _present_facts(params)
    if facts is None:
        return told
    pattern = f"frames.group_pattern {quote_value(facts.group_pattern)}"
    return printable(f"{told}, {pattern}" if is_remembered else f"{told}; {pattern} as before")


def find_preset(root: Path) -> str | None:
    """Name of the preset that `params.yaml` is, whatever its data set; None when it was edited."""
    content = _without_dataset((root / PARAMS_FILE).read_text(encoding="utf-8"))
    presets = _read_presets(root).items()
    return next((name for name, text in presets if _without_dataset(text) == content), None)


def _read_presets(root: Path) -> dict[str, str]:
    files = sorted(file for file in (root / PRESETS_FOLDER).glob("*.yaml") if file.is_file())
    return {file.stem: file.read_text(encoding="utf-8", errors="replace") for file in files}


def _without_dataset(text: str) -> str:
    """Leave out what `--keep-dataset` keeps."""
    return leave_out_value(leave_out_value(text, _PATTERN), _DATASET)
