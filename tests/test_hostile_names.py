"""Names with every unpleasant character, through the stages and commands as a person runs them."""

import csv
import os
import socket
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from factories import write_video
from project import Project, make_project

pytestmark = pytest.mark.slow

ODD = [
    "-rf _g01_c01",
    "a b_g02_c01",
    "\u8d70\u308b\U0001f3c3_g03_c01",
    "line\nbreak\r_g04_c01",
    "\x1b[31mred\x1b]0;title\x07_g05_c01",
    "<script>alert(1)<\u2215script>_g06_c01",
    "'; DROP TABLE clips; --_g07_c01",
    "${HOME}$(touch executed)`touch executed`_g08_c01",
    "\u202efdp.\u200b_g09_c01",
    '=1+2,"quoted"_g10_c01',
    "n" * 240 + "_g11_c01",
    "%s%n{0}{__class__}_g12_c01",
    "CON.aux_g13_c01",
    "a.._g14_c01",  # one that begins with a dot is hidden: no clip
    "a\tb\u2028c\x7f_g15_c01",
]
LABELS = ("-Jump \x1b[2J", "Walk\n<b>")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("names") / "project")
    pack = {"num_frames": 4, "resize_px": 16, "size_px": 16}
    project.set_params(dataset="odd", split={"train_groups": 12, "val_groups": 2}, pack=pack)
    for label in LABELS:
        for number, name in enumerate(ODD):
            start = number + 50 * LABELS.index(label)
            path = project.folder / "data/videos/odd" / label / f"{name}.avi"
            write_video(path, num_frames=6, start=start)
    return project


STAGES = {
    "frames": ["data/videos/odd", "data/frames/odd"],
    "split": ["data/frames/odd/index.csv", "data/splits"],
    "tensors": ["data/frames/odd", "data/splits/split.json", "data/tensors/odd"],
}


def assert_printable(done: subprocess.CompletedProcess[str]) -> None:
    """Nothing that a terminal would obey."""
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    bad = {char for char in said if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Cs")}
    assert bad <= {"\n"}, (bad, said[-2000:])


def test_every_clip_comes_through_and_nothing_is_obeyed(project: Project) -> None:
    before = {path.name for path in project.folder.parent.iterdir()}
    for stage, places in STAGES.items():
        done = project.stage(stage, *places)
        assert done.returncode == 0, done.stderr
        assert_printable(done)
    for command in (
        ["data"],
        ["frames", "show", f"{LABELS[0]}/{ODD[4]}"],
        ["check"],
        ["verify"],
        ["frames", "show", f"{LABELS[1]}/\x1b[31mnone\n"],
    ):
        done = project.run("python", "-m", "kinetrack.cli.main", *command, check=False)
        assert_printable(done)
    with (project.folder / "data/tensors/odd/index.csv").open(newline="", encoding="utf-8") as file:
        found = {(row["label"], row["clip"]) for row in csv.DictReader(file)}
    assert found == {(label, name) for label in LABELS for name in ODD}
    assert {path.name for path in project.folder.parent.iterdir()} == before
    assert not list(project.folder.rglob("executed"))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # The address of a socket is short.
        before = Path.cwd()
        os.chdir(path.parent)
        server.bind(path.name)
        os.chdir(before)


ENTRIES: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": _socket,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "out": lambda path: path.symlink_to("/etc/hostname"),
    "no UTF-8": lambda path: (path.parent / os.fsdecode(b"\xff_g02_c01.avi")).touch(),
    "backslash": lambda path: (path.parent / "a\\x_g02_c01.avi").touch(),
    "case": lambda path: (path.parent / "V_g01_c01.avi").touch(),
    "Unicode form": lambda path: [
        (path.parent / f"{name}_g02_c01.avi").touch() for name in ("caf\u00e9", "cafe\u0301")
    ],
    "no group": lambda path: (path.parent / "holiday.avi").touch(),
    "empty class": lambda path: (path.parent.parent / "Empty").mkdir(),
}


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("kind", ENTRIES)
def test_entry_that_is_no_clip_is_refused_by_stage_and_check(
    project: Project, tmp_path: Path, kind: str, policy: str
) -> None:
    videos, frames = tmp_path / "videos", tmp_path / "frames"
    write_video(videos / "Walk/v_g01_c01.avi", num_frames=4)
    ENTRIES[kind](videos / "Walk/w_g01_c01.avi")
    project.set_params(frames={"on_broken": policy})
    done = project.stage("frames", str(videos), str(frames))
    project.set_params(frames={"on_broken": "fail"})
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {videos}")
    assert_printable(done)
    assert not frames.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
