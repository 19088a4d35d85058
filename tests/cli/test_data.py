import hashlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kinetrack.cli import data as command
from kinetrack.cli.changes import print_changes
from kinetrack.cli.data import find_clip, page_name, print_data, show_clip
from kinetrack.cli.main import app
from kinetrack.data.index import INDEX_NAME, DroppedRow, FramesRow, write_index
from kinetrack.errors import InputError
from kinetrack.tables import read_csv

from factories import frames_row
from frame_archives import write_archive
from project import ROOT, make_project

ROWS = [
    frames_row("v_g01_c01", label="Jump", group="01"),
    frames_row("v_g02_c01", label="Jump", group="02", status="flagged", missing=3).model_copy(
        update={"reason": "3 of 13 frames missing"}
    ),
    frames_row("v_g03_c01", label="Jump", group="03", status="broken"),
    frames_row("v_g01_c01", label="[bold]Walk", group="01"),
    frames_row("w\x1b[31m\nred", label="[bold]Walk", group="02"),
]


@pytest.fixture
def root(tmp_path):
    """A project's folder with frames, and nothing that the commands do not read."""
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    write_frames(tmp_path, ROWS)
    return tmp_path


def write_frames(root, rows):
    folder = root / "data/frames/sample"
    for row in rows:
        if row.status != "broken":
            write_archive(folder / row.label / f"{row.clip}.zip")
    write_index(folder / INDEX_NAME, FramesRow, rows)


def write_dropped(root, *, index_md5=None):
    index = root / "data/frames/sample" / INDEX_NAME
    md5 = index_md5 or hashlib.md5(index.read_bytes()).hexdigest()
    deps = [{"path": "data/frames/sample/index.csv", "md5": md5}]
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"split": {"deps": deps}}}))
    row = DroppedRow(clip="v_g02_c01", label="Jump", side="train", reason="too many missing")
    write_index(root / "data/splits/dropped.csv", DroppedRow, [row])


@pytest.fixture
def opened(monkeypatch):
    """Addresses that a browser was asked to open."""
    addresses = []
    monkeypatch.setattr("webbrowser.open", lambda address: addresses.append(address) or True)
    return addresses


def test_data_prints_every_class_and_problem_and_where_the_rest_is(root, capsys):
    print_data(root, open_page=False)
    screen = capsys.readouterr().out
    lines = [line.split() for line in screen.splitlines()]
    assert ["Jump", "3", "3", "10", "10", "10", "0.8", "64x48", "25"] in [
        line[:9] for line in lines
    ]
    assert ["total", "5", "3"] in [line[:3] for line in lines]
    for text in (
        "Data set sample: 2 classes, 5 clips, 40 frames",
        "[bold]Walk",
        "1 broken, 1 flagged",
        "broken Jump/v_g03_c01: cannot be opened as a video",
        "flagged Jump/v_g02_c01: 3 of 13 frames missing",
        "tables in reports/data",
        str(root / ".kinetrack/pages/data.html"),
    ):
        assert text in screen


def test_data_writes_the_tables_and_the_page_where_git_wants_them(root, opened):
    print_data(root, open_page=False)
    assert len(list((root / "reports/data").glob("*.csv"))) == 5
    assert (root / ".kinetrack/pages/data.html").read_text().count("<img ") == 4
    assert opened == []
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/.kinetrack/" in ignored
    assert not any(line.startswith("/reports/data") for line in ignored)


def test_data_opens_the_page_when_asked(root, opened):
    print_data(root, open_page=True)
    assert opened == [(root / ".kinetrack/pages/data.html").as_uri()]


def test_without_a_browser_it_says_so(root, monkeypatch, capsys):
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    print_data(root, open_page=True)
    assert "no browser found" in capsys.readouterr().out


def test_what_the_split_of_these_frames_dropped_is_a_problem(root):
    write_dropped(root)
    print_data(root, open_page=False)
    problems = read_csv(root / "reports/data/problems.csv")
    assert ("v_g02_c01", "dropped") in [(row["clip"], row["status"]) for row in problems]


