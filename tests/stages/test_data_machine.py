"""A data set that people change, stages that are killed, repros: everything stays in step.

State machines of hypothesis: of the stages as functions, in this process, and (slow) of real DVC
with `dvc checkout`, `dvc gc` and kills. `test_incremental_stages.py` compares with a clean run.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import kinetrack.data.frames
import kinetrack.stages.frames
import kinetrack.stages.split
import kinetrack.stages.tensors
from kinetrack.data.index import (
    INDEX_NAME,
    SIDES,
    DroppedRow,
    FramesRow,
    TensorsRow,
    read_index,
    tensor_path,
)
from kinetrack.data.tensors import load_clip
from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.splitting.splits import clip_id, read_split

from factories import write_video
from project import Project, environment, make_project
from quick_stages import quick_stages
from trainings import family, wait_for_end

PARAMS = yaml.safe_load((Path(__file__).parents[2] / "presets/sample.yaml").read_text())
CHANGES = {
    "dataset": "mine",
    "frames": {"on_broken": "skip"},
    "split": {"train_groups": 2, "val_groups": 1},
    "pack": {"num_frames": 4, "resize_px": 16, "size_px": 16},
}
# Contents by number; the last is no video.
CONTENTS, BROKEN = range(6), 6
VIDEOS, FRAMES, SPLITS, TENSORS = (
    Path("data", name) for name in ("videos/mine", "frames/mine", "splits", "tensors/mine")
)
LABELS, GROUPS, NUMBERS = ("Jump", "Walk"), range(1, 6), range(1, 3)
clips = st.builds(
    lambda label, group, number: f"{label}/v_{label}_g{group:02}_c{number:02}",
    *(st.sampled_from(choices) for choices in (LABELS, GROUPS, NUMBERS)),
)
contents = st.sampled_from([*CONTENTS, *CONTENTS, BROKEN])
FIRST = {
    f"{label}/v_{label}_g{group:02}_c01": (group + 3 * place) % len(CONTENTS)
    for place, label in enumerate(LABELS)
    for group in (1, 2, 3)
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of each content, of 4 to 9 frames."""
    folder = tmp_path_factory.mktemp("pool")
    videos = [
        write_video(
            folder / f"{number}.avi", num_frames=4 + number, width=32, height=24, start=9 * number
        )
        for number in CONTENTS
    ]
    (folder / "broken.avi").write_bytes(b"no video")
    return [*videos, folder / "broken.avi"]


def find_faults(root: Path, held: dict[str, int]) -> list[str]:
    """What is out of step after a repro, with the videos `held` by clip and content."""
    rows = {
        clip_id(row): row for row in read_index(root / FRAMES / INDEX_NAME, FramesRow, remedy="")
    }
    whole = {clip: row for clip, row in rows.items() if held.get(clip) != BROKEN}
    faults = _differ("index", set(rows), set(held))
    faults += [
        f"{clip} is {row.status}"
        for clip, row in rows.items()
        if (row.status == "broken") != (clip not in whole)
        or row.num_frames != (4 + held[clip] if clip in whole else 0)
    ]
    archives = {f"{clip}.zip": row.archive_md5 for clip, row in whole.items()}
    faults += _differ("archives", _md5s(root / FRAMES, "*/*.zip").items(), archives.items())
    return faults


def find_split_faults(root: Path) -> list[str]:
    """What of split and tensors is out of step with the index, after a repro of all three."""
    rows = {
        clip_id(row): row for row in read_index(root / FRAMES / INDEX_NAME, FramesRow, remedy="")
    }
    split = read_split(root / SPLITS / "split.json")
    dropped = read_index(root / SPLITS / "dropped.csv", DroppedRow, remedy="")
    kept = {clip: side for side in SIDES for clip in split.side(side)}
    faults = _differ("split", [*kept, *(f"{row.label}/{row.clip}" for row in dropped)], rows)
    sides: dict[tuple[str, str], set[str]] = {}
    for clip, side in kept.items():
        sides.setdefault((rows[clip].label, rows[clip].group), set()).add(side)
    faults += [f"group {group} is on {on}" for group, on in sides.items() if len(on) > 1]
    packed = read_index(root / TENSORS / INDEX_NAME, TensorsRow, remedy="")
    found = {f"{row.label}/{row.clip}": row for row in packed}
    faults += _differ("tensors", [(clip, row.side) for clip, row in found.items()], kept.items())
    for clip, row in found.items():
        path = tensor_path(root / TENSORS, row.side, row.label, row.clip)
        load_clip(path, num_frames=4, size_px=16)
        if row.frames_sha256 != rows[clip].frames_sha256 or file_md5(path) != row.tensor_md5:
            faults.append(f"{clip} was packed of other frames")
    files = [path.relative_to(root / TENSORS) for path in (root / TENSORS).rglob("*.pt")]
    wanted = [tensor_path(Path(), row.side, row.label, row.clip) for row in packed]
    return faults + _differ("packed files", files, wanted) + _find_hidden(root)


