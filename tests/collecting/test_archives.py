import errno
import lzma
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
import zlib
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import rarfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetrack.collecting import archive_checks, archives
from kinetrack.collecting.archive_checks import Member
from kinetrack.collecting.archive_formats import ARCHIVE_SUFFIXES, is_archive_name
from kinetrack.collecting.archives import extract_archive, list_archive
from kinetrack.errors import InputError

from archives_made import (
    RAR5_START,
    RAR_COPY,
    RAR_HARD_LINK,
    RAR_SPLIT_AFTER,
    RAR_SPLIT_BEFORE,
    RAR_SYMBOLIC_LINK,
    TAR_END,
    padded,
    rar_encryption,
    rar_file,
    tar_block,
    tar_entry,
    tar_records,
    write_archive,
    write_rar,
    write_rar3,
    write_rar_files,
    write_tar,
    write_tar_entries,
    write_zip,
    write_zip_entries,
    zip_entry,
)

MEMBERS = {"Walk/v_Walk_g01_c01.avi": bytes(range(256)) * 40, "Jump/empty.avi": b""}
GOOD_NAMES = [
    "Walk/a b.avi",
    "Walk/ü😀.avi",
    "Walk/line\nbreak.avi",
    "-x.avi",
    ".hidden/.x",
    "a..b/...",
    "CON:/aux.txt",
    "n" * 255,
    "__MACOSX/._a",
    "a/b/c/d/e/f",
]
BAD_NAMES = {
    "../x": "leads out of the folder",
    "a/../../x": "leads out of the folder",
    "a/..": "leads out of the folder",
    "/etc/x": "absolute path",
    "//x": "absolute path",
    "C:/x": "drive letter",
    "c:x": "drive letter",
    "n" * 256: "name of more than 255 bytes",
    "ü" * 128: "name of more than 255 bytes",
    "/".join(["n" * 200] * 6): "too long a path",
    "d/" * 40 + "x": "lies too deep",
}
KINDS = ("a.zip", "a.tar", "a.rar")


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_files_come_out_as_they_went_in(tmp_path: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"a{suffix}", MEMBERS)
    assert list_archive(archive) == [
        Member("Jump/empty.avi", 0),
        Member("Walk/v_Walk_g01_c01.avi", 10240),
    ]
    paths = extract_archive(archive, new_folder(tmp_path))
    assert paths == sorted(tmp_path / "target" / name for name in MEMBERS)
    assert read_tree(tmp_path / "target") == MEMBERS


