import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import kinetrack
from kinetrack.cli import predict as command
from kinetrack.cli.predict import predict
from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

from factories import model_card, write_video


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
    listed = f"{folder}/videos/a.avi\n\n{folder}/videos/deep\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    assert run(folder, "-") == 0
    assert [Path(one["path"]).name for one in lines(capsys)] == ["a.avi", "c.avi"]


def test_nothing_that_blocks_is_opened(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.avi")
    assert run(folder, tmp_path / "pipe.avi", tmp_path / "gone.avi", "/dev/zero") == 2
    reasons = [one["reason"] for one in lines(capsys)]
    assert reasons == ["is no regular file", "does not exist", "is no regular file"]
    with pytest.raises(InputError, match="is no regular file"):
        kinetrack.load(folder / "model").predict(tmp_path / "pipe.avi")


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
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = command.map_clips

    def counting(function: Any, items: Any, **options: Any) -> Any:
        sizes.append(len(items))
        return real(function, items, **options)

    monkeypatch.setattr(command, "map_clips", counting)
    monkeypatch.setattr(command, "_AT_ONCE", 2)
    run(folder, *[folder / "videos/a.avi"] * 5)
    assert sizes == [2, 2, 1]
    assert len(lines(capsys)) == 5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("data/model", r"data/model/model\.json: "),
        ("some/folder", "some/folder: is no model folder"),
    ],
)
def test_missing_model_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run(folder, folder / "videos/a.avi", model=model)


def test_folder_without_a_video_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no video by its name"):
        run(folder, tmp_path)


def test_package_offers_load_and_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'save'"):
        _ = kinetrack.save
