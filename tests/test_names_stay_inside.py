"""A name from elsewhere stays below its folder, or is refused, whichever file it is read from.

Archives: `collecting/test_archives.py`; pages of clips: `cli/test_data.py`.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kinetrack.collecting.collections import plan_folders, plan_manifest
from kinetrack.collecting.official import read_official
from kinetrack.data.clips import list_clips
from kinetrack.data.index import DroppedRow, FramesRow, TensorsRow, read_index, tensor_path
from kinetrack.data.manifest import read_manifest
from kinetrack.errors import InputError
from kinetrack.splitting.splits import read_split

from factories import frames_row

characters = st.sampled_from("./\\:~aA\0\n\r\t é\u0301\u202e\ud800") | st.characters()
hostile = st.sampled_from(
    [
        *("..", ".", "", "/", "../../x", "/etc/passwd", "a/../../b", "a/..", "..\\x", "C:\\x"),
        *("a\0b", "\ud800", "~/x", "-rf", "x" * 251, "x" * 252, "é" * 126, "x" * 5000, " ", "\n"),
    ]
)
plain = st.text(st.sampled_from("abc _-.é"), min_size=1, max_size=8)
names = st.one_of(plain, plain, hostile, st.text(characters, max_size=12))
paths = st.one_of(names, st.lists(names, max_size=4).map("/".join))
# What a file system takes for a name, bytes that are no UTF-8 too.
file_names = (
    st.binary(min_size=1, max_size=20)
    .map(lambda name: name.replace(b"/", b"a").replace(b"\0", b"b"))
    .filter(lambda name: name not in (b".", b".."))
    .map(os.fsdecode)
) | plain.filter(lambda name: name not in (".", ".."))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@contextmanager
def let_in() -> Iterator[None]:
    """What is let in is looked at; what is refused, is in one bounded line."""
    problem = ""
    try:
        yield
        event("let in")
    except InputError as error:
        event("refused")
        problem = str(error)
    assert problem == "" or problem.isprintable()
    assert len(problem) < 10_000


def assert_inside(*names: str, suffix: str = ".zip") -> None:
    """Check that these names make a file right below folders of these names, as on any disk."""
    root = Path("/root")
    path = Path(root, *names[:-1], f"{names[-1]}{suffix}")
    assert Path(os.path.normpath(path)) == path
    assert path.relative_to(root).parts == (*names[:-1], f"{names[-1]}{suffix}")
    assert all(len(os.fsencode(name)) <= 255 for name in path.parts)
    assert "\0" not in str(path)


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    return path


seconds = st.floats(0, allow_nan=False) | st.just(1e308)


rows = st.fixed_dictionaries(
    {"path": paths, "label": names}, optional={"clip": names, "start_s": seconds}
)


@settings(max_examples=200)
@given(row=rows, is_json=st.booleans())
def test_of_a_manifest(tmp_path_factory, row, is_json):
    root = tmp_path_factory.getbasetemp()
    write = write_json if is_json else write_table
    file = write(root / f"list.{'json' if is_json else 'csv'}", [row])
    with let_in():
        [read] = read_manifest(file)
        assert_inside(*read.path.split("/"), suffix="")
        assert_inside(read.label, read.clip_name)
        with pytest.raises(InputError, match=r"which is not in|is no regular file"):
            plan_manifest(root, [read], manifest=file)


clip_ids = st.tuples(plain, plain).map("/".join) | paths


@given(train=st.lists(clip_ids, max_size=2), test=st.lists(clip_ids, max_size=2))
def test_of_a_split(tmp_path_factory, train, test):
    values = {"rule": {}, "fingerprint": "", "labels": [], "train": train, "val": [], "test": test}
    file = write_json(tmp_path_factory.getbasetemp() / "split.json", values)
    with let_in():
        split = read_split(file)
        for clip in [*split.train, *split.test]:
            assert_inside(*clip.split("/"))


@given(clip=names, label=names, side=names | st.sampled_from(["train", "test"]))
def test_of_an_index(tmp_path_factory, clip, label, side):
    file = tmp_path_factory.getbasetemp() / "index.csv"
    write_table(
        file, [{**vars(frames_row("a", label="A", group="1")), "clip": clip, "label": label}]
    )
    with let_in():
        [row] = read_index(file, FramesRow, remedy="")
        assert_inside(row.label, row.clip)
    write_table(file, [{"clip": clip, "label": label, "side": side, "reason": clip}])
    with let_in():
        [dropped] = read_index(file, DroppedRow, remedy="")
        assert_inside(dropped.label, dropped.clip)
    rest = dict.fromkeys(("group", "video", "frames_sha256", "archive_md5", "tensor_md5"), "")
    counts = {"num_frames": 1, "packed_frames": 1, "is_short": False}
    write_table(file, [{"clip": clip, "label": label, "side": side, **rest, **counts}])
    with let_in():
        [packed] = read_index(file, TensorsRow, remedy="")
        path = tensor_path(Path("/root"), packed.side, packed.label, packed.clip)
        assert_inside(packed.side, packed.label, packed.clip, suffix=".pt")
        assert path == Path("/root", packed.side, packed.label, f"{packed.clip}.pt")


@given(lines=st.lists(paths, min_size=1, max_size=3))
def test_of_official_lists(tmp_path_factory, lines):
    folder = tmp_path_factory.getbasetemp() / "lists"
    folder.mkdir(exist_ok=True)
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    (folder / "trainlist01.txt").write_bytes(text)
    (folder / "testlist01.txt").write_bytes(b"A/z.avi\n")
    with let_in():
        for clip in read_official(folder).words:
            assert_inside(*clip.split("/"))


@given(
    files=st.lists(st.lists(file_names, min_size=1, max_size=3), min_size=1, max_size=4),
    label_from=st.sampled_from(["top", "parent"]),
)
def test_of_a_collection_of_files(tmp_path_factory, files, label_from):
    """Of a folder of videos as people keep them, and of one as a data set lies."""
    root = tmp_path_factory.mktemp("files")
    for *parents, name in files:
        try:
            path = Path(root, *parents, f"{name}.avi")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError:  # a file where a folder should be
            continue
    with let_in():
        for placement in plan_folders(root, label_from=label_from).placements:
            label, name = placement.place.split("/")
            assert_inside(label, Path(name).stem)
            assert placement.source.is_relative_to(root)
    with let_in():
        for clip in list_clips(root, classes="all", group_pattern=None):
            assert_inside(clip.label, clip.name)
            assert clip.path.is_relative_to(root)
    shutil.rmtree(root)