def _differ(what: str, found: object, wanted: object) -> list[str]:
    difference = sorted(map(str, found)), sorted(map(str, wanted))
    return [] if difference[0] == difference[1] else [f"{what}: {difference}"]


def _md5s(folder: Path, pattern: str) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_md5(path) for path in folder.glob(pattern)}


def _find_hidden(root: Path) -> list[str]:
    """What a killed run has left half-made."""
    places = [*(root / "data").rglob(".*"), *(root / ".kinetrack").rglob("*.partial")]
    return [str(path) for path in places if path.name != ".gitignore"]


class DataMachine(RuleBasedStateMachine):
    """What is common to both: the videos, and what people do with them."""

    def __init__(self, pool: list[Path], root: Path) -> None:
        super().__init__()
        self.pool, self.root = pool, root
        self.held: dict[str, int] = {}

    def put(self, clip: str, content: int) -> None:
        path = self.root / VIDEOS / f"{clip}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link into the cache, or read-only
        shutil.copyfile(self.pool[content], path)
        self.held[clip] = content

    def take(self, clip: str) -> int:
        path = self.root / VIDEOS / f"{clip}.avi"
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        return self.held.pop(clip)

    def choose(self, number: int) -> str:
        return sorted(self.held)[number % len(self.held)]

    @rule(clip=clips, content=contents)
    def add_or_encode_anew(self, clip: str, content: int) -> None:
        self.put(clip, content)

    @precondition(lambda self: len(self.held) > 2)
    @rule(number=st.integers(0, 19))
    def remove(self, number: int) -> None:
        self.take(self.choose(number))

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 19), clip=clips)
    def rename(self, number: int, clip: str) -> None:
        assume(clip not in self.held)
        self.put(clip, self.take(self.choose(number)))


class StagesMachine(DataMachine):
    """The three stages of the data, each called as its command calls it."""

    @initialize()
    def begin(self) -> None:
        params = {
            name: {**value, **CHANGES.get(name, {})} if isinstance(value, dict) else value
            for name, value in {**PARAMS, "dataset": "mine"}.items()
        }
        self.root.mkdir()
        (self.root / "params.yaml").write_text(yaml.dump(params, Dumper=yaml.CSafeDumper))
        os.chdir(self.root)
        for clip, content in FIRST.items():
            self.put(clip, content)

    @rule()
    def repro(self) -> None:
        refused = self.run()
        assert find_faults(self.root, self.held) == []
        event("refused" if refused else "made")
        if refused:  # a side that would be empty, say
            assert str(refused).isprintable()
        else:
            assert find_split_faults(self.root) == []

    def run(self) -> InputError | None:
        """Run the stages as far as they go."""
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            kinetrack.stages.frames.main(VIDEOS, FRAMES)
            try:
                kinetrack.stages.split.main(FRAMES / INDEX_NAME, SPLITS)
                kinetrack.stages.tensors.main(FRAMES, SPLITS / "split.json", TENSORS)
            except InputError as error:
                return error
        return None

    @rule(moment=st.integers(0, 120))
    def kill(self, moment: int) -> None:
        """Run the stages in a child that dies before its n-th change of the file system."""
        child = os.fork()
        if not child:
            try:
                die_before_change(moment)
                self.run()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 9)

    @rule(number=st.integers(0, 60), removes=st.booleans())
    def damage_an_output(self, number: int, removes: bool) -> None:
        """By hand; an edited split is for the next repro to replace."""
        made = [path for path in (self.root / "data").rglob("*.*") if path.is_file()]
        files = sorted(path for path in made if VIDEOS.as_posix() not in path.as_posix())
        if files:
            path = files[number % len(files)]
            path.unlink() if removes else path.write_bytes(b"by hand")

    def teardown(self) -> None:
        os.chdir("/")
        shutil.rmtree(self.root, ignore_errors=True)