def test_files_of_an_older_rar_come_out(tmp_path: Path) -> None:
    archive = write_rar3(tmp_path / "a.rar", {"Walk\\a.avi": b"abc"})
    extract_archive(archive, new_folder(tmp_path))
    assert read_tree(tmp_path / "target") == {"Walk/a.avi": b"abc"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_odd_but_harmless_name_is_kept(tmp_path: Path, kind: str, name: str) -> None:
    archive = write_archive(tmp_path / kind, {name: b"x"})
    extract_archive(archive, new_folder(tmp_path))
    assert read_tree(tmp_path / "target") == {name: b"x"}


@pytest.mark.parametrize("kind", KINDS)
def test_dots_and_doubled_slashes_are_left_out_of_the_path(tmp_path: Path, kind: str) -> None:
    archive = write_archive(tmp_path / kind, {"./Walk//./a.avi": b"x"})
    assert list_archive(archive) == [Member("Walk/a.avi", 1)]


def test_folders_of_a_tar_are_passed_over(tmp_path: Path) -> None:
    folders = [tar_entry(name, kind=tarfile.DIRTYPE) for name in (".", "./Walk", "Walk/")]
    entries = [*((folder, b"") for folder in folders), (tar_entry("Walk/a"), b"x")]
    assert list_archive(write_tar_entries(tmp_path / "a.tar", entries)) == [Member("Walk/a", 1)]


def test_folders_of_a_zip_are_passed_over(tmp_path: Path) -> None:
    entries = [(zip_entry("Walk/", mode=stat.S_IFDIR | 0o755), b""), (zip_entry("Walk/a"), b"x")]
    assert list_archive(write_zip_entries(tmp_path / "a.zip", entries)) == [Member("Walk/a", 1)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_paths_of_every_tar_format_are_read(tmp_path: Path, form: int) -> None:
    name = f"{'c' * 90}/{'v' * 90}.avi"
    entries = [(tar_entry(name), b"x"), (tar_entry("short"), b"y")]
    archive = write_tar_entries(tmp_path / "a.tar", entries, form=form)
    assert list_archive(archive) == [Member(name, 1), Member("short", 1)]


def test_global_header_of_a_tar_that_says_nothing_of_files_is_passed_over(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    note = tar_records({b"comment": b"0" * 40}, kind=tarfile.XGLTYPE)
    archive.write_bytes(note + tar_block(b"a") + TAR_END)
    assert list_archive(archive) == [Member("a", 0)]


def test_modes_are_not_kept(tmp_path: Path) -> None:
    entry = tar_entry("a")
    entry.mode = 0o6777
    extract_archive(write_tar_entries(tmp_path / "a.tar", [(entry, b"x")]), new_folder(tmp_path))
    (tmp_path / "usual").touch()
    assert (tmp_path / "target/a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *((f"a{suffix}", True) for suffix in ARCHIVE_SUFFIXES),
        ("UCF101.RAR", True),
        ("a.Tar.Gz", True),
        ("a.gz", False),
        ("a.avi", False),
        ("zip", False),
        ("a.zip.part", False),
    ],
)
def test_archive_is_known_by_its_name(name: str, is_one: bool) -> None:
    assert is_archive_name(name) == is_one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_name_that_is_unsafe_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    archive = write_archive(tmp_path / kind, {"Walk/a.avi": b"x", name: b"x"})
    assert_refused(archive, match=rf"member {name[:20]}.*{BAD_NAMES[name]}.* -> if you trust it")


@pytest.mark.parametrize("kind", KINDS)
def test_backslash_in_a_name_is_refused(tmp_path: Path, kind: str) -> None:
    archive = write_archive(tmp_path / kind, {"Walk\\..\\x": b"x"})
    assert_refused(archive, match="backslash")


def test_backslash_that_separates_in_an_older_rar_leads_nowhere(tmp_path: Path) -> None:
    assert_refused(write_rar3(tmp_path / "a.rar", {"..\\x": b"x"}), match="leads out")


def test_nul_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", {"a\0b": b"x"}), match="NUL byte")
    assert_refused(tar_of(tmp_path, tar_records({b"path": b"a\0b"})), match="NUL byte")


def test_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    assert_refused(tar_of(tmp_path, tar_records({b"path": b"a\xff"})), match="no UTF-8")
    assert_refused(write_tar(tmp_path / "b.tar.gz", {"a\udcff": b"x"}), match="no UTF-8")
    rar = write_rar_files(tmp_path / "a.rar", [rar_file(b"a\xff", b"x")])
    assert_refused(rar, match="no UTF-8")
    zipped = write_zip(tmp_path / "a.zip", {"aXX": b"x"})
    zipped.write_bytes(zipped.read_bytes().replace(b"aXX", b"a\xffX"))
    assert_refused(zipped, match="no UTF-8")


@pytest.mark.parametrize("name", [".", "./", ""])
def test_file_without_a_name_is_refused(tmp_path: Path, name: str) -> None:
    assert_refused(tar_of(tmp_path, tar_records({b"path": name.encode()})), match="without a name")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.GNUTYPE_LONGLINK, "a link"),
        (b"V", "of unknown type"),
        (b"M", "of unknown type"),
    ],
)
def test_tar_entry_that_is_no_file_is_refused(tmp_path: Path, kind: bytes, words: str) -> None:
    archive = tar_of(tmp_path, tar_block(b"odd", kind=kind))
    assert_refused(archive, match=rf"member odd is {words}.*, expected plain files and folders")


def test_link_and_then_a_write_through_it_is_refused(tmp_path: Path) -> None:
    link = tar_entry("out", kind=tarfile.SYMTYPE, link=str(tmp_path))
    entries = [(link, b""), (tar_entry("out/x"), b"x")]
    for name in ("a.tar", "a.tar.gz"):
        archive = write_tar_entries(tmp_path / name, entries)
        assert_refused(archive, match="member out is a symbolic link")


