import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import kinetrack
from kinetrack.cli.main import app
from kinetrack.cli.predict import command
from kinetrack.cli.predict.answer import Answer, show_time, to_lines
from kinetrack.cli.predict.command import Walk, predict
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.using.answers import Prediction, Step, Timeline
from kinetrack.using.drawing import drawn_path

from factories import model_card, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and videos: two good ones of one name, a broken one and a very short one."""
    folder = tmp_path_factory.mktemp("timeline")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(folder / "model", Small3dCnn(num_classes=2), model_card())
    write_video(folder / "videos/a.avi", num_frames=60)
    write_video(folder / "videos/deep/a.avi", num_frames=30, start=100)
    write_video(folder / "videos/short.avi", num_frames=3)
    (folder / "videos/broken.avi").write_text("no video")
    return folder


def run(folder: Path, *names: object, form: Any = "json", top: int = 2, **walk: Any) -> int:
    settings = {"window_s": 1.0, "stride_s": 0.5, **walk}
    model = str(folder / "model")
    names_ = [str(name) for name in names]
    return predict(names_, model=model, top=top, views=1, form=form, walk=Walk(**settings))


def test_json_has_the_time_line_of_each_video(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, folder / "videos/a.avi") == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["path", "status", "num_frames", "notes", "timeline"]
    assert (said["num_frames"], said["notes"]) == (60, [])
    starts = [step["start_s"] for step in said["timeline"]]
    assert starts == [0, 0.5, 1, 1.5, 2]
    assert said["timeline"][-1]["end_s"] == 2.4
    told = kinetrack.load(folder / "model").timeline(
        folder / "videos/a.avi", window_s=1, stride_s=0.5
    )
    for step, expected in zip(said["timeline"], told.steps, strict=True):
        assert expected.prediction
        assert step["labels"] == [
            {"label": label, "probability": round(share, 6)}
            for label, share in expected.prediction.top(2)
        ]


def test_csv_has_a_row_for_each_step_and_rank(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, folder / "videos/a.avi", folder / "videos/broken.avi", form="csv") == 1
    text = capsys.readouterr().out
    header = "path,status,start_s,end_s,rank,label,probability,reason,notes"
    assert text.splitlines()[0] == header
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["rank"] for row in rows] == ["1", "2"] * 5 + [""]
    assert [row["start_s"] for row in rows[::2]] == ["0.0", "0.5", "1.0", "1.5", "2.0", ""]
    assert rows[-1]["status"] == "broken"
    assert "cannot be opened" in rows[-1]["reason"]


def test_text_has_passages(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, folder / "videos/a.avi", form="text") == 0
    first, *passages = capsys.readouterr().out.splitlines()
    assert first == f"{folder}/videos/a.avi: 0:02.4 in 5 steps"
    assert passages[0].startswith("  0:00-")
    assert "-0:02.4 " in passages[-1]
    assert all(line.endswith(" (mean)") for line in passages)


def test_broken_and_short_videos_are_named_and_the_rest_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, folder / "videos") == 1
    captured = capsys.readouterr()
    said = [json.loads(line) for line in captured.out.splitlines()]
    assert [one["status"] for one in said] == ["ok", "broken", "broken", "ok"]
    assert said[1]["reason"].startswith("cannot be opened as a video")
    assert said[2]["reason"] == "is too short for this model, found 3 frames, expected at least 4"
    assert "predict: 2 of 4 videos have no answer" in captured.err
    assert run(folder, folder / "videos/a.avi", window_s=0.1) == 2
    assert json.loads(capsys.readouterr().out)["reason"] == (
        "has windows of 0.1 s that are too short for this model, found 2 frames, expected at"
        " least 4 -> a window of 0.16 s or more"
    )


def test_videos_of_one_name_are_drawn_into_two_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, folder / "videos", draw=tmp_path / "new/drawn") == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    drawn = [Path(one["drawn"]) for one in said if one["status"] == "ok"]
    assert drawn == [
        drawn_path(tmp_path / "new/drawn", folder / "videos" / name, "mp4")
        for name in ("a.avi", "deep/a.avi")
    ]
    assert sorted((tmp_path / "new/drawn").iterdir()) == sorted(drawn)


def test_gif_is_drawn_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, folder / "videos/a.avi", form="text", draw=tmp_path, draw_as="gif")
    (made,) = tmp_path.iterdir()
    assert made.read_bytes().startswith(b"GIF89a")
    assert capsys.readouterr().out.splitlines()[-1] == f"  drawn in {made}"


def test_file_is_no_folder_to_draw_into(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    with pytest.raises(InputError, match="file: is no folder to draw into"):
        run(folder, folder / "videos/a.avi", draw=tmp_path / "file")


def test_disk_without_room_for_copies_ends_the_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    with pytest.raises(InputError, match="cannot be written"):
        run(folder, folder / "videos/a.avi", draw=tmp_path / "file/below")


def test_frames_of_few_videos_lie_on_the_disk_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    real = command._walk_through

    def counting(*args: Any, **options: Any) -> Any:
        seen.append(len(list(tmp_path.glob("*/*/clip.zip"))))
        return real(*args, **options)

    monkeypatch.setattr(command, "_walk_through", counting)
    assert run(folder, *[folder / "videos/deep/a.avi"] * 8) == 0
    assert len(seen) == 8
    assert max(seen) <= 2  # with one worker
    assert list(tmp_path.iterdir()) == []


def test_more_of_a_step_than_is_printed_is_not_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    kept: list[Step] = []

    def spying(answers: Any, **options: Any) -> Any:
        for answer in answers:
            kept.extend(answer.told.steps)
            yield from to_lines([answer], **options)

    monkeypatch.setattr(command, "to_lines", spying)
    run(folder, folder / "videos/a.avi", top=1)
    assert [len(step.prediction.labels) for step in kept if step.prediction] == [1] * 5


@pytest.mark.parametrize("length_s", [0, -1, math.nan, math.inf])
def test_absurd_lengths_are_refused_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length_s: float
) -> None:
    monkeypatch.setattr(command, "load", None)
    for option in ("window_s", "stride_s"):
        with pytest.raises(InputError, match="is no length in seconds"):
            run(folder, folder / "videos/a.avi", **{option: length_s})


def test_far_too_many_steps_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, folder / "videos/a.avi", stride_s=1e-7) == 2
    assert "is too short for this video" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stride", "1"], "--stride needs --window"),
        (["--draw", "drawn"], "--draw needs --window"),
        (["--window", "1", "--as", "gif"], "--as needs --draw"),
        (["--window", "1", "--views", "2"], "leave --views out"),
        (["--json", "--csv"], "choose one"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["predict", "a.avi", *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_command_line_walks_in_steps_of_a_second(folder: Path, tmp_path: Path) -> None:
    options = ["--model", folder / "model", "--window", "1", "--top", "1", "--json"]
    arguments = ["predict", folder / "videos/a.avi", *options, "--draw", tmp_path, "--as", "gif"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert [step["start_s"] for step in said["timeline"]] == [0, 1, 2]
    assert said["drawn"].endswith(".gif")


def test_step_without_an_answer_is_told_in_every_form() -> None:
    sure = Prediction(("Jump",), (1.0,), num_frames=10)
    steps = (Step(0, 1, sure), Step(1, 2.5, None, "0 frames in the window"))
    answer = Answer(Path("a.avi"), Timeline(steps, 10, 2.5, notes=("one", "two")))
    forms: Any = {
        form: [
            line for part in to_lines([answer], form=form, top=3, by_steps=True) for line in part
        ]
        for form in ("text", "json", "csv")
    }
    assert forms["text"] == [
        "a.avi: 0:02.5 in 2 steps (one) (two)",
        "  0:00-0:01 Jump 1.00 (mean)",
        "  0:01-0:02.5 no answer: 0 frames in the window",
    ]
    assert json.loads(forms["json"][0])["timeline"][1] == {
        "start_s": 1,
        "end_s": 2.5,
        "labels": [],
        "reason": "0 frames in the window",
    }
    assert forms["csv"][1:] == [
        "a.avi,ok,0,1,1,Jump,1.0,,one; two",
        "a.avi,ok,1,2.5,,,,0 frames in the window,one; two",
    ]


def test_csv_holds_any_label() -> None:
    label = 'a,"b"\r\nc'
    told = Prediction((label,), (1.0,), num_frames=10)
    lines = [
        line
        for part in to_lines([Answer(Path("a"), told)], form="csv", top=1, by_steps=False)
        for line in part
    ]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines), newline="")))
    assert [row["label"] for row in rows] == [label]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (7, "0:07"),
        (59.9996, "1:00"),
        (62.5, "1:02.5"),
        (599.04, "9:59.04"),
        (3600, "1:00:00"),
        (45296.789, "12:34:56.789"),
    ],
)
def test_times_are_shown_as_people_write_them(seconds: float, shown: str) -> None:
    assert show_time(seconds) == shown
