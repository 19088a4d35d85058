"""`kinetrack import` from every kind of source, without DVC; test_import_pipeline has it with."""

import json
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from kinetrack.cli import importing
from kinetrack.cli.importing import ImportOptions, choose_pattern, import_collection
from kinetrack.cli.main import main
from kinetrack.collecting import gathering
from kinetrack.collecting.catalogue import CATALOGUE, KnownCollection
from kinetrack.data.index import FramesRow
from kinetrack.errors import InputError
from kinetrack.stages.frames import extract_all
from kinetrack.versioning.dataset_facts import DatasetFacts

from archives_made import write_rar
from factories import FRAMES_PARAMS, GROUP_PATTERN, write_data_set, write_video

OPTIONS = ImportOptions(
    name="kitchen",
    local=None,
    manifest=None,
    lists=None,
    label_from="top",
    group_pattern=GROUP_PATTERN,
    on_broken="fail",
    checksum=None,
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with params.yaml; what would go to DVC is not called."""
    folder = tmp_path / "project"
    (folder / "data/videos").mkdir(parents=True)
    shutil.copyfile(Path(__file__).parents[2] / "presets/sample.yaml", folder / "params.yaml")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(importing, "require_repository", lambda root: None)
    monkeypatch.setattr(importing, "add_data", lambda path, *, root, facts: None)
    return folder


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips below `UCF/`, as the archives of UCF101 have it; read only."""
    folder = tmp_path_factory.mktemp("collection")
    write_data_set(folder / "UCF", num_frames=10)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pack_zip(source: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files_of(source).items():
            zipped.writestr(name, content)


def pack_tar(source: Path, archive: Path) -> None:
    with tarfile.open(archive, f"w:{archive.suffix[1:].replace('tar', '')}") as tar:
        tar.add(source / "UCF", "UCF")


def pack_rar(source: Path, archive: Path) -> None:
    write_rar(archive, files_of(source))


def bring_in(source: Path | str, root: Path, **options: object) -> Path:
    import_collection(str(source), OPTIONS._replace(**options), root=root)
    return root / "data/videos" / str(options.get("name", "kitchen"))


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("all.zip", pack_zip),
        ("all.tar", pack_tar),
        ("all.tar.gz", pack_tar),
        ("all.tar.xz", pack_tar),
        ("all.rar", pack_rar),
    ],
)
def test_archive_gives_what_the_folder_gives(
    collection: Path, root: Path, tmp_path: Path, name: str, pack: Callable[[Path, Path], None]
) -> None:
    pack(collection, tmp_path / name)
    from_folder = bring_in(collection, root, name="one")
    from_archive = bring_in(tmp_path / name, root, name="other")
    assert len(files_of(from_folder)) == 6
    assert files_of(from_archive) == files_of(from_folder) == files_of(collection / "UCF")


def index_of(folder: Path, tmp_path: Path) -> list[FramesRow]:
    return extract_all(FRAMES_PARAMS, videos=folder, frames=tmp_path / f"frames/{folder.name}").rows


def test_manifest_gives_what_the_folder_gives(collection: Path, root: Path, tmp_path: Path) -> None:
    rows = [
        {"path": path.relative_to(collection).as_posix(), "label": path.parent.name}
        for path in collection.rglob("*.avi")
    ]
    (collection / "list.json").write_text(json.dumps(rows))
    named = index_of(bring_in(collection / "list.json", root, name="named"), tmp_path)
    sorted_by_folder = index_of(bring_in(collection, root, name="sorted"), tmp_path)
    assert [row.model_copy(update={"video": ""}) for row in named] == [
        row.model_copy(update={"video": ""}) for row in sorted_by_folder
    ]


def test_segments_are_the_frames_of_the_whole(root: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "in/take.avi", num_frames=50)
    (tmp_path / "list.csv").write_text(
        "path,label,group,start_s,end_s\n"
        "take.avi,Jump,anna,,1.2\n"
        "take.avi,Walk,anna,1.2,2\n"
        "take.avi,Whole,anna,,\n"
        "take.avi,Whole too,anna,0,2\n"
    )
    folder = bring_in(tmp_path / "in", root, manifest=tmp_path / "list.csv")
    jump, walk, whole, whole_too = index_of(folder, tmp_path)
    assert (jump.num_frames, walk.num_frames, whole.num_frames) == (30, 20, 50)
    assert whole_too.frames_sha256 == whole.frames_sha256 != jump.frames_sha256
    frames = tmp_path / "frames/kitchen"
    with (
        zipfile.ZipFile(frames / "Walk/take_00001200_00002000.zip") as part,
        zipfile.ZipFile(frames / "Whole/take.zip") as all_of_it,
    ):
        assert part.read("frame_0001.jpg") == all_of_it.read("frame_0031.jpg")