@pytest.mark.parametrize("key", [b"GNU.sparse.size", b"GNU.sparse.major"])
def test_sparse_file_of_an_extended_header_is_refused(tmp_path: Path, key: bytes) -> None:
    assert_refused(tar_of(tmp_path, tar_records({key: b"1"})), match="a sparse file")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFIFO, "a named pipe"),
        (stat.S_IFSOCK, "a socket"),
        (stat.S_IFCHR, "a device"),
        (stat.S_IFBLK, "a device"),
    ],
)
def test_mode_of_no_file_is_refused(tmp_path: Path, mode: int, words: str) -> None:
    entries = [(zip_entry("odd", mode=mode | 0o777), b"/etc/passwd")]
    assert_refused(write_zip_entries(tmp_path / "a.zip", entries), match=f"odd is {words}")
    rar = write_rar_files(tmp_path / "a.rar", [rar_file(b"odd", b"/etc/passwd", mode=mode)])
    assert_refused(rar, match=f"odd is {words}")


@pytest.mark.parametrize("link", [RAR_SYMBOLIC_LINK, RAR_HARD_LINK, RAR_COPY])
def test_link_in_a_rar_is_refused(tmp_path: Path, link: int) -> None:
    files = [rar_file(b"a", b"x"), rar_file(b"odd", b"", link=(link, b"/etc/passwd"))]
    archive = write_rar_files(tmp_path / "a.rar", files)
    assert_refused(archive, match="odd is a link or a copy of another")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    zipped = write_zip(tmp_path / "a.zip", {"a": b"x"})
    content = bytearray(zipped.read_bytes())
    for start in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        content[start] |= 1
    zipped.write_bytes(content)
    assert_refused(zipped, match="member a is encrypted")
    rar = write_rar_files(tmp_path / "a.rar", [rar_file(b"a", bytes(16), encrypted=True)])
    assert_refused(rar, match="is encrypted")
    rar.write_bytes(RAR5_START + rar_encryption() + bytes(100))
    assert_refused(rar, match="is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_method_without_a_bound_on_memory_is_refused(tmp_path: Path, method: int) -> None:
    entries = [(zip_entry("a", method=method), b"x" * 100)]
    archive = write_zip_entries(tmp_path / "a.zip", entries)
    assert_refused(archive, match=f"member a is packed by method {method}")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Walk/a", "Walk/a"], "holds Walk/a twice"),
        (["a", "./a"], "holds a twice"),
        (["Walk/a", "walk/A"], "one name on some disks"),
        (["Walk/ü", unicodedata.normalize("NFD", "Walk/ü")], "one name on some disks"),
        (["a", "a/b"], "holds a as a file and as a folder"),
        (["A", "a/b/c"], "holds A as a file and as a folder"),
        (["x/a", "x/a/b/c"], "holds x/a as a file and as a folder"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turn", [list, reversed])
def test_two_entries_for_one_path_are_refused(
    tmp_path: Path, kind: str, names: list[str], words: str, turn: Callable[..., Iterable[str]]
) -> None:
    archive = write_twice(tmp_path / kind, [*turn(names), "a.b", "x.c"])
    assert_refused(archive, match=words)


def write_twice(path: Path, names: list[str]) -> Path:
    if path.suffix == ".zip":
        return write_zip_entries(path, [(zip_entry(name), b"x") for name in names])
    if path.suffix == ".rar":
        return write_rar_files(path, [rar_file(name.encode(), b"x") for name in names])
    return write_tar_entries(path, [(tar_entry(name), b"x") for name in names])


def test_file_and_an_empty_folder_of_its_name_are_refused(tmp_path: Path) -> None:
    entries = [(tar_entry("a", kind=tarfile.DIRTYPE), b""), (tar_entry("a"), b"x")]
    archive = write_tar_entries(tmp_path / "a.tar", entries)
    assert_refused(archive, match="as a file and as a folder")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(archive_checks, "_BYTES_FLOOR", 2**20)
    archive = write_archive(tmp_path / f"a{suffix}", {"a": bytes(2**22)})
    assert archive.stat().st_size < 2**13
    assert_refused(archive, match=r"unpacks to far more than it holds.*at most 1048576 for its")


@pytest.mark.parametrize("size", [2**40, 2**63, 2**70])
def test_member_that_says_it_is_huge_is_refused(tmp_path: Path, size: int) -> None:
    rar = write_rar_files(tmp_path / "a.rar", [rar_file(b"a", b"x", size=size, method=3)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rarfile, "tool_setup", lambda: None)
        assert_refused(rar, match="unpacks to far more than it holds")
    tar = tar_of(tmp_path, tar_records({b"size": str(size).encode()}))
    assert_refused(tar, match="unpacks to far more|no whole archive")


def test_archive_of_many_small_files_may_grow_up_to_a_floor(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.xz", {f"{i:04}": b"x" for i in range(2000)})
    assert archive.stat().st_size * 100 < 2000 * 1024
    assert len(list_archive(archive)) == 2000


def test_overlapping_members_of_a_zip_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": b"x" * 1000, "b": b"x" * 1000})
    content = bytearray(archive.read_bytes())
    second = content.rindex(b"PK\1\2") + 42
    content[second : second + 4] = struct.pack("<L", 1)
    archive.write_bytes(content)
    assert_refused(archive, match="members a and b overlap")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".rar"])
def test_too_many_entries_for_the_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(archive_checks, "_ENTRIES_FLOOR", 10)
    monkeypatch.setattr(archive_checks, "_BYTES_PER_ENTRY", 10**6)
    names = [str(number) for number in range(11)]
    write_archive(tmp_path / f"a{suffix}", dict.fromkeys(names[:10], b""))
    assert len(list_archive(tmp_path / f"a{suffix}")) == 10
    archive = write_archive(tmp_path / f"a{suffix}", dict.fromkeys(names, b""))
    assert_refused(archive, match="holds too many entries, expected at most 10")


def test_too_many_folders_for_the_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_checks, "_ENTRIES_FLOOR", 10)
    archive = write_zip(tmp_path / "a.zip", {"a/b/c/d/e/1": b"", "v/w/x/y/z/2": b""})
    assert len(list_archive(archive)) == 2
    archive = write_zip(tmp_path / "a.zip", {"a/b/c/d/e/1": b"", "u/v/w/x/y/z/2": b""})
    assert_refused(archive, match="holds too many folders, expected at most 10 for its size")


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_truncated_archive_is_refused_wherever_it_is_cut(tmp_path: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"a{suffix}", {"a": b"one" * 300, "b": b"two" * 300})
    content = archive.read_bytes()
    # Nothing is lost with the zeros behind a plain tar's end mark.
    whole = 2 * (512 + 1024) + 512 if suffix == ".tar" else len(content)
    step = max(1, whole // 60)
    for length in [*range(0, whole, step), whole - 1]:
        archive.write_bytes(content[:length])
        assert_refused(archive, match="no whole archive|cut off")
    archive.write_bytes(content[:whole])
    assert len(list_archive(archive)) == 2


def test_older_rar_without_its_end_is_refused(tmp_path: Path) -> None:
    archive = write_rar3(tmp_path / "a.rar", {"a": b"x"}, whole=False)
    assert_refused(archive, match="is cut off: it has no end mark")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar"])
def test_changed_content_is_refused_by_its_checksum(tmp_path: Path, suffix: str) -> None:
    noise = bytes(zlib.crc32(bytes([i % 256, i // 256])) & 0xFF for i in range(3000))
    archive = write_archive(tmp_path / f"a{suffix}", {"a": b"x", "b": noise})
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    folder = new_folder(tmp_path)
    with pytest.raises(InputError, match="is no whole archive of its kind") as caught:
        extract_archive(archive, folder)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "checked", "words"),
    [
        (99, 100, "has another size for member a than it says, found more than 99, expected 99"),
        (101, 100, "has another size for member a than it says, found 100, expected 101 bytes"),
        (99, 99, "Bad CRC-32"),  # the checksum of what a reader sees that believes the size
        (50, 51, "found more than 50"),
    ],
)
def test_zip_that_lies_about_a_size_is_refused(
    tmp_path: Path, said: int, checked: int, words: str
) -> None:
    content = bytes(range(100))
    archive = write_zip(tmp_path / "a.zip", {"a": content})
    packed = archive.read_bytes().replace(struct.pack("<L", 100), struct.pack("<L", said))
    crcs = [struct.pack("<L", zlib.crc32(part)) for part in (content, content[:checked])]
    archive.write_bytes(packed.replace(*crcs))
    folder = new_folder(tmp_path)
    with pytest.raises(InputError, match=words):
        extract_archive(archive, folder)
    assert list(folder.iterdir()) == []


def test_rar_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    files = [rar_file(b"a", b"abc", size=2, crc=zlib.crc32(b"ab"))]
    archive = write_rar_files(tmp_path / "a.rar", files)
    assert_refused(archive, match="member a is stored in another size than it says")


@pytest.mark.parametrize(
    ("files", "main", "end"),
    [
        ([rar_file(b"a", b"x")], 1, 0),
        ([rar_file(b"a", b"x")], 0, 1),
        ([rar_file(b"a", b"x", split=RAR_SPLIT_AFTER)], 0, 0),
        ([rar_file(b"a", b"x", split=RAR_SPLIT_BEFORE)], 0, 0),
    ],
)
def test_volume_of_a_rar_is_refused_and_no_other_opened(
    tmp_path: Path, files: list[bytes], main: int, end: int
) -> None:
    write_rar(tmp_path / "a.part2.rar", {"b": b"x"})
    archive = write_rar_files(tmp_path / "a.part1.rar", files, main=main, end=end)
    assert_refused(archive, match="is one of several volumes")


def test_packed_rar_without_a_tool_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(rarfile, "CURRENT_SETUP", None)
    archive = write_rar_files(tmp_path / "a.rar", [rar_file(b"a", b"??", method=3)])
    assert_refused(archive, match="no tool is installed -> apt install unar, or unpack it by hand")


def test_solid_rar_is_refused(tmp_path: Path) -> None:
    files = [rar_file(b"a", b"??", method=3)]
    archive = write_rar_files(tmp_path / "a.rar", files, main=4)
    assert_refused(archive, match="is a solid archive -> if you trust it, unpack it by hand")


@pytest.mark.parametrize(
    ("output", "reason"),
    [("abc", ""), ("abd", "CRC check failed"), ("ab", "Failed the read enough data")],
)
def test_packed_rar_is_read_from_a_tool_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, reason: str
) -> None:
    tool = tmp_path / "bin/unrar"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\n[ "$1" != p ] || printf {output}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(rarfile, "CURRENT_SETUP", None)
    packed = rar_file(b"a", b"??", method=3, size=3, crc=zlib.crc32(b"abc"))
    archive = write_rar_files(tmp_path / "a.rar", [packed])
    folder = new_folder(tmp_path)
    if reason:
        with pytest.raises(InputError, match=reason):
            extract_archive(archive, folder)
    else:
        extract_archive(archive, folder)
    assert read_tree(folder) == ({} if reason else {"a": b"abc"})


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"just text\n", b"x" * 2000])
def test_file_that_is_no_archive_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    archive = tmp_path / f"a{suffix}"
    archive.write_bytes(content)
    assert_refused(archive, match="is no whole archive of its kind, found .* -> get the archive")


def test_other_names_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.avi").touch()
    assert_refused(tmp_path / "a.avi", match=r"is no archive, expected a name in \.zip \.tar")
    (tmp_path / "folder.zip").mkdir()
    os.mkfifo(tmp_path / "pipe.tar.gz")
    for name in ("folder.zip", "pipe.tar.gz", "absent.zip"):
        assert_refused(tmp_path / name, match="is no archive file")


@pytest.mark.parametrize(
    "header",
    [
        tar_records({b"size": b"-1"}),
        tar_records({b"size": b"x"}),
        tar_records({b"size": b"9" * 5000}),
        tar_records({b"path": b"x"}, kind=tarfile.XGLTYPE),
        tar_records({str(number).encode(): b"" for number in range(101)}),
        tar_block(b"x", 8, kind=tarfile.XHDTYPE) + padded(b"3 a=bcde"),
        tar_block(b"x", 8, kind=tarfile.XHDTYPE) + padded(b"0 aaaaaa"),
        tar_block(b"x", 8, kind=tarfile.XHDTYPE) + padded(b"99 a=b\n\n"),
        tar_block(b"x", 8, kind=tarfile.XHDTYPE) + padded(b"11111111"),
        tar_block(b"x", 2**21, kind=tarfile.XHDTYPE) + bytes(2**21),
        tar_block(b"x", 2**21, kind=tarfile.GNUTYPE_LONGNAME) + b"x" * 2**21,
        tar_block(b"x", -1),
        tar_block(b"x", -512, kind=tarfile.XHDTYPE),
        tar_block(b"x")[:-1] + b"?",
    ],
)
def test_broken_tar_header_is_refused(tmp_path: Path, header: bytes) -> None:
    assert_refused(tar_of(tmp_path, header), match="is no whole archive of its kind")


def test_second_tar_behind_the_end_mark_is_refused(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", {"a": b"x"})
    archive.write_bytes(archive.read_bytes() * 2)
    assert_refused(archive, match="content after the end mark")


def test_archive_larger_than_the_free_space_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=10239))
    archive = write_zip(tmp_path / "a.zip", MEMBERS)
    with pytest.raises(InputError, match=r"does not fit .* 10239 bytes free, expected 10240 bytes"):
        extract_archive(archive, new_folder(tmp_path))
    assert read_tree(tmp_path / "target") == {}


