import hashlib
import json
from pathlib import Path

import pytest

from kinetrack.versioning.cache import object_path
from kinetrack.versioning.holdings import holds


def put(cache: Path, content: bytes, *, suffix: str = "") -> str:
    md5 = hashlib.md5(content).hexdigest() + suffix
    path = object_path(cache, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def put_folder(cache: Path, *contents: bytes) -> tuple[str, list[str]]:
    """Put files and the list of them; return its MD5 and theirs."""
    md5s = [put(cache, content) for content in contents]
    entries = [{"md5": md5, "relpath": f"Jump/{n}.pt"} for n, md5 in enumerate(md5s)]
    return put(cache, json.dumps(entries).encode(), suffix=".dir"), md5s


def test_a_file_is_held_or_not(tmp_path: Path) -> None:
    md5 = put(tmp_path, b"a")
    assert holds(tmp_path, md5) == "yes"
    object_path(tmp_path, md5).unlink()
    assert holds(tmp_path, md5) == "no"


@pytest.mark.parametrize(
    ("missing", "held"), [([], "yes"), ([0], "part"), ([1, 2], "part"), ([0, 1, 2], "no")]
)
def test_a_folder_is_held_as_far_as_its_files_are(
    tmp_path: Path, missing: list[int], held: str
) -> None:
    folder, files = put_folder(tmp_path, b"a", b"b", b"c")
    for number in missing:
        object_path(tmp_path, files[number]).unlink()
    assert holds(tmp_path, folder) == held


def test_an_empty_folder_is_held_with_its_list(tmp_path: Path) -> None:
    folder, _ = put_folder(tmp_path)
    assert holds(tmp_path, folder) == "yes"


@pytest.mark.parametrize("damage", [None, b"[", b'[{"md5": "../../secret", "relpath": "a"}]'])
def test_a_folder_without_its_list_is_not_held(tmp_path: Path, damage: bytes | None) -> None:
    folder, _ = put_folder(tmp_path, b"a")
    object_path(tmp_path, folder).unlink()
    if damage is not None:
        object_path(tmp_path, folder).write_bytes(damage)
    assert holds(tmp_path, folder) == "no"


@pytest.mark.parametrize("md5", ["", "abc", "..{secret}", "a" * 32 + "\n", "\0" * 32, "é.dir"])
def test_what_is_no_md5_is_not_held(tmp_path: Path, md5: str) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    assert object_path(tmp_path, f"..{secret}").exists()
    assert holds(tmp_path, md5.format(secret=secret)) == "no"


def test_a_folder_in_the_place_of_a_file_does_not_count(tmp_path: Path) -> None:
    md5 = put(tmp_path, b"a")
    object_path(tmp_path, md5).unlink()
    object_path(tmp_path, md5).mkdir()
    assert holds(tmp_path, md5) == "no"


def test_files_are_looked_for_and_not_read(tmp_path: Path) -> None:
    folder, [file] = put_folder(tmp_path, b"a")
    object_path(tmp_path, file).write_bytes(b"other bytes, which `kinetrack verify` finds")
    assert holds(tmp_path, folder) == "yes"
