"""A disk that fails at the N-th operation of a stage and from then on, for every N.

After each: one line and exit code 2, an earlier output as it was, and the next plain run ends with
the bytes of an undisturbed one and leaves nothing half-written.
"""

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kinetrack.learning.resume import _read
from kinetrack.tracking.database import prepare_database

from factories import write_data_set
from failing_disk import FailingRun, Trouble
from project import make_project
from stage_forks import Forks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Work(NamedTuple):
    """A stage: its arguments, what it writes, and params of other outputs that were there."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    earlier: dict[str, dict[str, Any]]
    updates: bool = False
    """A folder that is brought up to date in its place; the index says that it is whole."""


WORKS = {
    "sample": Work(("data/videos/sample",), ("data/videos/sample",), {"sample": {"seed": 1}}),
    "frames": Work(
        ("data/videos/mine", "data/frames/mine"),
        ("data/frames/mine",),
        {"frames": {"classes": ["Jump", "Run"], "jpeg_quality": 50}},
        updates=True,
    ),
    "split": Work(
        ("data/frames/mine/index.csv", "data/splits"),
        ("data/splits",),
        {"split": {"train_groups": 1}},
    ),
    "tensors": Work(
        ("data/frames/mine", "data/splits/split.json", "data/tensors/mine"),
        ("data/tensors/mine",),
        {"pack": {"resize_px": 20}},
        updates=True,
    ),
    "train": Work(
        ("data/tensors/mine", "data/model", "reports/train"),
        ("data/model", "reports/train"),
        {"train": {"seed": 1}},
    ),
    "evaluate": Work(
        ("data/tensors/mine", "data/model", "reports/evaluate"),
        ("reports/evaluate",),
        {"evaluate": {"top_k": 1}},
    ),
}
FINAL = {
    "sample": {"seed": 0, "groups": 2, "clips_per_group": 1},
    "frames": {"classes": "all", "jpeg_quality": 95},
    "split": {"train_groups": 2, "val_groups": 0},
    "pack": {"num_frames": 4, "resize_px": 16, "size_px": 16},
    "train": {"seed": 0, "epochs": 3, "batch_size": 2, "micro_batch": 2, "threads": 1, "watch": []},
    "evaluate": {"top_k": 2},
}
# Worker processes would write elsewhere than on the disk that fails.
ONE = {"KINETRACK_WORKERS": "1"}


class Prepared(NamedTuple):
    """A project in which all stages have run, earlier outputs by stage, and clean checksums."""

    forks: Forks
    earlier: Path
    clean: dict[str, dict[str, str]]
    before: dict[str, dict[str, str]]

    @property
    def folder(self) -> Path:
        """That of the project."""
        return self.forks.project.folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    root = tmp_path_factory.mktemp("failing")
    project = make_project(root / "a project")
    write_data_set(
        project.folder / "data/videos/mine", labels=("Jump", "Run"), groups=3, num_frames=5
    )
    prepare_database(project.folder / "mlruns/mlflow.db")
    project.set_params(dataset="mine", **FINAL)
    with Forks(project, ["sample"], others=tuple(WORKS)) as forks:
        prepared = Prepared(forks, root / "earlier", {}, {})
        for stage, work in WORKS.items():
            make_both(prepared, stage, work)
        yield prepared


def make_both(prepared: Prepared, stage: str, work: Work) -> None:
    """Have a stage make its earlier outputs, which are kept, and then its final ones."""
    forks, folder = prepared.forks, prepared.folder
    forks.work = (stage, *work.arguments)
    shutil.rmtree(folder / ".kinetrack", ignore_errors=True)
    forks.project.set_params(**work.earlier)
    forks.finish(**ONE)
    prepared.before[stage] = checksums(folder, work.outputs)
    for name in (*work.outputs, ".kinetrack"):
        if (folder / name).exists():
            shutil.copytree(folder / name, prepared.earlier / stage / name)
    forks.project.set_params(**FINAL)
    forks.finish(**ONE)
    prepared.clean[stage] = checksums(folder, work.outputs)
    assert prepared.clean[stage] != prepared.before[stage]


def checksums(folder: Path, outputs: Iterable[str]) -> dict[str, str]:
    """Sha256 by path, of all files that are there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in outputs
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def put_earlier(prepared: Prepared, stage: str) -> None:
    """Have the earlier outputs, with what is remembered of them."""
    folder = prepared.folder
    for name in (*WORKS[stage].outputs, ".kinetrack"):
        shutil.rmtree(folder / name, ignore_errors=True)
        kept = prepared.earlier / stage / name
        if kept.exists():
            shutil.copytree(kept, folder / name)