def test_full_disk_leaves_nothing_and_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "a.zip", {"Walk/a": b"x", "Walk/b": b"x"})
    real_open = Path.open

    def open_once(path: Path, mode: str = "r") -> object:
        if path.name == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real_open(path, mode)

    monkeypatch.setattr(Path, "open", open_once)
    with pytest.raises(OSError, match="No space left on device"):
        extract_archive(archive, new_folder(tmp_path))
    assert list((tmp_path / "target").iterdir()) == []


def test_folder_that_is_not_empty_is_not_touched(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": b"x"})
    folder = new_folder(tmp_path)
    (folder / "mine").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        extract_archive(archive, folder)
    assert read_tree(folder) == {"mine": b"mine"}


@pytest.mark.parametrize("listed", [[], [Member("a", 2)], [Member("a", 1), Member("b", 1)]])
def test_archive_that_changes_after_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[Member]
) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": b"x"})
    monkeypatch.setattr(archives, "list_archive", lambda _: listed)
    with pytest.raises(InputError, match="changed while it was read -> import it again"):
        extract_archive(archive, new_folder(tmp_path))
    assert list((tmp_path / "target").iterdir()) == []


def test_nothing_is_written_over_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_twice(tmp_path / "a.zip", ["a", "a"])
    monkeypatch.setattr(archives, "list_archive", lambda _: [Member("a", 1)] * 2)
    with pytest.raises(FileExistsError):
        extract_archive(archive, new_folder(tmp_path))


