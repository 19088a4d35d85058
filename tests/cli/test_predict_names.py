import io
from pathlib import Path

import pytest

from kinetrack.cli.predict.names import find_videos

FILES = [
    "holiday/a.mp4",
    "holiday/b.MP4",
    "holiday/[c].mp4",
    "holiday/d.flv",
    "holiday/notes.txt",
    "holiday/.hidden.mp4",
    "holiday/deep/e.avi",
    "holiday/deep/er/f.mkv",
    "holiday/empty/notes.txt",
    "g?.mp4",
    "other.avi",
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("other.avi", ["other.avi"]),
        ("gone.avi", ["gone.avi"]),
        ("holiday/*.mp4", ["holiday/[c].mp4", "holiday/a.mp4"]),
        ("holiday/*.[mM][pP]4", ["holiday/[c].mp4", "holiday/a.mp4", "holiday/b.MP4"]),
        ("holiday/[ab].*", ["holiday/a.mp4", "holiday/b.MP4"]),
        ("holiday/*.flv", ["holiday/d.flv"]),
        # Names with brackets and question marks that exist are taken as they are.
        ("holiday/[c].mp4", ["holiday/[c].mp4"]),
        ("g?.mp4", ["g?.mp4"]),
        (
            "holiday/**/*.avi",
            ["holiday/deep/e.avi"],
        ),
        (
            "holiday/**",
            [
                "holiday/[c].mp4",
                "holiday/a.mp4",
                "holiday/b.MP4",
                "holiday/deep/e.avi",
                "holiday/deep/er/f.mkv",
            ],
        ),
        # Folders that a pattern matches stand for the videos below them, each once.
        ("holiday/d*", ["holiday/deep/e.avi", "holiday/deep/er/f.mkv"]),
        ("hol*", [f"holiday/{name}" for name in ("[c].mp4", "a.mp4", "b.MP4")]
         + ["holiday/deep/e.avi", "holiday/deep/er/f.mkv"]),
    ],
)  # fmt: skip
def test_names_and_patterns(name: str, expected: list[str]) -> None:
    found = list(find_videos([name]))
    assert [str(one.path) for one in found] == expected
    assert not any(one.reason for one in found)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone*/*.mp4", "is a pattern that matches nothing"),
        ("holiday/[xyz].mp4", "is a pattern that matches nothing"),
        ("holiday/n*", r"is a pattern that matches no video by its name (.3gp .avi"),
        ("holiday/empty", "holds no video by its name"),
        ("*\0*", "is a pattern that matches nothing"),
        ("a" * 5000 + "*", "is a pattern that matches nothing"),
    ],
)
def test_names_that_stand_for_no_video_are_told(name: str, reason: str) -> None:
    (found,) = find_videos([name])
    assert found.path == Path(name)
    assert found.reason.startswith(reason)


@pytest.mark.usefixtures("files")
def test_order_is_that_of_the_names() -> None:
    found = find_videos(["other.avi", "holiday/[ab]*", "other.avi"])
    names = [one.path.name for one in found]
    assert names == ["other.avi", "a.mp4", "b.MP4", "other.avi"]


@pytest.mark.usefixtures("files")
def test_lines_of_a_list_are_names_and_no_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = io.TextIOWrapper(io.BytesIO(b"holiday/*.mp4\n-\nholiday/deep\n"))
    monkeypatch.setattr("sys.stdin", listed)
    names = [str(one.path) for one in find_videos(["-"])]
    assert names == ["holiday/*.mp4", "-", "holiday/deep/e.avi", "holiday/deep/er/f.mkv"]