def test_source_is_left_as_it_was(collection: Path, root: Path) -> None:
    before = files_of(collection)
    target = bring_in(collection, root)
    (target / "Jump/v_Jump_g01_c01.avi").write_bytes(b"edited")
    assert files_of(collection) == before


def test_table_says_what_the_collection_holds(
    collection: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_in(collection, root)
    screen = capsys.readouterr().out
    row = next(line for line in screen.splitlines() if "Jump" in line)
    assert [cell.strip() for cell in row.split("│")][1:4] == ["Jump", "3", "3"]
    assert "64x48" in row
    assert "25" in row
    following = screen[screen.index("Next: ") :].splitlines()
    assert [line.removeprefix("Next:").partition("#")[0].strip() for line in following] == [
        "kinetrack use kitchen",
        "kinetrack preset recipe --keep-dataset",
        "kinetrack check",
        "make repro",
    ]


def test_broken_video_is_refused_by_name_and_nothing_stays(
    collection: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(collection / "UCF", tmp_path / "in")
    (tmp_path / "in/Jump/v_Jump_g09_c01.avi").write_text("no video")
    with pytest.raises(InputError, match=r"^Jump/v_Jump_g09_c01\.avi: cannot be opened"):
        bring_in(tmp_path / "in", root)
    assert list((root / "data/videos").iterdir()) == []


def test_broken_videos_are_left_out_when_that_is_asked_for(
    collection: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(collection / "UCF", tmp_path / "in")
    (tmp_path / "in/Jump/v_Jump_g09_c01.avi").write_text("no video")
    target = bring_in(tmp_path / "in", root, on_broken="skip")
    assert files_of(target) == files_of(collection / "UCF")
    assert "Jump/v_Jump_g09_c01.avi: cannot be opened" in capsys.readouterr().out


def test_name_without_group_is_named_by_its_place(
    collection: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(collection / "UCF", tmp_path / "in")
    write_video(tmp_path / "in/Jump/holiday.avi", num_frames=2)
    with pytest.raises(InputError, match=r"^Jump/holiday\.avi: has no group"):
        bring_in(tmp_path / "in", root)
    target = bring_in(tmp_path / "in", root, group_pattern=None)
    assert len(files_of(target)) == 7


@pytest.mark.parametrize("name", ["", "Kitchen", "a/b", "..", "-x", "sample", "a.b"])
def test_name_of_the_data_set_is_plain(collection: Path, root: Path, name: str) -> None:
    expected = "--name: is no name for a data set.* small letters, digits, - and _"
    with pytest.raises(InputError, match=expected):
        bring_in(collection, root, name=name)


@pytest.mark.parametrize(
    ("name", "near"), [("My clips!", "my-clips"), ("..", "NAME"), ("sample", "NAME"), ("", "NAME")]
)
def test_name_that_is_near_is_proposed(collection: Path, root: Path, name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"-> --name {near}$"):
        bring_in(collection, root, name=name)


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        (
            ["kitchen"],
            "kitchen: is there already, but not under DVC -> dvc add data/videos/kitchen",
        ),
        (["kitchen.dvc"], r"elsewhere -> dvc pull data/videos/kitchen\.dvc"),
        (
            ["kitchen", "kitchen.dvc"],
            "is there already -> choose another --name; to add clips: copy",
        ),
    ],
)
def test_data_set_that_is_there_is_not_replaced(
    collection: Path, root: Path, taken: list[str], reason: str
) -> None:
    for name in taken:
        (root / "data/videos" / name).mkdir()
    with pytest.raises(InputError, match=reason):
        bring_in(collection, root)
    assert sorted(path.name for path in (root / "data/videos").iterdir()) == taken


def test_second_import_of_a_name_at_once_is_refused(collection: Path, root: Path) -> None:
    (root / ".kinetrack").mkdir()
    with (
        FileLock(root / ".kinetrack/import-kitchen.lock"),
        pytest.raises(InputError, match="another import of kitchen is running"),
    ):
        bring_in(collection, root)
    assert len(files_of(bring_in(collection, root))) == 6


def test_data_set_that_came_meanwhile_is_not_replaced(
    collection: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, theirs = importing.gather, root / "data/videos/kitchen/theirs.avi"

    def gather_while_another_pulls(*args: Any, **options: Any) -> Any:
        theirs.parent.mkdir()
        theirs.touch()
        return gather(*args, **options)

    monkeypatch.setattr(importing, "gather", gather_while_another_pulls)
    with pytest.raises(InputError, match="is there already"):
        bring_in(collection, root)
    assert theirs.exists()


def test_full_disk_is_told_in_one_line(
    collection: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_to_full_disk(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(gathering, "copy_file", copy_to_full_disk)
    with pytest.raises(InputError, match="cannot be read or written, found No space left"):
        bring_in(collection, root)
    assert list((root / "data/videos").iterdir()) == []


def test_interrupted_import_says_that_nothing_was_imported(
    collection: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (root / "dvc.yaml").touch()
    monkeypatch.setattr(importing, "gather", _interrupt)
    monkeypatch.setattr(sys, "argv", ["kinetrack", "import", str(collection), "--name", "kitchen"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "import: interrupted; nothing was imported\n"
    assert list((root / "data/videos").iterdir()) == []


def test_import_interrupted_before_dvc_has_it_says_what_to_remove(
    collection: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importing, "add_data", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        bring_in(collection, root)
    told = capsys.readouterr().err
    assert "data/videos/kitchen is not under version control yet -> rm -rf data/v" in told
    remedy = told.partition("-> ")[2].partition(", then")[0]
    subprocess.run(shlex.split(remedy), cwd=root, check=True)
    monkeypatch.undo()
    assert list((root / "data/videos").iterdir()) == []


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_data_is_under_dvc_before_anything_is_printed(
    collection: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[tuple[Path, str | None]] = []

    def add_data(path: Path, *, root: Path, facts: DatasetFacts) -> None:
        added.append((path, facts.group_pattern))

    monkeypatch.setattr(importing, "add_data", add_data)
    monkeypatch.setattr(importing, "print_report", _raise_broken_pipe)
    with pytest.raises(BrokenPipeError):
        bring_in(collection, root)
    assert added == [(Path("data/videos/kitchen"), GROUP_PATTERN)]


def _raise_broken_pipe(*_: object) -> None:
    raise BrokenPipeError


def test_downloads_of_other_imports_stay(collection: Path, root: Path) -> None:
    other = root / ".kinetrack/downloads/0123/UCF101.rar"
    other.parent.mkdir(parents=True)
    other.touch()
    bring_in(collection, root)
    assert other.exists()


@pytest.mark.parametrize("wrapper", ["", "up/"])
def test_manifest_beside_the_videos_is_heeded(root: Path, tmp_path: Path, wrapper: str) -> None:
    folder = tmp_path / "in" / wrapper
    write_video(folder / "day1/take.avi", num_frames=20)
    (folder / "manifest.csv").write_text(
        "path,label,start_s,end_s\nday1/take.avi,Jump,0,0.4\nday1/take.avi,Walk,0.4,\n"
    )
    target = bring_in(tmp_path / "in", root, group_pattern=None)
    params = FRAMES_PARAMS.model_copy(update={"group_pattern": None})
    rows = extract_all(params, videos=target, frames=tmp_path / "frames").rows
    assert [(row.label, row.num_frames, row.group) for row in rows] == [
        ("Jump", 10, "day1/take.avi"),
        ("Walk", 10, "day1/take.avi"),
    ]


def test_class_of_broken_videos_leaves_no_empty_folder(
    collection: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(collection / "UCF", tmp_path / "in")
    (tmp_path / "in/Bad").mkdir()
    (tmp_path / "in/Bad/v_Bad_g01_c01.avi").write_text("no video")
    target = bring_in(tmp_path / "in", root, on_broken="skip")
    assert sorted(path.name for path in target.iterdir()) == ["Jump", "Walk"]


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        ("nowhere", {}, "nowhere: is not there, expected a folder, an archive"),
        ("nowhere", {"checksum": "sha256:0"}, "--checksum: is for what is downloaded"),
        ("nowhere", {"local": Path("x")}, "--local: is for ucf101 alone"),
        ("list.csv", {"label_from": "parent"}, "--label-from: has no effect"),
        ("ftp://host/a.zip", {}, "ftp://host/a.zip"),
        ("http://127.0.0.1:9/a.zip", {}, "http://127.0.0.1:9/a.zip"),
    ],
)
def test_source_that_is_none_is_named(
    root: Path, source: str, options: dict[str, object], reason: str
) -> None:
    (root / "list.csv").write_text("path,label\na.avi,Jump\n")
    with pytest.raises(InputError, match=reason):
        bring_in(source, root, **options)
    assert list((root / "data/videos").iterdir()) == []


def test_folder_that_holds_the_project_is_refused(root: Path) -> None:
    for source in (root, root.parent):
        with pytest.raises(InputError, match="holds this project"):
            bring_in(source, root)


def test_hostile_archive_leaves_nothing(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as zipped:
        zipped.writestr("Jump/1.avi", "x")
        zipped.writestr("../../escaped.avi", "x")
    with pytest.raises(InputError, match=r"all\.zip"):
        bring_in(tmp_path / "all.zip", root)
    assert list((root / "data/videos").iterdir()) == []
    assert list(tmp_path.rglob("escaped*")) == []


def write_lists(folder: Path, train: str, test: str) -> Path:
    folder.mkdir()
    (folder / "trainlist01.txt").write_text(train)
    (folder / "testlist01.txt").write_text(test)
    return folder


def test_lists_go_into_the_manifest_and_differences_are_told(
    collection: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = "Jump/v_Jump_g01_c01.avi 1\nWalk/v_Walk_g01_c01.avi 2\nWalk/v_Walk_g77_c01.avi 2"
    lists = write_lists(tmp_path / "lists", train, "Jump/v_Jump_g02_c01.avi")
    rows = index_of(bring_in(collection, root, lists=lists), tmp_path)
    assert [row.official for row in rows] == ["train", "test", "", "train", "", ""]
    screen = capsys.readouterr().out
    assert "1 in the lists, but not in the collection:\n  Walk/v_Walk_g77_c01" in screen
    assert "3 in the collection, but in no list:\n  Jump/v_Jump_g03_c01" in screen


@pytest.fixture
def small_ucf101(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownCollection(
        "", "", classes=2, clips=6, groups_per_class=3, group_pattern=GROUP_PATTERN
    )
    monkeypatch.setitem(CATALOGUE, "ucf101", known)


@pytest.mark.usefixtures("small_ucf101")
def test_known_collection_comes_from_a_local_copy(
    collection: Path, root: Path, tmp_path: Path
) -> None:
    pack_rar(collection, tmp_path / "UCF101.rar")
    target = bring_in("ucf101", root, local=tmp_path / "UCF101.rar", name="ucf101")
    assert files_of(target) == files_of(collection / "UCF")


@pytest.mark.usefixtures("small_ucf101")
def test_known_collection_that_is_not_whole_is_refused(
    collection: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(collection, tmp_path / "in")
    (tmp_path / "in/UCF/Walk/v_Walk_g03_c01.avi").unlink()
    with pytest.raises(InputError, match="found 2 classes, 5 clips, 2 groups in Walk"):
        bring_in("ucf101", root, local=tmp_path / "in")
    assert list((root / "data/videos").iterdir()) == []


def test_a_place_for_the_lock_that_cannot_be_made_is_one_line(collection: Path, root: Path) -> None:
    (root / ".kinetrack").touch()
    with pytest.raises(InputError, match=r"\.kinetrack: cannot be read or written"):
        bring_in(collection, root)


def test_pattern_is_that_of_the_params_unless_given(root: Path) -> None:
    assert choose_pattern(None, no_groups=False) == GROUP_PATTERN
    assert choose_pattern("(x)", no_groups=False) == "(x)"
    assert choose_pattern(None, no_groups=True) is None


@pytest.mark.usefixtures("small_ucf101")
def test_known_collection_has_its_own_pattern_whatever_data_set_is_in_use(
    collection: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace(r"_g(\d+)_c\d+$", r"'^(tape\d+) '"))
    assert choose_pattern(None, no_groups=False) == r"^(tape\d+) "
    command = ["kinetrack", "import", "ucf101", "--local", str(collection)]
    monkeypatch.setattr(sys, "argv", command)
    (root / "dvc.yaml").touch()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert len(list((root / "data/videos/ucf101").rglob("*.avi"))) == 6


@pytest.mark.parametrize(("pattern", "no_groups"), [("x", False), ("(", False), ("(x)", True)])
def test_pattern_that_contradicts_is_refused(root: Path, pattern: str, no_groups: bool) -> None:
    with pytest.raises(InputError, match="group"):
        choose_pattern(pattern, no_groups=no_groups)