def test_a_split_of_other_frames_is_left_out(root):
    write_dropped(root, index_md5="0" * 32)
    print_data(root, open_page=False)
    problems = read_csv(root / "reports/data/problems.csv")
    assert [row["status"] for row in problems] == ["flagged", "broken"]


def test_a_long_list_of_problems_is_cut_on_the_screen_only(root, capsys):
    rows = [frames_row(f"b{n:03}", label="Jump", group="1", status="broken") for n in range(50)]
    write_frames(root, rows)
    print_data(root, open_page=False)
    screen = capsys.readouterr().out
    assert screen.count("cannot be opened") == 20
    assert "... and 30 more, in reports/data/problems.csv" in screen
    assert len(read_csv(root / "reports/data/problems.csv")) == 50


def test_no_name_moves_the_cursor_or_breaks_a_line(root, capsys):
    row = frames_row("b\x1b[2J\n", label="x\x1b[2J\ny", group="1", status="broken")
    write_frames(root, [row])
    print_data(root, open_page=False)
    screen = capsys.readouterr().out
    assert "\x1b" not in screen
    assert r"x\x1b[2J\ny/b\x1b[2J\n: cannot be opened" in screen


@pytest.mark.parametrize("show", [False, True])
def test_without_frames_the_remedy_is_named(root, show):
    (root / "data/frames/sample" / INDEX_NAME).unlink()
    with pytest.raises(InputError, match="does not exist yet -> kinetrack frames"):
        show_clip(root, "a", open_page=False) if show else print_data(root, open_page=False)


@pytest.mark.parametrize(
    ("name", "found"),
    [("Jump/v_g01_c01", 0), ("v_g02_c01", 1), ("[bold]Walk/v_g01_c01", 3)],
)
def test_a_clip_is_found_by_its_whole_name_or_by_its_own(name, found):
    assert find_clip(ROWS, name) is ROWS[found]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "v_g01_c01",
            r"is a clip of 2 classes, expected Jump/v_g01_c01 or \[bold\]Walk/v_g01_c01",
        ),
        ("v_g02_c1", r"is no clip of this data set, expected Jump/v_g02_c01"),
        ("Jumo/v_g02_c01", r"is no clip of this data set, expected Jump/v_g02_c01"),
        ("qqqq", r"is no clip of this data set -> the clips are listed in"),
        ("", r"is no clip of this data set -> "),
    ],
)
def test_another_name_is_refused_with_what_it_may_have_meant(name, message):
    with pytest.raises(InputError, match=message):
        find_clip(ROWS, name)


def test_an_ambiguous_name_of_many_classes_lists_a_few():
    rows = [frames_row("v", label=f"C{n}", group="1") for n in range(9)]
    with pytest.raises(InputError, match="C4/v or 4 more"):
        find_clip(rows, "v")


safe = st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"])
names = st.text(safe, min_size=1, max_size=60)


@given(names, names)
def test_the_page_of_a_clip_stays_in_its_folder(label, clip):
    row = ROWS[0].model_copy(update={"label": label, "clip": clip})
    name = page_name(row)
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
    assert name.count(".") == 1
    assert len(name) < 120
    assert name != page_name(row.model_copy(update={"clip": clip + "é"}))


def test_show_makes_the_page_and_opens_it_before_a_person_only(root, opened, monkeypatch, capsys):
    show_clip(root, "v_g02_c01", open_page=True)
    page = root / ".kinetrack/pages/frames" / page_name(ROWS[1])
    assert capsys.readouterr().out == f"{page}\n"
    assert "3 of 13 frames missing" in page.read_text()
    assert opened == []
    monkeypatch.setattr(command, "_has_screen", lambda: True)
    show_clip(root, "v_g02_c01", open_page=False)
    assert opened == []
    show_clip(root, "v_g02_c01", open_page=True)
    assert opened == [page.as_uri()]


