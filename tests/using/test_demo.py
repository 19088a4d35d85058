"""The page to try a model: asked as a browser asks, and by a real browser."""

import http.client
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from flask.testing import FlaskClient

from kinetrack.errors import InputError, WriteError
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn
from kinetrack.using import demo
from kinetrack.using.inference import Recogniser, load_recogniser
from kinetrack.using.intake import Limits
from kinetrack.using.pages.strips import draw_window
from kinetrack.using.prediction import prepare

from browser import open_browser
from factories import model_card, write_video

NASTY = "<img src=x onerror=alert(1)>"
LIMITS = Limits(video_mb=0.05, duration_s=30)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        card = model_card(labels=("Jump", NASTY), num_frames=8)
        save_model(folder, Small3dCnn(num_classes=2), card)
    return load_recogniser(folder)


@pytest.fixture
def client(recogniser: Recogniser) -> FlaskClient:
    return demo.make_app(recogniser, LIMITS).test_client()


def send(
    client: FlaskClient, content: bytes, name: str = "a.avi", **headers: str
) -> tuple[int, str]:
    form = {"video": (io.BytesIO(content), name)}
    answer = client.post("/", data=form, headers=headers, content_type="multipart/form-data")
    return answer.status_code, answer.text


def test_video_has_its_answer_its_frames_and_where_it_was_looked(
    client: FlaskClient, recogniser: Recogniser, video: Path
) -> None:
    status, page = send(client, video.read_bytes())
    assert status == 200
    _, share = recogniser.predict(video).top(1)[0]
    assert f"{share:.3f}" in page
    assert page.count("data:image/jpeg;base64,") == 2 * 6
    assert "Frame 8 of a.avi" in page
    assert "10 frames in the video" in page


@pytest.mark.parametrize(
    ("sampling", "judged"),
    [
        ("uniform", "by 1 window: 8 frames of 16 \u00d7 16 pixels, evenly spread over it."),
        ("center", "by 1 window: 8 frames of 16 \u00d7 16 pixels around its middle."),
        (
            "random",
            "by 5 windows, evenly spread over it and averaged; the network sees 8 frames of",
        ),
    ],
)
def test_page_says_by_how_many_windows_it_judges(
    recogniser: Recogniser, tmp_path: Path, sampling: str, judged: str
) -> None:
    changes = {"sampling": sampling, "spare_frames": "all" if sampling == "random" else 0}
    clip = recogniser.card.clip.model_copy(update=changes)
    other = Recogniser(recogniser.network, recogniser.card.model_copy(update={"clip": clip}))
    client = demo.make_app(other, LIMITS).test_client()
    asked = client.get("/").text
    assert judged in asked
    assert "Drop a video here, or choose one" in asked
    video = write_video(tmp_path / "a.avi", num_frames=40)
    status, page = send(client, video.read_bytes())
    assert status == 200
    views = 5 if sampling == "random" else 1
    _, share = other.predict(video, views=views).top(1)[0]
    assert f"{share:.3f}" in page
    assert f"40 frames in the video, judged by {views} window" in page
    assert ("in the middle window" in page) == (views > 1)


def test_pictures_of_several_windows_are_those_of_the_middle_one(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    geometry = {"sampling": "random", "spare_frames": "all"}
    clip = recogniser.card.clip.model_copy(update=geometry)
    other = Recogniser(recogniser.network, recogniser.card.model_copy(update={"clip": clip}))
    video = write_video(tmp_path / "a.avi", num_frames=40)
    shown = demo.show(video.read_bytes(), other, LIMITS, name="a.avi")
    alone = prepare(video, decoding=other.card.decoding, geometry=clip, windows=1).clips[0]
    expected = draw_window(alone.transpose(1, 2, 3, 0))
    assert [one.image for one in shown.strip.frames] == [one.image for one in expected.frames]


def test_names_are_text(client: FlaskClient, video: Path) -> None:
    _, page = send(client, video.read_bytes(), f"{NASTY}.avi")
    assert NASTY not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 2  # the class, and the file


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"no video", "cannot be opened as a video"), (b"x" * 50_001, "is too large, found 50001")],
)
def test_bad_video_is_explained_and_the_page_lives_on(
    client: FlaskClient, video: Path, content: bytes, problem: str
) -> None:
    status, page = send(client, content)
    assert status == 422
    assert f'id="problem">{problem}' in page
    assert send(client, video.read_bytes())[0] == 200


