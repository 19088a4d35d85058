"""What `kinetrack verify` opens: data sets, split and model, each compared with its index."""

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import INDEX_NAME, SIDES, FramesRow, read_index
from kinetrack.data.manifest import MANIFEST_NAME
from kinetrack.data.soundness import (
    Flaw,
    Opened,
    as_flaw,
    check_frames,
    check_manifest,
    check_tensors,
)
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import CARD_NAME, load_model, read_trained_on
from kinetrack.splitting.splits import clip_id, read_split
from kinetrack.versioning.findings import Finding, Step
from kinetrack.versioning.lock import locked_inputs

_SPLIT = Path("data/splits/split.json")
_MODEL = Path("data/model")


class Checked(NamedTuple):
    """A tracked thing or a folder of contents, and what was found in it."""

    path: str
    counted: str
    num_bytes: int
    findings: list[Finding]
    not_checked: str = ""


class Contents:
    """What lies in the data folders: opened, and compared with the indexes.

    `damaged` are paths that are known for it already, `md5s` what was hashed already.
    """

    def __init__(self, root: Path, *, damaged: Collection[str], md5s: Mapping[Path, str]) -> None:
        self._root, self._damaged, self._md5s = root, set(damaged), md5s

    def check(self) -> Iterator[Checked]:
        """Check all data sets, the split and the model; what is not here is left out."""
        for path in sorted(self._root.glob(f"data/videos/*/{MANIFEST_NAME}")):
            yield self._check(path, lambda path: Opened(1, check_manifest(path)), "manifest", None)
        for folder in self._data_sets("frames"):
            yield self._check(folder / INDEX_NAME, self._check_frames, "archive", "frames")
        for folder in self._data_sets("tensors"):
            yield self._check(folder / INDEX_NAME, self._check_tensors, "tensor", "tensors")
        if (self._root / _SPLIT).exists():
            yield self._check(self._root / _SPLIT, self._check_split, "split", "split")
        if (self._root / _MODEL / CARD_NAME).exists():
            yield self._check(self._root / _MODEL / CARD_NAME, _check_model, "model", "train")

    def _data_sets(self, kind: str) -> list[Path]:
        folders = (self._root / "data" / kind).glob("[!.]*/")
        return sorted(folder for folder in folders if folder.is_dir())

    def _check(
        self, index: Path, check: Callable[[Path], Opened], noun: str, stage: str | None
    ) -> Checked:
        """Check what one index tells of, unless that itself has to be restored first."""
        place = index.parent.relative_to(self._root).as_posix()
        if index.relative_to(self._root).as_posix() in self._damaged:
            return Checked(place, "", 0, [], f"{index.name} is damaged itself")
        opened = check(index)
        flaws = [flaw for flaw in opened.flaws if self._relative(flaw.path) not in self._damaged]
        self._damaged |= {self._relative(flaw.path) for flaw in flaws}
        counted = f"{opened.num_files:,} {noun}{'s' * (opened.num_files != 1)} opened"
        return Checked(place, counted, 0, [self._to_finding(flaw, stage) for flaw in flaws])

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _to_finding(self, flaw: Flaw, stage: str | None) -> Finding:
        path = self._relative(flaw.path)
        if stage is None:
            advice = f"put the video there, or correct {MANIFEST_NAME}; then dvc add its folder"
            return Finding(path, flaw.problem, advice=advice)
        remake = Step("make", f"dvc repro -f -s {stage}")
        # A stage keeps what it knows; what is gone it makes again.
        is_made_alone = flaw.path.suffix in (".zip", ".pt") and flaw.path.exists()
        remove = [Step("remove", f"rm -f {shlex.quote(path)}")] if is_made_alone else []
        return Finding(path, flaw.problem, (*remove, remake))

    def _check_frames(self, index: Path) -> Opened:
        return check_frames(index.parent, md5s=self._md5s)

    def _check_tensors(self, index: Path) -> Opened:
        return check_tensors(index.parent, md5s=self._md5s)

    def _check_split(self, path: Path) -> Opened:
        """Compare the split with the index that it was made of."""
        inputs = locked_inputs("split", root=self._root)
        index = next((name for name in inputs if name.endswith(f"/{INDEX_NAME}")), None)
        if index is None or index in self._damaged or not (self._root / index).exists():
            return Opened(1, _flaws_of(lambda: read_split(path)))
        return Opened(1, _flaws_of(lambda: _compare_split(path, self._root / index)))


def _compare_split(path: Path, index: Path) -> None:
    split, rows = read_split(path), read_index(index, FramesRow, remedy="")
    decoded = {clip_id(row): row for row in rows if row.status != "broken"}
    clips = [(clip, side) for side in SIDES for clip in split.side(side)]
    absent = [clip for clip, _ in clips if clip not in decoded]
    if absent:
        raise InputError(path, f"names {len(absent)} clips without frames", found=absent[0])
    if fingerprint_split((decoded[clip], side) for clip, side in clips) != split.fingerprint:
        raise InputError(path, "is of other frames than the index has")


def _check_model(card: Path) -> Opened:
    def load() -> None:
        _, read = load_model(card.parent)
        read_trained_on(card.parent, read)

    return Opened(1, _flaws_of(load))


def _flaws_of(check: Callable[[], object]) -> list[Flaw]:
    try:
        check()
    except InputError as error:
        return [as_flaw(error)]
    return []