def test_message_is_one_line_and_shortens_a_long_name(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"../\n" + "x" * 5000: b""})
    with pytest.raises(InputError) as caught:
        list_archive(archive)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


characters = st.one_of(st.sampled_from("./\\:~aA\0\n é"), st.characters(codec="utf-8"))
names = st.text(characters, max_size=12)


@settings(max_examples=50)
@given(members=st.dictionaries(names, st.binary(max_size=20), min_size=1, max_size=4))
@pytest.mark.parametrize("kind", KINDS)
def test_any_names_are_refused_or_land_below_the_folder(
    tmp_path_factory: pytest.TempPathFactory, kind: str, members: Mapping[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("names")
    folder = new_folder(root)
    archive = write_archive(root / kind, members)
    try:
        paths = extract_archive(archive, folder)
    except InputError:
        paths = []
    assert sorted(read_tree(folder).values()) == sorted(path.read_bytes() for path in paths)
    assert sorted(root.iterdir()) == [archive, folder]
    shutil.rmtree(root)


@settings(max_examples=50)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), kind=st.sampled_from(KINDS))
def test_any_changed_byte_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, kind: str
) -> None:
    root = tmp_path_factory.mktemp("bytes")
    folder = new_folder(root)
    archive = write_archive(root / kind, {"Walk/a": b"abc", "Walk/b": b"abcd" * 20})
    content = bytearray(archive.read_bytes())
    content[place % len(content)] = byte
    archive.write_bytes(content)
    try:
        paths = extract_archive(archive, folder)
    except InputError:
        paths = []
    assert len(read_tree(folder)) == len(paths)
    assert sorted(root.iterdir()) == [archive, folder]
    shutil.rmtree(root)