@pytest.mark.parametrize(
    ("is_terminal", "display", "platform", "expected"),
    [
        (True, ":0", "linux", True),
        (True, "", "linux", False),
        (True, "", "darwin", True),
        (False, ":0", "linux", False),
    ],
)
def test_a_person_sits_at_a_terminal_with_a_display(
    monkeypatch, is_terminal, display, platform, expected
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    assert command._has_screen() is expected


def test_frames_alone_is_the_stage_and_frames_show_is_not(root, monkeypatch):
    ran = []
    monkeypatch.chdir(root)
    monkeypatch.setattr("kinetrack.cli.check.check_project", lambda root: ran.append("check"))
    monkeypatch.setattr(
        "kinetrack.versioning.commands.repro",
        lambda stage, *, root, dry_run: ran.append(f"{stage}{' dry' * dry_run}") or 0,
    )
    assert CliRunner().invoke(app, ["frames"]).exit_code == 0
    assert ran == ["check", "frames"]
    shown = CliRunner().invoke(app, ["frames", "show", "v_g02_c01", "--no-open"])
    assert (shown.exit_code, shown.stdout.count(".html")) == (0, 1)
    assert ran == ["check", "frames"]
    for stage in ("frames", "train"):
        assert CliRunner().invoke(app, [stage, "--dry-run"]).exit_code == 0
    assert ran[2:] == ["check", "frames dry", "check", "train dry"]


def test_the_commands_reach_their_functions(root, monkeypatch, opened):
    monkeypatch.chdir(root)
    assert CliRunner().invoke(app, ["data", "--open"]).exit_code == 0
    assert len(opened) == 1
    shown = json.loads(CliRunner().invoke(app, ["data", "--json"]).stdout)
    assert shown["dataset"] == "sample"
    assert [one["label"] for one in shown["classes"]] == ["Jump", "[bold]Walk"]
    assert shown["total"]["clips"] == sum(one["clips"] for one in shown["classes"])
    assert Path(shown["page"]).exists()
    result = CliRunner().invoke(app, ["data", "--diff", "nowhere"])
    assert "is no Git revision" in str(result.exception)


@pytest.mark.slow
def test_data_diff_names_clips_and_classes_with_and_without_a_manifest(tmp_path, capsys):
    project = make_project(tmp_path / "project")
    folder = project.folder / "data/videos/mine"

    def commit():
        project.run("dvc", "add", "-q", "data/videos/mine")
        project.commit("data")

    def difference(revision="HEAD"):
        print_changes(project.folder, revision)
        return capsys.readouterr().out.splitlines()[1:]

    for name in ("Jump/a", "Jump/b", "Jump/c", "Walk/d"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.avi").write_text(name)
    project.set_params(dataset="mine")
    commit()
    assert difference() == ["no clip changed"]
    print_changes(project.folder, "HEAD", as_json=True)
    assert json.loads(capsys.readouterr().out)["added"] == []

    (folder / "Run").mkdir()
    (folder / "Walk/d.avi").rename(folder / "Run/d.avi")
    (folder / "Jump/e.avi").write_text("e")
    (folder / "Jump/a.avi").unlink()
    (folder / "Jump/b.avi").write_text("other")
    (folder / "Jump/notes.txt").write_text("no clip")
    assert difference() == [
        "  class added    Run",
        "  class removed  Walk",
        "  added    Jump/e",
        "  removed  Jump/a",
        "  moved    Walk/d -> Run/d",
        "  changed  Jump/b: content",
        "clips: 1 added, 1 removed, 1 moved, 1 changed",
    ]
    commit()

    rows = ["Jump/b.avi,Jump,01,,", "Jump/c.avi,Jump,02,0,1", "Run/d.avi,Run,03,,"]
    header = "path,label,group,start_s,end_s"
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    commit()
    rows[0] = rows[0].replace(",Jump", ",Hop")
    rows[1] = rows[1].replace("02", "05").replace("0,1", "0,2")
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    lines = difference()
    assert "  moved    Jump/b -> Hop/b" in lines
    assert "  added    Jump/c_00000000_00002000" in lines  # its name says the segment
    assert "  removed  Jump/c_00000000_00001000" in lines
    assert "  class added    Hop" in lines
    assert "  changed  Run/d: group - -> 03" in difference("HEAD~1")
