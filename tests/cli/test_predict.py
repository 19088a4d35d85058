import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import kinetrack
from kinetrack.cli.places import present_model
from kinetrack.cli.predict import command
from kinetrack.cli.predict.command import predict
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

from factories import GEOMETRY, model_card, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and videos: two good ones, a broken one, and one in a folder below."""
    folder = tmp_path_factory.mktemp("predict")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(folder / "model", Small3dCnn(num_classes=2), model_card())
    for name in ("a.avi", "b b.avi", "deep/c.avi"):
        write_video(folder / "videos" / name, num_frames=12)
    (folder / "videos/broken.avi").write_text("no video")
    (folder / "videos/notes.txt").write_text("no video by its name")
    return folder


def run(folder: Path, *names: object, form: Any = "json", **options: Any) -> int:
    settings = {"model": str(folder / "model"), "top": 2, "views": 1, **options}
    return predict([str(name) for name in names], form=form, **settings)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_video_is_an_object_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, folder / "videos/a.avi", folder / "videos/b b.avi") == 0
    first, second = lines(capsys)
    assert (first["path"], first["status"]) == (str(folder / "videos/a.avi"), "ok")
    assert second["path"].endswith("b b.avi")
    shares = [one["probability"] for one in first["labels"]]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert shares == sorted(shares, reverse=True)
    assert {one["label"] for one in first["labels"]} == {"Jump", "Walk"}


def test_answers_are_those_of_load(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, folder / "videos/a.avi")
    (said,) = lines(capsys)
    model = kinetrack.load(folder / "model")
    assert model.labels == ("Jump", "Walk")
    found = model.predict(folder / "videos/a.avi")
    assert found.num_frames == 12
    assert [
        {"label": label, "probability": round(share, 6)} for label, share in found.top(2)
    ] == said["labels"]


def test_folder_is_walked_and_a_broken_video_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, folder / "videos") == 1
    captured = capsys.readouterr()
    said = [json.loads(line) for line in captured.out.splitlines()]
    names = [Path(one["path"]).name for one in said]
    assert names == ["a.avi", "b b.avi", "broken.avi", "c.avi"]
    assert [one["status"] for one in said] == ["ok", "ok", "broken", "ok"]
    assert "cannot be opened as a video" in said[2]["reason"]
    assert "predict: 1 of 4 videos have no answer" in captured.err


def test_list_comes_on_the_standard_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No name but bytes: not all of them are UTF-8.
    listed = os.fsencode(f"{folder}/videos/a.avi\n\n{folder}/videos/deep\r\n") + b"gone\xff.avi\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed), encoding="utf-8"))
    assert run(folder, "-") == 1
    assert [Path(one["path"]).name for one in lines(capsys)] == ["a.avi", "c.avi", "gone\udcff.avi"]


def test_empty_list_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(InputError, match="-: names no video"):
        run(folder, "-")


def test_nothing_that_blocks_is_opened(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.avi")
    assert run(folder, tmp_path / "pipe.avi", "/dev/zero") == 2
    assert [one["reason"] for one in lines(capsys)] == ["is no regular file"] * 2
    with pytest.raises(InputError, match="is no regular file"):
        kinetrack.load(folder / "model").predict(tmp_path / "pipe.avi")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.avi", "there is no such file or folder"),
        ("gone/", "there is no such file or folder"),
        ("videos/a.avi/b.avi", "there is no such file or folder"),
        ("a" * 300 + ".avi", "File name too long"),
        ("a.avi\0b.avi", "is no file name"),
    ],
    ids=["gone", "folder", "below a file", "long", "zero byte"],
)
def test_name_without_a_file_is_told_and_the_others_are_done(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    assert run(folder, folder / name, folder / "videos/a.avi") == 1
    broken, good = lines(capsys)
    assert reason in broken["reason"]
    assert good["status"] == "ok"
    with pytest.raises(InputError, match=reason):
        kinetrack.load(folder / "model").predict(folder / name)


@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_truncated_video_has_an_answer_and_a_note(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    whole = write_video(tmp_path / "whole.avi", num_frames=40).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 3 // 4])
    assert run(folder, tmp_path / "cut.avi", form=form) == 0
    assert re.search(r"\d+ of 40 frames missing", capsys.readouterr().out)
    found = kinetrack.load(folder / "model").predict(tmp_path / "cut.avi")
    assert "of 40 frames missing" in found.notes[0]


def test_views_that_the_model_cannot_take_are_refused_before_any_video_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "map_ahead", None)
    with pytest.raises(InputError, match="looks at the whole video at once"):
        run(folder, folder / "videos/a.avi", views=3)


def test_table_for_people_escapes_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "line\nbreak.avi"
    write_video(tmp_path / "plain.avi", num_frames=12).rename(name)
    assert run(folder, name, form="text", top=1) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "line\\nbreak.avi: " in line
    assert line.count(",") == 0


def test_csv_has_a_line_a_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, folder / "videos/a.avi", folder / "videos/broken.avi", form="csv") == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["status"], row["rank"]) for row in rows] == [
        ("ok", "1"),
        ("ok", "2"),
        ("broken", ""),
    ]


def test_only_some_videos_are_held_at_once(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = []
    real = command.map_ahead

    def spying(*args: Any, at_once: int, **options: Any) -> Any:
        limits.append(at_once)
        return real(*args, at_once=at_once, **options)

    monkeypatch.setattr(command, "map_ahead", spying)
    geometry = GEOMETRY.model_copy(update={"sampling": "center"})
    card = model_card().model_copy(update={"clip": geometry})
    save_model(tmp_path / "model", Small3dCnn(num_classes=2), card)
    for views in (1, 16, 100):
        run(folder, folder / "videos/a.avi", model=str(tmp_path / "model"), views=views)
    assert limits == [16, 4, 1]


def test_model_of_drawn_windows_is_asked_for_five_unless_one_is_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"sampling": "random", "spare_frames": "all"}
    card = model_card().model_copy(update={"clip": GEOMETRY.model_copy(update=changes)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(tmp_path / "model", Small3dCnn(num_classes=2), card)
    video = write_video(tmp_path / "a.avi", num_frames=40)
    model = kinetrack.load(tmp_path / "model")
    five, one = (dict(model.predict(video, views=views).top(2)) for views in (5, 1))
    assert dict(model.predict(video).top(2)) == five
    assert five != one
    for views, expected in ((None, five), (1, one)):
        assert run(folder, video, model=str(tmp_path / "model"), views=views) == 0
        (said,) = lines(capsys)
        found = {x["label"]: x["probability"] for x in said["labels"]}
        assert found == pytest.approx(expected, abs=1e-6)


def test_outside_of_a_project_a_model_has_to_be_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    remedy = "run this inside the project, or name a model: --model FOLDER"
    with pytest.raises(InputError, match=f"{tmp_path}: no dvc.yaml here or above -> {remedy}"):
        present_model()
    shutil.copytree(folder / "model", tmp_path / "data/model")
    assert present_model() == "data/model"
    (tmp_path / "dvc.yaml").touch()
    assert present_model() == str(tmp_path / "data/model")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("data/model", "data/model: is no model folder -> make repro trains one, dvc pull"),
        ("some/folder", "some/folder: is no model folder"),
    ],
)
def test_missing_model_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run(folder, folder / "videos/a.avi", model=model)


def test_folder_without_a_video_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, folder / "videos/a.avi", tmp_path) == 1
    _, empty = lines(capsys)
    assert (empty["path"], empty["reason"]) == (str(tmp_path), "holds no video by its name")


def test_package_offers_load_and_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'save'"):
        _ = kinetrack.save
