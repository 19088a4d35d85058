import io
import zipfile

import pytest
import torch

from kinetrack.data.frame_archives import frame_name
from kinetrack.data.index import INDEX_NAME, FramesRow, TensorsRow, read_index, write_index
from kinetrack.data.soundness import check_frames, check_manifest, check_tensors
from kinetrack.files import file_md5

from factories import frames_row, write_packed
from frame_archives import write_archive


@pytest.fixture
def frames(tmp_path):
    """A folder of two whole clips and a broken one."""
    rows = [frames_row("c", label="Walk", group="1", status="broken")]
    for clip in ("a", "b"):
        md5 = file_md5(write_archive(tmp_path / f"Walk/{clip}.zip"))
        row = frames_row(clip, label="Walk", group="1")
        rows.append(row.model_copy(update={"archive_md5": md5}))
    write_index(tmp_path / INDEX_NAME, FramesRow, rows)
    return tmp_path


@pytest.fixture
def tensors(tmp_path):
    return write_packed(tmp_path, labels=("Walk",), clips_per_class=1)


def flaws(opened):
    return [(flaw.path.name, flaw.problem) for flaw in opened.flaws]


def adopt(folder, kind, column):
    """Have the index take the files for right as they are now: what it says of them stays."""
    rows = read_index(folder / INDEX_NAME, kind, remedy="")
    md5s = {path.stem: file_md5(path) for path in folder.rglob("*.*") if path.suffix != ".csv"}
    new = [row.model_copy(update={column: md5s.get(row.clip, "")}) for row in rows]
    write_index(folder / INDEX_NAME, kind, new)


def test_whole_archives_are_sound(frames):
    assert check_frames(frames, md5s={}) == (2, [])


def test_an_archive_with_other_bytes_is_named(frames):
    path = frames / "Walk/a.zip"
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    expected = [("a.zip", "is not the file that index.csv names by its MD5")]
    assert flaws(check_frames(frames, md5s={})) == expected
    adopt(frames, FramesRow, "archive_md5")
    assert flaws(check_frames(frames, md5s={})) == [("a.zip", "has a damaged frame_0001.jpg")]


def test_what_is_hashed_already_is_not_hashed_again(frames, monkeypatch):
    monkeypatch.setattr("kinetrack.data.soundness.file_md5", lambda path: pytest.fail("hashed"))
    md5s = {path: file_md5(path) for path in frames.glob("*/*.zip")}
    assert check_frames(frames, md5s=md5s).flaws == []
    md5s[frames / "Walk/a.zip"] = "0" * 32
    assert len(check_frames(frames, md5s=md5s).flaws) == 1


def test_missing_and_extra_archives_are_named(frames):
    (frames / "Walk/a.zip").rename(frames / "Walk/z.zip")
    assert flaws(check_frames(frames, md5s={})) == [
        ("a.zip", "is named by index.csv, but is not there"),
        ("z.zip", "is not in index.csv"),
    ]


def rewrite(path, *, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for name, content in members:
            zipped.writestr(name, content)


def members_of(path):
    with zipfile.ZipFile(path) as zipped:
        return [(name, zipped.read(name)) for name in zipped.namelist()]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda members: members[:-1], "does not hold frames 1 to 10, found 9 members"),
        (lambda members: [], "does not hold frames 1 to 10, found 0 members"),
        (lambda members: members[::-1], "does not hold frames 1 to 10"),
        (lambda members: [*members, ("../x", b"")], "found 11 members"),
        (
            lambda members: [*members[:-1], (frame_name(10), b"no JPEG")],
            "is no whole frame archive",
        ),
        (lambda members: [(frame_name(1), members[0][1][:500]), *members[1:]], "is no whole frame"),
    ],
)
def test_an_archive_that_holds_something_else_is_named(frames, change, problem):
    path = frames / "Walk/a.zip"
    rewrite(path, members=change(members_of(path)))
    adopt(frames, FramesRow, "archive_md5")
    [(name, found)] = flaws(check_frames(frames, md5s={}))
    assert name == "a.zip"
    assert problem in found


