"""An incremental run ends with the bytes of a clean one, whatever came before it.

Frames, a split and tensors of a data set of tiny videos, in this process: after every edit, and
after runs that die in the middle, both folders are compared with those of a run that starts anew.
"""

import errno
import itertools
import os
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kinetrack.data.frames
import kinetrack.data.packing
import kinetrack.stages.frames
import kinetrack.stages.tensors
from kinetrack.data.index import INDEX_NAME, SIDES, FramesRow, TensorsRow, read_index
from kinetrack.errors import InputError, WriteError
from kinetrack.files import file_md5
from kinetrack.splitting.splits import clip_id, write_split
from kinetrack.stages.earlier import read_earlier
from kinetrack.stages.frames import FramesParams, extract_all
from kinetrack.stages.tensors import pack_all
from kinetrack.versioning.recipes import Recipe

from factories import FRAMES_PARAMS, GEOMETRY, write_video
from quick_stages import quick_stages

PARAMS = FRAMES_PARAMS.model_copy(update={"group_pattern": None})
SKIP = PARAMS.model_copy(update={"on_broken": "skip"})
# Contents of videos, by number; the last one is none that a decoder takes.
CONTENTS, BROKEN = range(5), 5


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_stages():
        yield


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of each content."""
    folder = tmp_path_factory.mktemp("pool")
    videos = [
        write_video(
            folder / f"{number}.avi", num_frames=4 + number, width=32, height=24, start=number
        )
        for number in CONTENTS
    ]
    (folder / "broken.avi").write_bytes(b"no video")
    return [*videos, folder / "broken.avi"]


class Counts(NamedTuple):
    """How the files of one stage were come by."""

    made: int
    moved: int
    kept: int


class Workspace:
    """A data set, what the stages made of it, and what they remember.

    `contents` has the number of a clip's content by `<Class>/<clip>`, `sides` the place of its side
    in `SIDES`, for those that do not train.
    """

    def __init__(self, root: Path, pool: list[Path], contents: dict[str, int]) -> None:
        self.root, self.pool = root, pool
        self.videos, self.frames, self.tensors = (
            root / name for name in ("videos", "frames", "tensors")
        )
        self.contents: dict[str, int] = {}
        self.sides: dict[str, int] = {}
        for clip, content in contents.items():
            self.put(clip, content)

    def put(self, clip: str, content: int) -> None:
        """Write a clip, or another content under its name."""
        path = self.videos / f"{clip}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.pool[content], path)
        self.contents[clip] = content

    def take(self, clip: str) -> int:
        """Remove a clip, and its class with the last one; return its content."""
        path = self.videos / f"{clip}.avi"
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        return self.contents.pop(clip)

    def swap(self, clip: str, other: str) -> None:
        """Give two clips each other's content."""
        first, second = self.contents[clip], self.contents[other]
        self.put(clip, second)
        self.put(other, first)

    def extract(self, params: FramesParams = PARAMS) -> Counts:
        """Run the stage `frames`."""
        recipe = self.recipe("frames", params.decoding, library="av")
        reading = kinetrack.stages.frames.read_rows(recipe.sha256)
        earlier = read_earlier(recipe, self.frames, FramesRow, reading)
        extraction = extract_all(params, videos=self.videos, frames=self.frames, earlier=earlier)
        return count(extraction.how)

    def pack(self) -> Counts:
        """Run the stage `tensors`, by a split with these sides."""
        rows = read_index(self.frames / INDEX_NAME, FramesRow, remedy="")
        whole = [row for row in rows if row.status != "broken"]
        sides = [(row, SIDES[self.sides.get(clip_id(row), 0)]) for row in whole]
        split = self.root / "split/split.json"  # of the test: the stage writes a whole folder
        write_split(split, sides, rule={})
        recipe = self.recipe("tensors", GEOMETRY.model_dump(), library="torch")
        reading = kinetrack.stages.tensors.read_rows(recipe.sha256)
        earlier = read_earlier(recipe, self.tensors, TensorsRow, reading)
        packing = pack_all(
            GEOMETRY, frames=self.frames, split=split, tensors=self.tensors, earlier=earlier
        )
        return count(packing.how)

    def recipe(self, stage: str, settings: dict, *, library: str) -> Recipe:
        return Recipe(stage, section="any", settings=settings, libraries=(library,), root=self.root)

    def run(self) -> tuple[Counts, Counts]:
        """Run both stages."""
        return self.extract(), self.pack()

    def outputs(self) -> dict[str, bytes]:
        """Every file that the stages made, with its content."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for folder in (self.frames, self.tensors)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def refuse_difference(self, root: Path) -> None:
        """Check that every file is as a run makes it that starts from the videos alone."""
        clean = Workspace(root, self.pool, self.contents)
        clean.sides = self.sides
        clean.run()
        assert self.outputs() == clean.outputs()
        assert names_in(self.root) == names_in(clean.root)


def count(how: Iterable[str]) -> Counts:
    counts = Counter(how)
    assert set(counts) <= set(Counts._fields)
    return Counts(counts["made"], counts["moved"], counts["kept"])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FIRST = {"Jump/a": 0, "Jump/b": 1, "Walk/c": 2}
ALL_MADE, NONE_MADE = Counts(3, 0, 0), Counts(0, 0, 3)


@pytest.fixture
def workspace(tmp_path: Path, pool: list[Path]) -> Workspace:
    """After a finished run of three clips."""
    workspace = Workspace(tmp_path / "work", pool, FIRST)
    assert workspace.run() == (ALL_MADE, ALL_MADE)
    return workspace


@pytest.fixture
def as_clean(workspace: Workspace, tmp_path: Path) -> Iterator[None]:
    """At the end of the test every file is as a clean run makes it."""
    yield
    workspace.refuse_difference(tmp_path / "clean")


@pytest.mark.parametrize(
    ("edit", "frames", "tensors"),
    [
        pytest.param(lambda w: None, NONE_MADE, NONE_MADE, id="nothing"),
        pytest.param(lambda w: w.put("Walk/d", 3), Counts(1, 0, 3), Counts(1, 0, 3), id="added"),
        pytest.param(lambda w: w.put("Jump/a", 3), Counts(1, 0, 2), Counts(1, 0, 2), id="changed"),
        pytest.param(lambda w: w.take("Jump/a"), Counts(0, 0, 2), Counts(0, 0, 2), id="removed"),
        pytest.param(
            lambda w: w.put("Jump/z", w.take("Jump/a")),
            Counts(0, 1, 2),
            Counts(0, 1, 2),
            id="renamed",
        ),
        pytest.param(
            lambda w: w.put("Walk/a", w.take("Jump/a")),
            Counts(0, 1, 2),
            Counts(0, 1, 2),
            id="moved to another class",
        ),
        pytest.param(
            lambda w: w.swap("Jump/a", "Walk/c"), Counts(0, 2, 1), Counts(0, 2, 1), id="swapped"
        ),
        pytest.param(
            lambda w: w.put("Walk/twin", 0), Counts(0, 1, 3), Counts(0, 1, 3), id="a twin added"
        ),
        pytest.param(
            lambda w: w.sides.update({"Jump/a": 2}), NONE_MADE, Counts(0, 1, 2), id="another side"
        ),
    ],
)
@pytest.mark.usefixtures("as_clean")
def test_only_what_an_edit_changed_is_made(workspace, edit, frames, tensors):
    edit(workspace)
    assert workspace.run() == (frames, tensors)
    assert {counts.made + counts.moved for counts in workspace.run()} == {0}


@pytest.mark.parametrize("edit", [Path.unlink, lambda path: path.write_bytes(b"by hand")])
@pytest.mark.parametrize(
    ("file", "frames", "tensors"),
    [
        ("frames/Jump/a.zip", Counts(1, 0, 2), NONE_MADE),
        ("frames/index.csv", NONE_MADE, NONE_MADE),
        ("tensors/train/Jump/a.pt", NONE_MADE, Counts(1, 0, 2)),
        ("tensors/index.csv", NONE_MADE, NONE_MADE),
        ("tensors/dropped.csv", NONE_MADE, NONE_MADE),
    ],
)
@pytest.mark.usefixtures("as_clean")
def test_an_output_edited_by_hand_is_made_again(workspace, edit, file, frames, tensors):
    edit(workspace.root / file)
    assert workspace.run() == (frames, tensors)


@pytest.mark.usefixtures("as_clean")
def test_a_clip_that_changes_its_side_is_moved_as_it_is(workspace):
    tensor = workspace.tensors / "train/Jump/a.pt"
    before = tensor.stat()
    workspace.sides["Jump/a"] = 2
    workspace.run()
    after = (workspace.tensors / "test/Jump/a.pt").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert not tensor.exists()


@pytest.mark.usefixtures("as_clean")
def test_two_clips_with_the_same_bytes_are_decoded_and_packed_once(workspace):
    workspace.put("Jump/x", 4)
    workspace.put("Walk/x", 4)
    assert workspace.run() == (Counts(1, 1, 3), Counts(1, 1, 3))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"jpeg_quality": 50}, ALL_MADE),
        ({"jpeg_subsampling": "4:4:4"}, ALL_MADE),
        ({"gaps": "repeat"}, ALL_MADE),
        ({"on_broken": "skip"}, NONE_MADE),
        ({"group_pattern": "(.)"}, NONE_MADE),
        ({"max_stall_s": 7.0}, NONE_MADE),
        ({"classes": ["Jump", "Walk"]}, NONE_MADE),
        ({"classes": ["Jump"]}, Counts(0, 0, 2)),
    ],
)
def test_other_params_decode_only_where_they_alter_an_archive(workspace, change, expected):
    assert workspace.extract(PARAMS.model_copy(update=change)) == expected


def test_back_at_the_first_params_everything_is_made_again_as_it_was(workspace):
    before = workspace.outputs()
    workspace.extract(PARAMS.model_copy(update={"jpeg_quality": 50}))
    assert workspace.outputs() != before
    assert workspace.run() == (ALL_MADE, NONE_MADE)
    assert workspace.outputs() == before


@pytest.mark.usefixtures("as_clean")
def test_with_another_library_everything_is_made(workspace, monkeypatch):
    monkeypatch.setattr("kinetrack.versioning.recipes.version", lambda name: "another")
    assert workspace.run() == (ALL_MADE, ALL_MADE)


@pytest.mark.parametrize("damage", [b"", b"no table", b"clip,label\na,Jump\n", b"\xff\xfe\x00"])
@pytest.mark.usefixtures("as_clean")
def test_without_a_usable_memory_everything_is_made(workspace, damage):
    memories = list((workspace.root / ".kinetrack").rglob("*.csv"))
    assert len(memories) == 2
    for memory in memories:
        memory.write_bytes(damage)
    assert workspace.run() == (ALL_MADE, ALL_MADE)


@pytest.mark.usefixtures("as_clean")
def test_a_broken_clip_leaves_the_output_and_costs_no_other_clip_its_work(workspace):
    before = workspace.outputs()
    workspace.put("Jump/new", 3)
    workspace.put("Walk/new", BROKEN)
    with pytest.raises(InputError, match=r"Walk/new\.avi: cannot be opened as a video"):
        workspace.extract()
    assert workspace.outputs() == before
    workspace.put("Walk/new", 4)
    assert workspace.extract() == Counts(1, 0, 4)
    workspace.pack()


@pytest.mark.usefixtures("as_clean")
def test_a_skipped_clip_is_tried_again_by_every_run(workspace):
    workspace.put("Walk/new", BROKEN)
    assert [workspace.extract(SKIP) for _ in range(2)] == [Counts(0, 0, 3)] * 2
    workspace.put("Walk/new", 4)
    assert workspace.extract() == Counts(1, 0, 3)
    workspace.pack()


def write_segments(workspace: Workspace, *segments: str) -> None:
    rows = [f"one.avi,Jump,a,train,{segment}" for segment in segments]
    text = "\n".join(["path,label,group,official,start_s,end_s", *rows, ""])
    (workspace.videos / "manifest.csv").write_text(text)


def test_of_a_video_that_stays_only_another_segment_is_decoded(tmp_path, pool):
    """Three of ten frames each; the video counts with its segment."""
    workspace = Workspace(tmp_path / "work", pool, {})
    write_video(workspace.videos / "one.avi", num_frames=30, width=32, height=24)
    write_segments(workspace, "0,0.4", "0.4,0.8", "0.8,1.2")
    assert workspace.run() == (ALL_MADE, ALL_MADE)
    before = workspace.outputs()
    write_segments(workspace, "0,0.4", "0.4,0.8", "0.8,1")
    assert workspace.run() == (Counts(1, 0, 2), Counts(1, 0, 2))
    write_segments(workspace, "0,0.4", "0.4,0.8", "0.8,1.2")
    assert workspace.run() == (Counts(1, 0, 2), Counts(1, 0, 2))
    assert workspace.outputs() == before


def test_the_same_bytes_under_another_suffix_are_decoded(workspace):
    """FFmpeg looks at the suffix of a file too."""
    (workspace.videos / "Jump/a.avi").rename(workspace.videos / "Jump/a.mkv")
    assert workspace.extract() == Counts(1, 0, 2)


STAGES = ("frames", "tensors")
# Whatever changes the file system passes through one of these.
CHANGES = ("replace", "unlink", "rename", "rmdir", "mkdir")
DIED, ENDED, FAILED = 9, 0, 1


def run_in_child(
    workspace: Workspace, *, dies_before_change: int
) -> tuple[bool, dict[str, list[int]]]:
    """Fork a run that ends at once before its n-th change of the file system.

    Returns whether it came so far, and the contents that it began to make, by stage.
    """
    log = workspace.root.parent / "begun.log"
    log.unlink(missing_ok=True)
    log.touch()
    child = os.fork()
    if not child:
        try:
            tell_what_is_begun(workspace, log)
            die_before_change(dies_before_change)
            workspace.run()
            os._exit(ENDED)
        except BaseException:
            traceback.print_exc()
            os._exit(FAILED)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert exit_code in (DIED, ENDED)
    lines = [line.split() for line in log.read_text().splitlines()]
    begun = {stage: [int(content) for at, content in lines if at == stage] for stage in STAGES}
    return exit_code == DIED, begun


def tell_what_is_begun(workspace: Workspace, log: Path) -> None:
    """Have both stages note each content that they decode or pack; in a child."""
    note = log.open("a", buffering=1).write
    extract, pack = kinetrack.stages.frames.extract_frames, kinetrack.data.packing.pack_clip

    def noting(function, stage):
        def call(source, *args, **kwargs):
            clip = f"{source.parent.name}/{source.stem}"
            note(f"{stage} {workspace.contents[clip]}\n")
            return function(source, *args, **kwargs)

        return call

    kinetrack.stages.frames.extract_frames = noting(extract, "frames")
    kinetrack.data.packing.pack_clip = noting(pack, "tensors")


def die_before_change(number: int) -> None:
    """End this process before its n-th change of the file system; in a child."""
    left = iter(range(number))

    def dying(function):
        def call(*args, **kwargs):
            if next(left, None) is None:
                os._exit(DIED)
            return function(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))


class Secured:
    """The contents that the next run of a stage need not make, as far as the promise goes."""

    def __init__(self, folder: Path, md5s: dict[str, int]) -> None:
        self._folder, self._md5s = folder, md5s
        self.contents = set(FIRST.values())
        self.is_exact = True

    def finish(self, wanted: set[int], made: int) -> None:
        """A run came to its end: it made what was not secured."""
        if self.is_exact:
            assert made == len(wanted - self.contents)
        assert made <= len(wanted - self.contents)
        self.contents, self.is_exact = wanted, True

    def die(self, wanted: set[int], begun: list[int]) -> None:
        """A run was killed: it may lose what it was making, and what it did not want."""
        assert set(begun) <= wanted - self.contents
        self.contents = (self.contents & wanted) | set(begun[:-1])
        self.is_exact = False

    def heed_edits(self) -> None:
        """Somebody changed the output: what is whole nowhere must be made again."""
        staging = self._folder.with_name(f".{self._folder.name}.partial")
        files = [path for at in (self._folder, staging) for path in at.rglob("*") if path.is_file()]
        self.contents = self.contents & {self._md5s.get(file_md5(path)) for path in files}


@pytest.fixture(scope="module")
def md5s(tmp_path_factory: pytest.TempPathFactory, pool: list[Path]) -> dict[str, int]:
    """Content by the MD5 of its archive and of its tensor."""
    clips = {f"Jump/{content}": content for content in CONTENTS}
    workspace = Workspace(tmp_path_factory.mktemp("md5s"), pool, clips)
    workspace.run()
    made = [*workspace.frames.rglob("*.zip"), *workspace.tensors.rglob("*.pt")]
    md5s = {file_md5(path): int(path.stem) for path in made}
    assert len(md5s) == 2 * len(clips)
    return md5s


NAMES = [f"{label}/{name}" for label in ("Jump", "Walk") for name in "abc"]
Edit = Callable[[Workspace, int, int], None]


def choose(items: Iterable[str], number: int) -> str:
    """One of them, in their order; the number may be any."""
    ordered = sorted(items)
    return ordered[number % len(ordered)]


def add(workspace: Workspace, number: int, other: int) -> None:
    """A clip, or another content under a name that is there; a twin where its content is."""
    workspace.put(choose(NAMES, number), CONTENTS[other % len(CONTENTS)])


def move(workspace: Workspace, number: int, other: int) -> None:
    """Another name, perhaps in another class, perhaps one that is there."""
    workspace.put(choose(NAMES, other), workspace.take(choose(workspace.contents, number)))


def remove(workspace: Workspace, number: int, other: int) -> None:
    if len(workspace.contents) > 1:
        workspace.take(choose(workspace.contents, number))


def swap(workspace: Workspace, number: int, other: int) -> None:
    workspace.swap(choose(workspace.contents, number), choose(workspace.contents, other))


def change_side(workspace: Workspace, number: int, other: int) -> None:
    workspace.sides[choose(workspace.contents, number)] = other % len(SIDES)


def edit_output(workspace: Workspace, number: int, other: int) -> None:
    if workspace.outputs():
        (workspace.root / choose(workspace.outputs(), number)).write_text("by hand")


def delete_output(workspace: Workspace, number: int, other: int) -> None:
    if workspace.outputs():
        (workspace.root / choose(workspace.outputs(), number)).unlink()


def add_to_output(workspace: Workspace, number: int, other: int) -> None:
    path = workspace.root / choose(STAGES, number) / f"{choose(NAMES, other)}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("by hand")


NUMBERS = st.integers(0, 11)
EDITS = st.sampled_from(
    [add, move, remove, swap, change_side, edit_output, delete_output, add_to_output]
)
# A run changes the file system some 20 to 140 times. None: it comes to its end.
DEATHS = st.none() | st.integers(0, 150)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pool: list[Path]) -> Workspace:
    """After a run of three clips; to be copied."""
    finished = Workspace(tmp_path_factory.mktemp("finished") / "work", pool, FIRST)
    finished.run()
    return finished


def copy_workspace(finished: Workspace, root: Path) -> Workspace:
    shutil.copytree(finished.root, root)
    return Workspace(root, finished.pool, finished.contents)


@pytest.mark.slow
@settings(max_examples=25)
@given(steps=st.lists(st.tuples(EDITS, NUMBERS, NUMBERS, DEATHS), min_size=1, max_size=6))
def test_an_incremental_run_equals_a_clean_one(tmp_path_factory, finished, md5s, steps):
    root = tmp_path_factory.mktemp("work")
    workspace = copy_workspace(finished, root / "work")
    secured = [Secured(workspace.root / stage, md5s) for stage in STAGES]
    for place, (edit, number, other, death) in enumerate(steps, start=1):
        edit(workspace, number, other)
        wanted = set(workspace.contents.values())
        for one in secured:
            one.heed_edits()
        if death is not None:
            _, begun = run_in_child(workspace, dies_before_change=death)
            for one, stage in zip(secured, STAGES, strict=True):
                one.die(wanted, begun[stage])
        if death is None or place == len(steps):
            for one, counts in zip(secured, workspace.run(), strict=True):
                one.finish(wanted, counts.made)
            workspace.refuse_difference(root / f"clean {place}")
    shutil.rmtree(root)


def edit_much(workspace: Workspace) -> None:
    """Something to make, to move, to copy, to remove, and a new class."""
    workspace.swap("Jump/a", "Walk/c")
    workspace.put("New/x", 4)
    workspace.put("New/twin", 0)
    workspace.sides["New/x"] = 2
    workspace.take("Jump/b")


@pytest.mark.slow
def test_wherever_a_run_is_killed_an_index_that_is_there_tells_the_truth(finished, tmp_path):
    """And no later run makes anew what the finished one had made."""
    for number in itertools.count():
        workspace = copy_workspace(finished, tmp_path / str(number) / "work")
        edit_much(workspace)
        died, _ = run_in_child(workspace, dies_before_change=number)
        assert find_lies(workspace) == [], number
        assert max(counts.made for counts in workspace.run()) <= 1, number
        if not died:
            break
    workspace.refuse_difference(tmp_path / "clean")
    assert number > 50


@pytest.mark.slow
def test_wherever_room_ends_the_output_stays_and_the_next_run_completes(finished, tmp_path):
    for number in itertools.count():
        workspace = copy_workspace(finished, tmp_path / str(number) / "work")
        edit_much(workspace)
        problems = [
            run_without_room(workspace, stage, number=number) for stage in ("extract", "pack")
        ]
        if not any(problems):
            break
        if number % 10 == 0:
            workspace.refuse_difference(tmp_path / f"clean {number}")
    workspace.refuse_difference(tmp_path / "clean")
    assert number > 10


def run_without_room(workspace: Workspace, stage: str, *, number: int) -> WriteError | None:
    """Run a stage for which the disk is full at its n-th file or folder, then with room again."""
    before = workspace.outputs()
    problem = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mkdir", full_at(number, calls := itertools.count(), os.mkdir))
        patch.setattr(os, "fsync", full_at(number, calls, lambda _: None))
        try:
            getattr(workspace, stage)()
        except WriteError as error:
            problem = error
    if problem:
        assert "No space left on device" in str(problem)
        assert workspace.outputs() == before, number
        getattr(workspace, stage)()
    return problem


def full_at(number: int, calls: Iterator[int], function: Callable) -> Callable:
    """The function, but the n-th of all calls finds no room, and all after it."""

    def call(*args, **kwargs):
        if next(calls) >= number:
            # The system names folders, not files that are open already.
            named = [str(args[0])] if isinstance(args[0], Path) else []
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)
        return function(*args, **kwargs)

    return call


def find_lies(workspace: Workspace) -> list[str]:
    """Files that an index names and that are not there, or are not what it says."""
    kinds = [
        (workspace.frames, FramesRow, kinetrack.stages.frames.read_rows("")),
        (workspace.tensors, TensorsRow, kinetrack.stages.tensors.read_rows("")),
    ]
    return [
        f"{folder.name}/{path}"
        for folder, kind, reading in kinds
        if (folder / INDEX_NAME).exists()
        for path, md5 in reading.files(read_index(folder / INDEX_NAME, kind, remedy="")).items()
        if not (folder / path).exists() or file_md5(folder / path) != md5
    ]