def test_upload_that_is_far_too_large_is_explained(client: FlaskClient) -> None:
    status, page = send(client, b"x" * 200_000)
    assert status == 413
    assert "is too large, expected at most 0.05 MB" in page


def test_no_video_is_told(client: FlaskClient) -> None:
    assert send(client, b"", name="")[0] == 400
    assert client.post("/").status_code == 400


def test_full_disk_is_no_fault_of_the_video(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WriteError("clip.zip", "cannot be written")

    monkeypatch.setattr(demo, "prepare_within", refuse)
    status, page = send(client, b"x")
    assert status == 503
    assert "cannot be written" in page


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::]"])
def test_foreign_host_is_refused(client: FlaskClient, video: Path, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 400
    assert send(client, video.read_bytes(), Host=host)[0] == 400


@pytest.mark.parametrize("host", ["127.0.0.1:1234", "localhost:1234", "localhost"])
def test_own_host_is_served(client: FlaskClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_form_of_another_site_is_refused(client: FlaskClient, video: Path) -> None:
    status, page = send(client, video.read_bytes(), **{"Sec-Fetch-Site": "cross-site"})
    assert status == 403
    assert "sent by another site" in page


@pytest.mark.parametrize(
    "path", ["/static/x", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/demo.html"]
)
def test_no_file_is_served(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.text == "404 Not Found\n"


def test_page_allows_itself_nothing(client: FlaskClient) -> None:
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script" not in answer.text


@pytest.fixture
def address(recogniser: Recogniser) -> Iterator[tuple[str, int]]:
    server = demo.start(demo.make_app(recogniser, LIMITS))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield demo.HOST, server.port
    server.shutdown()
    thread.join()
    server.server_close()


def test_server_is_bound_to_this_machine_and_survives_nonsense(address: tuple[str, int]) -> None:
    host, port = address
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.2", port, timeout=5).request("GET", "/")
    for body in (b"", b"--x", b"\0" * 10_000):
        connection = http.client.HTTPConnection(host, port, timeout=30)
        connection.request("POST", "/", body, {"Content-Type": "multipart/form-data; boundary=x"})
        assert connection.getresponse().status == 400
        connection.close()


def test_taken_port_is_told(address: tuple[str, int], recogniser: Recogniser) -> None:
    with pytest.raises(InputError, match=r"this port cannot be had.* -> choose another --port"):
        demo.start(demo.make_app(recogniser, LIMITS), port=address[1])


@pytest.mark.slow
def test_browser_shows_answer_and_pictures_and_explains_a_bad_video(
    address: tuple[str, int], recogniser: Recogniser, tmp_path: Path
) -> None:
    good = write_video(tmp_path / f"{NASTY.replace('/', '')}.avi", num_frames=12)
    bad, huge = tmp_path / "broken.avi", tmp_path / "huge.avi"
    bad.write_text("no video")
    huge.write_bytes(b"x" * 20_000_000)
    own = f"http://{address[0]}:{address[1]}/"
    heard: list[str] = []
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on(
            "request",
            lambda request: heard.append(request.url) if request.url.startswith("http") else None,
        )
        page.goto(own)
        page.set_input_files("input[name=video]", good)
        page.get_by_role("button", name="Classify").click()
        label, share = recogniser.predict(good).top(1)[0]
        first = page.locator("#answers > div").first.inner_text().split("\n")
        assert (first[0], first[-1]) == (label, f"{share:.3f}")
        assert page.locator(".strip img").count() == 12
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_input_files("input[name=video]", bad)
        page.get_by_role("button", name="Classify").click()
        assert page.locator("#problem").inner_text().startswith("cannot be opened as a video")
        page.set_input_files("input[name=video]", huge)
        page.get_by_role("button", name="Classify").click()
        assert "is too large" in page.locator("#problem").inner_text()
    assert set(heard) <= {own, f"{own}favicon.ico"}
