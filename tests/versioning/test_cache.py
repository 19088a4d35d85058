import hashlib
import json
from pathlib import Path

import pytest

from kinetrack.files import file_md5
from kinetrack.versioning.cache import copy_out, folder_listing, object_path
from kinetrack.versioning.lock import content_md5, folder_md5

FILES = {"index.csv": b"clip,label\n", "Walk/a clip.pt": b"\0\1", "Walk/twin.pt": b"\0\1"}
HOSTILE = [
    "../escaped",
    "/tmp/escaped",
    "a/../../escaped",
    "",
    ".",
    "a//b",
    "a\0b",
    pytest.param("a/" * 100_000 + "b", id="a folder in a folder in a folder"),
]


def put(cache: Path, content: bytes) -> str:
    """Put content into a cache under its MD5, as DVC does."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = object_path(cache, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def put_listing(cache: Path, files: object) -> str:
    """Put a folder's list of files into a cache; its MD5."""
    text = json.dumps(files).encode()
    md5 = put(cache, text)
    object_path(cache, md5).rename(object_path(cache, f"{md5}.dir"))
    return f"{md5}.dir"


def put_folder(cache: Path, files: dict[str, bytes]) -> str:
    entries = [
        {"md5": put(cache, content), "relpath": name} for name, content in sorted(files.items())
    ]
    return put_listing(cache, entries)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "project/data/model"


def test_a_folder_has_its_files_and_their_md5s(cache):
    md5 = put_folder(cache, FILES)
    listing = folder_listing(cache, md5)
    assert listing is not None
    assert set(listing) == set(FILES)
    assert content_md5(listing) == md5


def test_an_empty_folder_has_no_files(cache):
    assert folder_listing(cache, put_listing(cache, [])) == {}


@pytest.mark.parametrize(
    "md5", ["0" * 32 + ".dir", "0" * 32, "", ".dir", "../../secret.dir", "A" * 32 + ".dir"]
)
def test_a_list_that_the_cache_has_not_is_none(md5, cache):
    put_folder(cache, FILES)
    (cache / "secret.dir").write_text("[]")
    assert folder_listing(cache, md5) is None


def test_a_damaged_list_is_none(cache):
    md5 = put_folder(cache, FILES)
    path = object_path(cache, md5)
    path.write_bytes(path.read_bytes().replace(b"index", b"imdex"))
    assert folder_listing(cache, md5) is None


@pytest.mark.parametrize(
    "content",
    [
        {"relpath": "a", "md5": "0" * 32},
        [{"relpath": "a"}],
        [{"relpath": ["a"], "md5": "0" * 32}],
        [{"relpath": 7, "md5": "0" * 32}],
        [{"relpath": "a", "md5": "0" * 31 + "/"}],
        [{"relpath": "a", "md5": "0" * 32 + ".dir"}],
        [{"relpath": "a", "md5": None}],
        ["a"],
        7,
    ],
)
def test_what_is_no_list_of_files_is_none(content, cache):
    assert folder_listing(cache, put_listing(cache, content)) is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_list_with_a_path_that_leaves_the_folder_is_none(name, cache, target):
    md5 = put_listing(cache, [{"relpath": name, "md5": put(cache, b"1")}])
    assert folder_listing(cache, md5) is None
    assert not copy_out(cache, md5, target)


def test_a_name_cannot_be_a_file_and_a_folder(cache):
    file = put(cache, b"1")
    entries = [{"relpath": "a", "md5": file}, {"relpath": "a/b", "md5": file}]
    assert folder_listing(cache, put_listing(cache, entries)) is None


def test_a_folder_is_copied_out(cache, target):
    md5 = put_folder(cache, FILES)
    assert copy_out(cache, md5, target)
    assert folder_md5(target) == md5
    assert (target / "Walk/a clip.pt").read_bytes() == b"\0\1"


def test_a_copy_takes_the_place_of_what_was_there(cache, target):
    target.mkdir(parents=True)
    (target / "old").touch()
    assert copy_out(cache, put_folder(cache, FILES), target)
    assert not (target / "old").exists()


def test_a_copy_is_no_link_to_the_cache(cache, target):
    assert copy_out(cache, put_folder(cache, FILES), target)
    (target / "index.csv").write_bytes(b"edited")
    cached = object_path(cache, put(cache, FILES["index.csv"]))
    assert cached.read_bytes() == FILES["index.csv"]


def damage(path: Path) -> None:
    path.write_bytes(b"damaged")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [Path.unlink, damage, replace_by_folder])
def test_nothing_is_left_of_a_folder_that_is_not_whole(harm, cache, target):
    md5 = put_folder(cache, FILES)
    harm(object_path(cache, hashlib.md5(FILES["index.csv"]).hexdigest()))
    assert not copy_out(cache, md5, target)
    assert [path.name for path in target.parent.iterdir()] == []


def test_what_was_there_stays_when_a_folder_is_not_whole(cache, target):
    md5 = put_folder(cache, FILES)
    damage(object_path(cache, hashlib.md5(FILES["index.csv"]).hexdigest()))
    target.mkdir(parents=True)
    (target / "old").write_bytes(b"1")
    assert not copy_out(cache, md5, target)
    assert [path.name for path in target.iterdir()] == ["old"]
    assert file_md5(target / "old") == hashlib.md5(b"1").hexdigest()


def test_a_name_that_no_file_can_have_makes_no_folder(cache, target):
    md5 = put_listing(cache, [{"relpath": "\ud800", "md5": put(cache, b"1")}])
    assert not copy_out(cache, md5, target)
    assert not target.exists()
