"""The MLflow run of a training: what names it, what it starts from and what it ends with."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kinetrack.data.index import SIDES
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.processes import Team
from kinetrack.params import PARAMS_FILE, load_params
from kinetrack.stages.train_resume import Resume
from kinetrack.versioning.cache import cache_folder, folder_listing
from kinetrack.versioning.lock import content_md5, data_md5, folder_md5, stage_code, stage_key
from kinetrack.versioning.workspace import uncommitted_changes

if TYPE_CHECKING:
    from kinetrack.tracking.journal import DatasetInput, ModelFacts
    from kinetrack.tracking.runs import TrainingRun

_LOCK = "dvc.lock"
_CHANGES = "changes.diff"
_LEFT_OUT = "changes_left_out.txt"  # new files that are too large for it, or may be secrets
_PRESETS = Path("presets")
# What DVC writes meanwhile.
_NO_CHANGES = (_LOCK, "reports/**", "data/**/.gitignore")
# New files that may be secrets: runs are shared.
_SECRETS = ("**/.env*", "**/*.pem", "**/*.key", "**/id_*", "**/*credentials*", "**/.netrc")


@contextmanager
def open_run(
    values: dict[str, Any], *, tensors: Path, device: torch.device, team: Team, resume: Resume
) -> Iterator["TrainingRun"]:
    """Open the MLflow run of this training, or go on with that of the interrupted one.

    `values` is the whole of params.yaml. Of several processes, the first one is tracked.
    """
    from kinetrack.tracking.runs import untracked_run

    if not team.is_first:
        with untracked_run() as run:
            yield run
        return
    with _tracked_run(values, tensors=tensors, device=device, team=team, resume=resume) as run:
        yield run


def _tracked_run(
    values: dict[str, Any], *, tensors: Path, device: torch.device, team: Team, resume: Resume
) -> AbstractContextManager["TrainingRun"]:
    from kinetrack.tracking.runs import training_run

    root, key = Path.cwd(), stage_key("train", values, root=Path.cwd())
    files = _gather_files(root)
    tags = _gather_tags(values, tensors, files.get(_CHANGES, ""), root=root) | {
        "train_key": key,
        "device": device.type,
        "processes": str(team.size),
        "host.capability": torch.backends.cpu.get_cpu_capability(),
        "host.gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "reproduces": os.environ.get("KINETRACK_REPRODUCES"),
    }
    return training_run(
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or values["dataset"],
        name=name_run(values, tags, presets=root / _PRESETS),
        params=values,
        tags={name: value for name, value in tags.items() if value},
        datasets=_describe_sides(values["dataset"], tensors, root=root),
        files=files,
        key=key or f"by-hand-{resume.folder.name}",
        training=resume.name_training(),
    )


def _gather_files(root: Path) -> dict[str, str]:
    """Text of what the training starts from: params, lock and uncommitted changes."""
    paths = (root / name for name in (PARAMS_FILE, _LOCK))
    files = {path.name: path.read_text(encoding="utf-8") for path in paths if path.is_file()}
    changes = uncommitted_changes(root, excluded=_NO_CHANGES, private=_SECRETS)
    if changes and changes.patch:
        files[_CHANGES] = changes.patch.decode("utf-8", "surrogateescape")
    if changes and changes.left_out:
        files[_LEFT_OUT] = "".join(f"{path}\n" for path in changes.left_out)
    return files


def _gather_tags(
    values: Mapping[str, Any], tensors: Path, changes: str, *, root: Path
) -> dict[str, str | None]:
    from kinetrack.tracking.host import host_facts
    from kinetrack.tracking.lineage import experiment_facts, git_facts

    patch = changes.encode("utf-8", "surrogateescape")
    return {
        **host_facts(),
        **git_facts(root, environ=os.environ),
        **experiment_facts(os.environ),
        "git.diff_sha256": hashlib.sha256(patch).hexdigest() if patch else None,
        "code_sha256": hash_code(stage_code("train", root=root)),
        "data.videos_md5": data_md5(f"data/videos/{values['dataset']}", root=root),
        "data.split_md5": data_md5("data/splits/split.json", root=root),
        "data.tensors_md5": data_md5(tensors.as_posix(), root=root),
    }


def hash_code(code: Mapping[str, str]) -> str:
    """Sha256 over the md5s of a stage's code by path."""
    return hashlib.sha256(json.dumps(sorted(code.items())).encode()).hexdigest()


def name_run(values: Mapping[str, Any], tags: Mapping[str, str | None], *, presets: Path) -> str:
    """Name a run as a person recognises it: preset, network, data set, commit, experiment."""
    commit, experiment = tags.get("git.commit") or "", tags.get("dvc.exp_name") or ""
    preset = nearest_preset(values, presets)
    parts = (preset, values["model"]["name"], values["dataset"], commit[:7], experiment)
    return "-".join(part for part in parts if part)


def nearest_preset(values: Mapping[str, Any], presets: Path) -> str:
    """Return the preset that has the fewest other values, with a `*` if it has some.

    The data set does not count: it is not a preset's to choose.
    """
    differences = {}
    for path in sorted(presets.glob("*.yaml")):
        with suppress(InputError):  # a preset of one's own that is not ready
            differences[path.stem] = _count_differences(values, load_params(path))
    if not differences:
        return ""
    name = min(differences, key=differences.__getitem__)
    return f"{name}*" if differences[name] else name


def _count_differences(values: Mapping[str, Any], preset: Mapping[str, Any]) -> int:
    return sum(
        value != preset.get(section, {}).get(key)
        for section, content in values.items()
        if isinstance(content, dict)
        for key, value in content.items()
    )


def _describe_sides(dataset: str, tensors: Path, *, root: Path) -> "list[DatasetInput]":
    """The clips of each side, by DVC's md5 of their folder; of all sides' where it has no list."""
    from kinetrack.tracking.journal import DatasetInput

    whole = data_md5(tensors.as_posix(), root=root)
    if whole is None:
        return []
    listing = _list_tensors(whole, root)
    described = []
    for side in SIDES:
        files = {
            path.removeprefix(f"{side}/"): md5
            for path, md5 in listing.items()
            if path.startswith(f"{side}/")
        }
        if files or not listing:
            digest = content_md5(files) if files else whole
            place = f"{tensors.as_posix()}/{side}"
            described.append(DatasetInput(f"{dataset}-{side}", digest, place, side))
    return described


def _list_tensors(md5: str, root: Path) -> dict[str, str]:
    """Md5s by path; empty where DVC does not have them."""
    try:
        return folder_listing(cache_folder(root), md5) or {}
    except InputError:  # a lock file, but no DVC: no reason to end a training
        return {}


def log_outcome(run: "TrainingRun", card: ModelCard, *, model_folder: Path) -> None:
    """Add to a run what is known at the end of its training."""
    md5 = folder_md5(model_folder)
    run.set_tags(
        {
            "model_sha256": card.weights_sha256,
            "model_md5": md5,
            "model.parameters": str(card.parameters),
            "model.gflop_per_clip": str(card.gflop_per_clip),
            "model.epoch": str(card.epoch),
            "comparable": "false" if card.halvings else "true",
        }
    )
    run.log_model(model_folder, describe_model(card, md5))


def describe_model(card: ModelCard, md5: str) -> "ModelFacts":
    """What MLflow shows of a model; `md5` is DVC's of its folder."""
    from kinetrack.tracking.journal import ModelFacts

    clip = card.clip
    return ModelFacts(md5, (3, clip.num_frames, clip.size_px, clip.size_px), len(card.labels))