def die_before_change(number: int) -> None:
    """End this process before its n-th change of the file system; in a child."""
    left = iter(range(number))

    def dying(function: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            if next(left, None) is None:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    for name in ("replace", "unlink", "rename", "rmdir", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))


def run_stages(pool: list[Path], root: Path, *, examples: int, steps: int) -> None:
    numbers = iter(range(10**6))
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    here = Path.cwd()
    with quick_stages():
        try:
            run_state_machine_as_test(
                lambda: StagesMachine(pool, root / str(next(numbers))),
                settings=settings(
                    max_examples=examples, stateful_step_count=steps, suppress_health_check=checks
                ),
            )
        finally:
            os.chdir(here)


def test_stages_stay_in_step_whatever_happens(pool, tmp_path):
    run_stages(pool, tmp_path, examples=8, steps=10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_stages_stay_in_step_whatever_happens_for_long(pool, tmp_path):
    run_stages(pool, tmp_path, examples=50, steps=20)


class DvcMachine(DataMachine):
    """The same through `dvc repro`, with versions of the videos to go back to."""

    def __init__(self, pool: list[Path], root: Path, empty: Path) -> None:
        super().__init__(pool, root)
        self.empty = empty
        self.versions: list[tuple[str, dict[str, int]]] = []

    @initialize()
    def begin(self) -> None:
        self.project = Project(shutil.copytree(self.empty, self.root, symlinks=True))
        for clip, content in FIRST.items():
            self.put(clip, content)
        self.commit()
        self.repro()

    @rule()
    def commit(self) -> None:
        """Put the videos under DVC, as after every change."""
        self.project.run("dvc", "add", "-q", VIDEOS.as_posix())
        self.project.run("git", "add", "-A")
        self.project.run("git", "commit", "-q", "--allow-empty", "-m", "videos")
        commit = self.project.run("git", "rev-parse", "HEAD").stdout.strip()
        self.versions.append((commit, dict(self.held)))

    @rule()
    def repro(self) -> None:
        self.commit()
        done = self.project.run("dvc", "repro", "tensors", check=False)
        assert find_faults(self.root, self.held) == []
        event("made" if done.returncode == 0 else "refused")
        if done.returncode:
            assert "Traceback" not in done.stderr
            assert re.search("^error: .*split", done.stderr, re.MULTILINE), done.stderr
        else:
            assert find_split_faults(self.root) == []

    @rule(moment_s=st.floats(1, 12))
    def kill(self, moment_s: float) -> None:
        """Kill a repro with all that it has started."""
        self.commit()
        dvc = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "tensors"],
            cwd=self.root,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with suppress(subprocess.TimeoutExpired):
            dvc.wait(moment_s)
        if dvc.poll() is None:
            processes = family(dvc.pid)
            os.killpg(dvc.pid, signal.SIGKILL)
            dvc.wait()
            wait_for_end([process for process in processes if process.pid != dvc.pid])
            event("killed")

    @rule(number=st.integers(0, 9))
    def check_out(self, number: int) -> None:
        """Have the videos of an earlier commit."""
        commit, held = self.versions[number % len(self.versions)]
        self.project.run("git", "checkout", "-q", commit, "--", f"{VIDEOS}.dvc")
        self.project.run("dvc", "checkout", "-q", "--force", f"{VIDEOS}.dvc")
        self.held = dict(held)

    @rule()
    def collect_garbage(self) -> None:
        """After that only this version is there to go back to."""
        self.commit()
        self.project.run("dvc", "gc", "-q", "--workspace", "--force")
        self.versions = self.versions[-1:]

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_real_repros_stay_in_step_whatever_happens(pool, tmp_path):
    empty = make_project(tmp_path / "empty")
    empty.set_params(**{**CHANGES, "dataset": "mine"})
    empty.commit("params")
    numbers = iter(range(10**6))
    run_state_machine_as_test(
        lambda: DvcMachine(pool, tmp_path / str(next(numbers)), empty.folder),
        settings=settings(
            max_examples=3,
            stateful_step_count=8,
            phases=[Phase.generate],  # shrinking would take hours
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