def bomb_tar_xz(path: Path, block: bytes, repeats: int) -> Path:
    """An xz of many streams: made in no time, read as one."""
    path.write_bytes(lzma.compress(block) * repeats)
    return path


def many_members(path: Path) -> Path:
    return bomb_tar_xz(path, tar_block(b"a") * 1000, 1000)


def many_folders(path: Path) -> Path:
    return bomb_tar_xz(path, tar_block(b"d", kind=tarfile.DIRTYPE) * 1000, 1000)


def many_deep_folders(path: Path) -> Path:
    """Each file in a chain of folders of its own."""
    deep = "d/" * (archive_checks._MOST_DEPTH - 1)
    blocks = b"".join(tar_block(f"{i:x}/{deep}f".encode()[-99:]) for i in range(9_990))
    path.write_bytes(lzma.compress(blocks + TAR_END))
    return path


def many_extended_headers(path: Path) -> Path:
    records = {b"%d" % number: b"" for number in range(100)}
    return bomb_tar_xz(path, tar_records(records) * 100, 1000)


def huge_extended_headers(path: Path) -> Path:
    """Digits and pairs that a pattern tries from every start."""
    digits = tar_block(b"x", 2**20, kind=tarfile.XHDTYPE) + b"1" * 2**20
    pairs = tar_block(b"x", 2**20, kind=tarfile.XHDTYPE) + b"1 " * 2**19
    return bomb_tar_xz(path, digits + pairs, 100)


