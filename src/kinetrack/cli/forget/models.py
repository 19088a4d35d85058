"""What else remembers clips that are to be forgotten: models, runs, files of this machine."""

import csv
import glob
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.index import INDEX_NAME
from kinetrack.tracking.run_data import RunData
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.erasing import Choice, Search
from kinetrack.versioning.listings import read_listing
from kinetrack.versioning.tracked import is_md5
from kinetrack.versioning.versions import Version

_MODEL = "data/model"
# As `learning.checkpoint` names them; importing it would bring torch.
_TRAINED_NAME, _WEIGHTS_NAME = "trained_on.txt", "weights.safetensors"


class TrainedModel(NamedTuple):
    """A model that has learned from a forgotten clip; `is_sure` where its own list names it."""

    md5: str
    is_sure: bool


def read_fingerprints(
    folders: Iterable[tuple[str, str]], cache: Path, forgotten: Collection[str]
) -> set[str]:
    """Read the sha256 of the frames that the clips have, or had, out of the indexes of folders.

    Args:
        folders: path and MD5 of folders of frames or tensors.
    """
    found = set()
    for _, md5 in folders:
        index = (read_listing(cache, md5) or {}).get(INDEX_NAME)
        for row in _read_index(cache, index, forgotten):
            found.add(row.get("frames_sha256", ""))
    return found - {""}


def _read_index(cache: Path, md5: str | None, forgotten: Collection[str]) -> list[dict[str, str]]:
    path = object_path(cache, md5) if md5 else Path()
    return _rows_of(path, forgotten) if path.is_file() else []


def _rows_of(path: Path, forgotten: Collection[str]) -> list[dict[str, str]]:
    """Rows of an index that are of these clips, whichever version of Kinetrack has written it."""
    rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8", errors="replace")))
    header = next(rows, [])
    names = {clip.partition("/")[2] for clip in forgotten}
    # Of thousands of rows, in a hundred indexes, few come so far.
    found = (dict(zip(header, row, strict=False)) for row in rows if not names.isdisjoint(row))
    return [row for row in found if f"{row.get('label')}/{row.get('clip')}" in forgotten]


def find_models(
    versions: Sequence[Version],
    runs: Sequence[RunData],
    search: Search,
    *,
    dataset: str,
    cache: Path,
    fingerprints: Collection[str],
    others: Iterable[str] = (),
) -> list[TrainedModel]:
    """Find the models that were trained on one of these clips, in versions and in MLflow.

    Where a model's own list is not in the cache, the packed clips tell that it was trained with.
    Models of other data sets stay, as bytes do that those have too.

    Args:
        others: MD5s of folders in the cache, which may be of models too.
    """
    tensors = f"data/tensors/{dataset}"
    data: dict[str, set[tuple[str, str]]] = {}
    for version in versions:
        packed = [path for path in version.outputs if path.startswith("data/tensors/")]
        if _MODEL in version.outputs and (tensors in packed or not packed):
            data.setdefault(version.outputs[_MODEL], set()).update(version.outputs.items())
    for run in runs:
        md5 = run.tags.get("model_md5")
        if md5 and run.dataset == dataset:
            data.setdefault(md5, set()).add((tensors, run.tags.get("data.tensors_md5", "")))
    for md5 in others:
        data.setdefault(md5, set())
    models = []
    for md5, used in data.items():
        trained_on = _read_trained_on(md5, cache)
        if trained_on is None and not search.folders.isdisjoint(used):
            models.append(TrainedModel(md5, is_sure=False))
        elif trained_on and not trained_on.isdisjoint(fingerprints):
            models.append(TrainedModel(md5, is_sure=True))
    return models


def find_weights(models: Iterable[TrainedModel], cache: Path) -> set[str]:
    """MD5s of the weights of models, as far as the lists of their folders are in the cache."""
    listings = (read_listing(cache, model.md5) or {} for model in models)
    return {files[_WEIGHTS_NAME] for files in listings if _WEIGHTS_NAME in files}


def _read_trained_on(md5: str, cache: Path) -> set[str] | None:
    """The list of a model; None where the cache has none."""
    file = (read_listing(cache, md5) or {}).get(_TRAINED_NAME) if is_md5(md5) else None
    path = object_path(cache, file) if file else Path()
    return set(path.read_text(encoding="ascii").split()) if path.is_file() else None


def find_runs(
    runs: Sequence[RunData], search: Search, models: Collection[TrainedModel], *, dataset: str
) -> list[RunData]:
    """Find the data set's runs whose data held a clip, or whose model was trained on one."""
    trained = {model.md5 for model in models}
    return [
        run
        for run in runs
        if run.dataset == dataset
        and (
            (f"data/videos/{dataset}", run.tags.get("data.videos_md5")) in search.folders
            or (f"data/tensors/{dataset}", run.tags.get("data.tensors_md5")) in search.folders
            or run.tags.get("model_md5") in trained
        )
    ]


def find_unknown_runs(runs: Sequence[RunData], *, dataset: str, cache: Path) -> list[RunData]:
    """Find the data set's runs of which nothing here tells what they were trained on."""
    unknown = []
    for run in (run for run in runs if run.dataset == dataset):
        tags = [run.tags.get(tag, "") for tag in ("data.videos_md5", "data.tensors_md5")]
        known = any(object_path(cache, md5).is_file() for md5 in tags if is_md5(md5))
        if (
            any(tags)
            and not known
            and _read_trained_on(run.tags.get("model_md5", ""), cache) is None
        ):
            unknown.append(run)
    return unknown


def find_pulled_models(root: Path, fingerprints: Collection[str]) -> list[str]:
    """Find models that `kinetrack pull-model` has put here and that were trained on a clip."""
    found = []
    for path in sorted((root / "models").glob(f"*/{_TRAINED_NAME}")):
        if not set(path.read_text(encoding="utf-8", errors="replace").split()).isdisjoint(
            fingerprints
        ):
            found.append(_show(path.parent, root))
    return found


def find_local_files(root: Path, dataset: str, forgotten: Collection[str]) -> list[str]:
    """Find what this machine keeps beside DVC that names a clip, or may have its pictures.

    These are the memory of the stages, what an import or an interrupted training has left, and the
    pages; folders with a slash behind.
    """
    home = root / ".kinetrack"
    made = [
        path
        for path in sorted(home.glob(f"made/*/*/*/{glob.escape(dataset)}.csv"))
        if _rows_of(path, forgotten)
    ]
    left = [path for name in ("downloads", "resume") for path in sorted(home.glob(f"{name}/[!.]*"))]
    pages = [path for path in (home / "pages",) if path.is_dir()]
    return [_show(path, root) for path in (*made, *left, *pages)]


def find_other_files(root: Path, folders: Iterable[str], choose: Choice) -> list[str]:
    """Find files of forgotten clips in folders that lie here though no present version has them."""
    found = []
    for folder in folders:
        files = {
            path.relative_to(root / folder).as_posix(): ""
            for path in sorted((root / folder).rglob("*"))
            if path.is_file()
        }
        found += [f"{folder}/{name}" for name in sorted(choose(folder, "", files))]
    return found


def _show(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() + "/" * path.is_dir()
