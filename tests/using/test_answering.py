import base64
from pathlib import Path

import pytest
import torch

from kinetrack.data.containers import VideoError
from kinetrack.errors import InputError, WriteError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.using import answering, intake
from kinetrack.using.answering import VideoAnswerer, load_answerer
from kinetrack.using.inference import Recogniser, load_recogniser
from kinetrack.using.intake import Limits

from factories import model_card, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(folder, Small3dCnn(num_classes=3), model_card(labels=("A", "B", "C")))
    return folder


@pytest.fixture(scope="module")
def recogniser(folder: Path) -> Recogniser:
    return load_recogniser(folder)


def test_bad_videos_leave_the_others_their_answers(recogniser: Recogniser, video: Path) -> None:
    text = base64.b64encode(video.read_bytes()).decode()
    rows = [(text, None), (b"no video", None), (video.read_bytes(), None), ("%", None)]
    first, second, third, fourth = VideoAnswerer(recogniser, Limits()).answer(rows)
    expected = recogniser.predict(video)
    assert first == third
    assert (first["status"], first["reason"], first["num_frames"]) == ("ok", "", 10)
    assert first["labels"] == list(expected.labels)
    assert first["probabilities"] == list(expected.probabilities)
    assert first["notes"] == []
    assert second["status"] == fourth["status"] == "broken"
    assert second["reason"].startswith("cannot be opened as a video")
    assert second["labels"] == second["probabilities"] == []
    assert fourth["reason"].startswith("is no base64")


def test_path_below_the_root_is_answered(recogniser: Recogniser, video: Path) -> None:
    answerer = VideoAnswerer(recogniser, Limits(root=video.parent.resolve()))
    found, out = answerer.answer([(None, video.name), (None, "../x.avi")])
    assert found["labels"] == list(recogniser.predict(video).labels)
    assert out["reason"] == "its path does not lead into the folder of this server"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((None, None), "needs one of the columns video and path"),
        (("YWJj", "a.avi"), "needs one of the columns video and path"),
        ((5, None), "holds no video, expected base64 text or bytes, or a path"),
        ((None, ["a"]), "holds no video"),
        ((None, "a.avi"), "no path is taken by this server"),
    ],
)
def test_row_without_a_video_is_told(recogniser: Recogniser, row: tuple, reason: str) -> None:
    (answer,) = VideoAnswerer(recogniser, Limits()).answer([row])
    assert answer["status"] == "broken"
    assert answer["reason"].startswith(reason)


def test_top_and_views_are_those_of_predict(recogniser: Recogniser, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.avi", num_frames=30)
    card = recogniser.card
    centred = card.model_copy(update={"clip": card.clip.model_copy(update={"sampling": "center"})})
    several = Recogniser(recogniser._model, centred)
    (answer,) = VideoAnswerer(several, Limits()).answer([(path.read_bytes(), None)], top=2, views=3)
    expected = several.predict(path, views=3)
    assert answer["labels"] == [label for label, _ in expected.top(2)]
    assert answer["probabilities"] == [share for _, share in expected.top(2)]


def test_without_views_a_model_of_drawn_windows_is_asked_for_five(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    content = write_video(tmp_path / "long.avi", num_frames=30).read_bytes()
    changes = {"sampling": "random", "spare_frames": "all"}
    clip = recogniser.card.clip.model_copy(update=changes)
    drawn = Recogniser(recogniser.network, recogniser.card.model_copy(update={"clip": clip}))
    answerer = VideoAnswerer(drawn, Limits())
    told, five, one = (answerer.answer([(content, None)], views=views)[0] for views in (None, 5, 1))
    assert told == five != one


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        (3, {}, "the request: has too many videos, found 3, expected at most 2 -> send several"),
        (1, {"top": 0}, "top: is no number of classes, found 0"),
        (1, {"views": 0}, "views: is no number of views, found 0, expected 1 to 100"),
        (1, {"views": 101}, "views: is no number of views"),
        (1, {"views": 2}, "looks at the whole video at once"),
    ],
)
def test_request_that_cannot_be_is_refused_as_a_whole(
    recogniser: Recogniser, rows: int, options: dict[str, int], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        VideoAnswerer(recogniser, Limits(videos=2)).answer([("YWJj", None)] * rows, **options)


def test_full_disk_ends_the_request_not_the_video(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WriteError("clip.zip", "cannot be written")

    monkeypatch.setattr(answering, "prepare_within", refuse)
    with pytest.raises(WriteError):
        VideoAnswerer(recogniser, Limits()).answer([("YWJj", None)])


def test_decoder_that_crashes_leaves_an_answer(
    recogniser: Recogniser, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise VideoError("crashed the decoder (SIGSEGV)")

    with monkeypatch.context() as patch:
        patch.setattr(intake, "measure_video", crash)
        (answer,) = VideoAnswerer(recogniser, Limits()).answer([(video.read_bytes(), None)])
    assert answer["reason"] == "crashed the decoder (SIGSEGV)"
    (again,) = VideoAnswerer(recogniser, Limits()).answer([(video.read_bytes(), None)])
    assert again["status"] == "ok"


def test_limits_are_those_of_the_environment(
    folder: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETRACK_SERVE_VIDEO_MB", "0.001")
    (answer,) = load_answerer(folder).answer([(video.read_bytes(), None)])
    assert answer["reason"].startswith("is too large")