def huge_long_name(path: Path) -> Path:
    return bomb_tar_xz(path, tar_block(b"x", 2**33 - 1, kind=tarfile.GNUTYPE_LONGNAME), 10)


def huge_zeros(path: Path) -> Path:
    return bomb_tar_xz(path, bytes(2**22), 1000)


def huge_dictionary(path: Path) -> Path:
    """An xz whose header asks for a dictionary of 1.5 GiB."""
    content = bytearray(lzma.compress(bytes(2**20)))
    size = (content[12] + 1) * 4
    content[content.index(b"\x21\x01", 12) + 2] = 37
    crc = zlib.crc32(content[12 : 12 + size - 4])
    content[12 + size - 4 : 12 + size] = struct.pack("<L", crc)
    path.write_bytes(content)
    return path


def many_streams(path: Path) -> Path:
    path.write_bytes(lzma.compress(b"") * 30_000)
    return path


def many_zip_entries(path: Path) -> Path:
    entries = [(zip_entry(f"{i:x}"), b"") for i in range(9_900)]
    return write_zip_entries(path.with_name("a.zip"), entries)


def many_rar_blocks(path: Path) -> Path:
    files = [rar_file(b"%x" % i, b"") for i in range(30_000)]
    return write_rar_files(path.with_name("a.rar"), files)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        many_members,
        many_folders,
        many_deep_folders,
        many_extended_headers,
        huge_extended_headers,
        huge_long_name,
        huge_zeros,
        huge_dictionary,
        many_streams,
        many_zip_entries,
        many_rar_blocks,
    ],
)
def test_hostile_file_of_a_megabyte_costs_little(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    archive = make(tmp_path / "a.tar.xz")
    assert archive.stat().st_size <= 1.2 * 2**20
    new_folder(tmp_path)
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from kinetrack.collecting.archives import extract_archive\n"
        "from kinetrack.errors import InputError\n"
        "start = time.process_time()\n"
        "try:\n"
        f"    extract_archive(Path({str(archive)!r}), Path({str(tmp_path / 'target')!r}))\n"
        "except InputError as error:\n"
        "    pass\n"
        # Not ru_maxrss, which a child inherits from its parent.
        "status = Path('/proc/self/status').read_text()\n"
        "print(time.process_time() - start, status.split('VmHWM:')[1].split()[0])\n"
    )
    source = str(Path(archives.__file__).parents[2])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seconds, kilobytes = map(float, result.stdout.split())
    assert seconds < 10
    assert kilobytes < 2**20


def tar_of(folder: Path, header: bytes) -> Path:
    """A tar that starts with these blocks, before a file and the end mark."""
    archive = folder / "a.tar"
    archive.write_bytes(header + tar_block(b"a", 1) + padded(b"x") + TAR_END)
    return archive


def new_folder(root: Path) -> Path:
    (root / "target").mkdir(exist_ok=True)
    return root / "target"


def read_tree(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by their relative paths."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def assert_refused(archive: Path, *, match: str) -> None:
    """One line from both functions, and nothing written, neither inside nor outside."""
    folder = new_folder(archive.parent)
    before = sorted(archive.parent.rglob("*"))
    for refuse in (list_archive, lambda path: extract_archive(path, folder)):
        with pytest.raises(InputError, match=match) as caught:
            refuse(archive)
        assert "\n" not in str(caught.value)
    assert sorted(archive.parent.rglob("*")) == before