def assert_intact(prepared: Prepared, stage: str, trouble: Trouble, note: str) -> None:
    """What was there is whole, or what shall be there is; a folder that is neither says so."""
    folder, work = prepared.folder, WORKS[stage]
    before, clean = prepared.before[stage], prepared.clean[stage]
    for name in work.outputs:
        old, new = (
            {path: digest for path, digest in files.items() if path.startswith(f"{name}/")}
            for files in (before, clean)
        )
        here = checksums(folder, [name])
        if trouble == "dead":  # what is hidden could not be taken away
            here = {path: digest for path, digest in here.items() if "/." not in path}
        if name == "reports/train":  # single files, each whole
            assert here.keys() == old.keys() == new.keys(), note
            assert all(digest in (old[path], new[path]) for path, digest in here.items()), note
        elif work.updates and f"{name}/index.csv" not in here:
            assert set(here.values()) <= {*old.values(), *new.values()}, note
        elif not (folder / name).exists():  # between two renames
            aside = Path(name).with_name(f".{Path(name).name}.earlier").as_posix()
            assert list(checksums(folder, [aside]).values()) == list(old.values()), note
        else:
            assert here in (old, new), note
    for path in folder.glob(".kinetrack/resume/*/epoch_*.safetensors"):
        _read(path)


def half_written(folder: Path) -> list[str]:
    """What is left of work in the making."""
    places = [folder / name for name in ("data", "reports", ".kinetrack")]
    found = [path for place in places for path in place.rglob(".*") if path.name != ".gitignore"]
    return [str(path) for path in (*found, *folder.glob(".kinetrack/resume/*"))]


LINE = re.compile(r"error: \S.*: cannot (be written|be removed|take files from .*), found .+ -> .+")


def fail_and_recover(prepared: Prepared, stage: str, run: FailingRun) -> bool:
    """Fail at one operation, and run again; whether there was that operation."""
    note = f"{stage}: operation {run.passing + 1}, {run.trouble}"
    work, folder = WORKS[stage], prepared.folder
    prepared.forks.work = (stage, *work.arguments)
    put_earlier(prepared, stage)
    run.marker.unlink(missing_ok=True)
    ended = prepared.forks.run(before=run.code, **ONE)
    assert "Traceback" not in ended.stderr, f"{note}: {ended.stderr}"
    if ended.exit_code == 0:  # it could not clear up, at most
        assert checksums(folder, work.outputs) == prepared.clean[stage], note
    else:
        assert ended.exit_code == 2, f"{note}: {ended}"
        *_, line = ended.stderr.splitlines()
        assert LINE.fullmatch(line), f"{note}: {ended.stderr}"
        assert_intact(prepared, stage, run.trouble, note)
    has_failed = run.marker.exists()
    assert has_failed or ended.exit_code == 0
    if has_failed:
        prepared.forks.finish(**ONE)
    assert checksums(folder, work.outputs) == prepared.clean[stage], note
    assert half_written(folder) == [], note
    return has_failed


def fail_everywhere(prepared: Prepared, stage: str, trouble: Trouble, marker: Path) -> int:
    """Fail at every N-th operation until none is left; how many runs have failed."""
    operations = count()
    while fail_and_recover(prepared, stage, FailingRun(next(operations), trouble, marker)):
        pass
    return next(operations) - 1


@pytest.mark.parametrize("trouble", ["full", "dead"])
@pytest.mark.parametrize("stage", WORKS)
def test_a_disk_that_fails_at_any_operation_costs_nothing(
    stage: str,
    trouble: Trouble,
    prepared: Prepared,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    began = time.monotonic()
    rounds = fail_everywhere(prepared, stage, trouble, tmp_path / "marker")
    with capsys.disabled():
        sys.stdout.write(
            f"\n{stage}, {trouble}: {rounds} rounds, {time.monotonic() - began:.0f} s\n"
        )
    assert rounds > 10