def test_packed_members_and_another_size_are_named(frames):
    path = frames / "Walk/a.zip"
    rewrite(path, members=members_of(path), compression=zipfile.ZIP_DEFLATED)
    write_archive(frames / "Walk/b.zip", width=32)
    adopt(frames, FramesRow, "archive_md5")
    assert flaws(check_frames(frames, md5s={})) == [
        ("a.zip", "is no whole frame archive, found packed members, expected stored ones"),
        ("b.zip", "starts with a picture of (32, 48), expected (64, 48)"),
    ]


def test_no_archive_at_all_is_named(frames):
    (frames / "Walk/a.zip").write_text("none")
    adopt(frames, FramesRow, "archive_md5")
    [(_, problem)] = flaws(check_frames(frames, md5s={}))
    assert problem == "is no whole frame archive, found File is not a zip file"


@pytest.mark.parametrize("check", [check_frames, check_tensors])
def test_a_damaged_index_is_one_flaw(tmp_path, check):
    [(name, problem)] = flaws(check(tmp_path, md5s={}))
    assert (name, "cannot be read" in problem) == (INDEX_NAME, True)
    (tmp_path / INDEX_NAME).write_text("clip,label\n../x,y\n")
    assert "clip" in flaws(check(tmp_path, md5s={}))[0][1]


def test_whole_tensors_are_sound(tensors):
    assert check_tensors(tensors, md5s={}) == (3, [])


def write_tensor(path, value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.zeros(3, 5, 16, 16, dtype=torch.uint8), "of another shape, found torch.uint8 (3, 5"),
        (torch.zeros(3, 4, 16, 15, dtype=torch.uint8), "expected (3, 4, 15, 15)"),
        (torch.zeros(3, 4, 16, 16), "found torch.float32"),
        (torch.zeros((), dtype=torch.uint8), "found torch.uint8 ()"),
        ({"a": 1}, "is no packed clip, found dict"),
    ],
)
def test_a_tensor_of_another_kind_is_named(tensors, value, problem):
    write_tensor(tensors / "test/Walk/v_Walk_g03_c01.pt", value)
    adopt(tensors, TensorsRow, "tensor_md5")
    [(name, found)] = flaws(check_tensors(tensors, md5s={}))
    assert name == "v_Walk_g03_c01.pt"
    assert problem in found


def test_damaged_missing_and_extra_tensors_are_named(tensors):
    train, val, test = (tensors / side / "Walk" for side in ("train", "val", "test"))
    [path] = train.iterdir()
    path.write_bytes(path.read_bytes()[:-200])
    [gone] = val.iterdir()
    gone.rename(test / "extra.pt")
    assert flaws(check_tensors(tensors, md5s={})) == [
        (path.name, "is not the file that index.csv names by its MD5"),
        (gone.name, "is named by index.csv, but is not there"),
        ("extra.pt", "is not in index.csv"),
    ]
    adopt(tensors, TensorsRow, "tensor_md5")
    assert "is no packed clip" in dict(flaws(check_tensors(tensors, md5s={})))[path.name]


class Opener:
    def __reduce__(self):
        return open, ("/dev/null",)


def test_nothing_is_unpickled(tensors):
    [path] = (tensors / "train/Walk").iterdir()
    write_tensor(path, Opener())
    adopt(tensors, TensorsRow, "tensor_md5")
    [(_, problem)] = flaws(check_tensors(tensors, md5s={}))
    assert problem.startswith("is no packed clip, found asks for io.open")


def test_a_manifest_names_videos_that_are_there(tmp_path):
    (tmp_path / "a.avi").write_text("a")
    (tmp_path / "b.avi").symlink_to("/etc/passwd")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,label\na.avi,Walk\nb.avi,Walk\nc.avi,Walk\n")
    b, c = check_manifest(manifest)
    assert b.problem.startswith("manifest.csv names it, but it is a link out of the data set")
    assert c.problem == "manifest.csv names it, but it is no regular file, found nothing"
    manifest.write_text("path,label\na.avi,Walk\n")
    assert check_manifest(manifest) == []
    manifest.write_text("path,label\n../a.avi,Walk\n")
    assert "line 2, column path" in check_manifest(manifest)[0].problem
