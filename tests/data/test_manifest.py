import json
from pathlib import Path

import pytest

from kinetrack.data.manifest import ManifestRow, read_manifest, write_manifest
from kinetrack.errors import InputError


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    table = write(
        tmp_path / "list.csv",
        "path,label,group,start_s,end_s",
        "long/a.mp4,Jump,anna,1.5,3",
        "b.avi,Walk,,,",
    )
    values = [
        {"path": "long/a.mp4", "label": "Jump", "group": "anna", "start_s": 1.5, "end_s": 3},
        {"path": "b.avi", "label": "Walk"},
    ]
    described = write(tmp_path / "list.json", json.dumps(values))
    assert read_manifest(table) == read_manifest(described)
    assert read_manifest(table)[0].end_s == 3.0


def test_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbfpath,label\r\na.mp4,Jump\r\n")
    assert [row.path for row in read_manifest(path)] == ["a.mp4"]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "a"),
        ({"start_s": 1.5, "end_s": 3}, "a_00001500_00003000"),
        ({"start_s": 2}, "a_00002000_end"),
        ({"end_s": 2}, "a_00000000_00002000"),
        ({"end_s": 0.5}, "a_00000000_00000500"),
        ({"start_s": 1.5, "end_s": 3, "clip": "jump 7"}, "jump 7"),
    ],
)
def test_clip_is_named_after_its_video_and_segment(values: dict[str, object], name: str) -> None:
    row = ManifestRow.model_validate({"path": "x/a.mp4", "label": "Jump", **values})
    assert row.clip_name == name


def test_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [
        ManifestRow(path="a,b\n.mp4", label="Jump", group="anna", official="train test train"),
        ManifestRow(path="b.avi", label="Walk", start_s=0.1, end_s=2.25),
    ]
    write_manifest(tmp_path / "manifest.csv", rows)
    assert read_manifest(tmp_path / "manifest.csv") == rows


@pytest.mark.parametrize("blank", ["", " \t", None])
def test_blank_cells_are_none(blank: str | None) -> None:
    values = {"path": " a.mp4", "label": "Jump ", "clip": blank, "group": blank, "start_s": blank}
    row = ManifestRow.model_validate(values)
    assert row == ManifestRow(path="a.mp4", label="Jump")
    assert (row.group, row.official) == ("", "")


def test_a_message_names_every_column(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(InputError, match="is no manifest file") as caught:
            read_manifest(path)
        told = str(caught.value).rpartition("columns: ")[2]
        names, file_name = told.removesuffix(")").split(" (")
        assert names.replace("; optional: ", ", ").split(", ") == list(ManifestRow.model_fields)
        assert file_name == "manifest.csv"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("../a.mp4,Jump,,", r"line 2, column path: .*'\.\.' is no plain file name"),
        ("/etc/a.mp4,Jump,,", "line 2, column path: .*'' is no plain file name"),
        ("a\\b.mp4,Jump,,", "line 2, column path: .* is no plain file name"),
        (".unpacked/a.mp4,Jump,,", r"line 2, column path: '\.unpacked' is hidden"),
        ("a.mp4,..,,", "line 2, column label"),
        ("a.mp4,x/y,,", "line 2, column label"),
        ("a.mp4,,,", "line 2, column label: Field required"),
        ("a.mp4,Jump,3,2", "line 2, column .*end_s 2.0 should be greater than start_s"),
        ("a.mp4,Jump,,0", "line 2, column .*end_s 0.0 should be greater"),
        ("a.mp4,Jump,-1,2", "line 2, column start_s"),
        ("a.mp4,Jump,nan,2", "line 2, column start_s"),
        ("a.mp4,Jump,0,inf", "line 2, column end_s"),
        ("a.mp4,Jump,x,2", "line 2, column start_s"),
        ("a.mp4,Jump,0,2,more", "line 2, column"),
        ("a.mp4,Jump,1e308,", "line 2, column start_s: .*less than or equal to"),
        (f"{'x' * 247}.mp4,Jump,1,2", "line 2, column .*is longer than 251 bytes"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path / "list.csv", "path,label,start_s,end_s", line)
    with pytest.raises(InputError, match=f"list.csv: {reason}"):
        read_manifest(path)


@pytest.mark.parametrize("official", ["train", "test train val", ""])
def test_official_sides_are_one_word_a_fold(official: str) -> None:
    assert ManifestRow(path="a.mp4", label="A", official=official).official == official


def test_official_side_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "path,label,official", "a.mp4,Jump,train tset")
    with pytest.raises(InputError, match=r"column official: .*'tset' is no side"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("list.csv", "path,label,begin\na.mp4,Jump,1", "line 2, column begin"),
        ("list.csv", "path;label\na.mp4;Jump", "line 2, column path: Field required"),
        ("list.csv", "path,label", "names no clip"),
        ("list.csv", "", "is empty"),
        ("list.json", "[]", "names no clip"),
        ("list.json", "{}", "is no list of clips, found dict"),
        ("list.json", '[{"path": "a.mp4"}]', "clip 1, label: Field required"),
        ("list.json", "[1]", "clip 1, : Input should be"),
        (
            "list.json",
            '[{"path": "a", "label": "A", "group": "\\ud800"}]',
            "clip 1, group: .*utf-8",
        ),
        ("list.json", "[" * 100_000, "cannot be read"),
        ("list.json", "{", "cannot be read"),
    ],
)
def test_what_is_no_manifest_is_named_with_the_columns(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=f"{reason}.*columns: path, label"):
        read_manifest(path)
