import gzip
import hashlib
import io
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from rich.console import Console

from kinetrack.collecting import download as module
from kinetrack.collecting.download import download
from kinetrack.errors import InputError

CONTENT = bytes(range(256)) * 2000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, then with the content."""

    daemon_threads = True
    answers: list[Answer]
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked.append(self.path)
        answer = server.answers.pop(0) if server.answers else give
        answer(self)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as running:
        running.answers, running.asked = [], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def give(
    request: BaseHTTPRequestHandler,
    *,
    content: bytes = CONTENT,
    length: int | str | None = None,
    encoding: str = "",
) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    if encoding:
        request.send_header("Content-Encoding", encoding)
    request.end_headers()
    request.wfile.write(content)


def give_without_length(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(CONTENT)


def send_to(place: str, request: BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("Location", place)
    request.send_header("Content-Length", "0")
    request.end_headers()


def fail(status: int, request: BaseHTTPRequestHandler) -> None:
    request.send_error(status)


def hang(request: BaseHTTPRequestHandler) -> None:
    time.sleep(0.5)


def hang_in_the_middle(request: BaseHTTPRequestHandler) -> None:
    give(request, content=CONTENT[:1000], length=len(CONTENT))
    request.wfile.flush()
    time.sleep(0.5)


def talk_nonsense(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"nonsense\r\n\r\n")


cut_off = partial(give, content=CONTENT[:-1], length=len(CONTENT))


@pytest.mark.parametrize("checksum", [None, SHA256, MD5, SHA256.upper().replace("SHA", "sha")])
def test_file_comes_whole_with_its_checksum(
    tmp_path: Path, server: Server, checksum: str | None
) -> None:
    found = download(f"{server.url}/a/UCF101.rar", tmp_path, checksum=checksum)
    assert found.path == tmp_path / "UCF101.rar"
    assert found.path.read_bytes() == CONTENT
    assert f"sha256:{found.sha256}" == SHA256
    assert list(tmp_path.iterdir()) == [found.path]


def test_folder_is_made(tmp_path: Path, server: Server) -> None:
    assert download(f"{server.url}/a.zip", tmp_path / "a/b", checksum=None).path.is_file()


def test_query_is_sent_and_is_no_part_of_the_name(tmp_path: Path, server: Server) -> None:
    found = download(f"{server.url}/a%20b.zip?download=1#x", tmp_path, checksum=None)
    assert found.path.name == "a b.zip"
    assert server.asked == ["/a%20b.zip?download=1"]


def test_redirection_is_followed_under_the_first_name(tmp_path: Path, server: Server) -> None:
    server.answers = [partial(send_to, "/other/b.tar")]
    found = download(f"{server.url}/a.zip", tmp_path, checksum=SHA256)
    assert found.path.name == "a.zip"
    assert server.asked == ["/a.zip", "/other/b.tar"]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip"])
def test_redirection_to_another_scheme_is_refused(
    tmp_path: Path, server: Server, place: str
) -> None:
    server.answers = [partial(send_to, place)]
    assert_refused(f"{server.url}/a.zip", tmp_path, match=f"leads on to {place} -> try again")


def test_redirection_from_https_to_http_is_refused(tmp_path: Path) -> None:
    answer = requests.Response()
    answer.status_code, answer.url = 302, "https://example.org/a.zip"
    answer.headers["location"] = "http://example.org/a.zip"
    with pytest.raises(InputError, match="leads on to http://"):
        module._check_answer(answer, url=answer.url, folder=tmp_path, answers=ExitStack())


def test_redirections_in_a_circle_end(tmp_path: Path, server: Server) -> None:
    server.answers = [partial(send_to, "/a.zip")] * 100
    assert_refused(f"{server.url}/a.zip", tmp_path, match="cannot be downloaded.*redirects")


def test_server_need_not_tell_the_length(tmp_path: Path, server: Server) -> None:
    server.answers = [give_without_length]
    download(f"{server.url}/a.zip", tmp_path, checksum=SHA256)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (partial(fail, 404), "status 404 Not Found"),
        (partial(fail, 403), "status 403"),
        (partial(fail, 500), "status 500"),
        (cut_off, "1 more expected"),
        (hang, "timed out"),
        (hang_in_the_middle, "timed out|more expected"),
        (talk_nonsense, "found nonsense"),
        (partial(give, length="many"), "'many'"),
    ],
)
def test_server_that_fails_is_told_in_one_line_and_nothing_is_left(
    tmp_path: Path, server: Server, answer: Answer, reason: str
) -> None:
    server.answers = [answer]
    url = f"{server.url}/a.zip"
    assert_refused(url, tmp_path, match=rf"^{url}: cannot be.*{reason}.* -> try again, or get it")


def test_server_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as silent:  # bound, so that nobody else takes the port
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        assert_refused(url, tmp_path, match="cannot be downloaded.*refused")


def test_unknown_host_is_told_in_one_line(tmp_path: Path) -> None:
    assert_refused("http://a..b/a.zip", tmp_path, match="cannot be downloaded")


def test_download_that_was_cut_off_is_whole_at_the_next_try(tmp_path: Path, server: Server) -> None:
    server.answers = [cut_off]
    assert_refused(f"{server.url}/a.zip", tmp_path, match="cannot be downloaded")
    found = download(f"{server.url}/a.zip", tmp_path, checksum=None)
    assert found.path.read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [f"sha256:{'0' * 64}", f"md5:{'0' * 32}"])
def test_other_checksum_is_refused_with_both(tmp_path: Path, server: Server, checksum: str) -> None:
    found = SHA256 if checksum.startswith("sha") else MD5
    match = f"another checksum, found {found}, expected {checksum} -> try again"
    assert_refused(f"{server.url}/a.zip", tmp_path, match=match, checksum=checksum)


def test_finished_download_is_taken_again(tmp_path: Path, server: Server) -> None:
    first = download(f"{server.url}/a.zip", tmp_path, checksum=None)
    assert download(f"{server.url}/a.zip", tmp_path, checksum=None) == first
    assert download(f"{server.url}/a.zip", tmp_path, checksum=MD5) == first
    assert len(server.asked) == 1


def test_earlier_file_with_another_checksum_is_replaced(tmp_path: Path, server: Server) -> None:
    (tmp_path / "a.zip").write_bytes(b"old")
    found = download(f"{server.url}/a.zip", tmp_path, checksum=SHA256)
    assert found.path.read_bytes() == CONTENT


def test_earlier_file_stays_when_its_replacement_fails(tmp_path: Path, server: Server) -> None:
    (tmp_path / "a.zip").write_bytes(b"old")
    server.answers = [cut_off]
    with pytest.raises(InputError):
        download(f"{server.url}/a.zip", tmp_path, checksum=SHA256)
    assert (tmp_path / "a.zip").read_bytes() == b"old"


def test_bytes_are_stored_as_sent(tmp_path: Path, server: Server) -> None:
    """Some servers call a tar.gz a tar that is packed for the transfer."""
    packed = gzip.compress(CONTENT)
    server.answers = [partial(give, content=packed, encoding="gzip")]
    found = download(f"{server.url}/a.tar.gz", tmp_path, checksum=None)
    assert found.path.read_bytes() == packed


def test_file_larger_than_the_free_space_is_refused_before_it_comes(
    tmp_path: Path, server: Server
) -> None:
    size = shutil.disk_usage(tmp_path).free * 2
    server.answers = [partial(give, length=size)]
    match = rf"does not fit on the disk of .*expected {size} bytes -> make room"
    assert_refused(f"{server.url}/a.zip", tmp_path, match=match)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1/a.zip", "expected http:// or https://"),
        ("file:///etc/a.zip", "expected http:// or https://"),
        ("a.zip", "expected http:// or https://"),
        ("http:///a.zip", "expected http:// or https://"),
        ("", "expected http:// or https://"),
        ("http://[/a.zip", "names no file"),
        ("http://127.0.0.1/", "names no file"),
        ("http://127.0.0.1", "names no file"),
        ("http://127.0.0.1/..%2f..%2fx.zip", "no plain file name"),
        ("http://127.0.0.1/..", "no plain file name"),
        ("http://127.0.0.1/a%00.zip", "no plain file name"),
        ("http://127.0.0.1/a%5Cb.zip", "no plain file name"),
        ("http://127.0.0.1/%ff.zip", "names no file"),
        (f"http://127.0.0.1/{'a' * 250}.zip", "longer than"),
        ("http://127.0.0.1/page.html", "no address of an archive"),
        ("http://127.0.0.1/file?name=a.zip", "no address of an archive"),
    ],
)
def test_address_of_no_archive_is_refused(tmp_path: Path, url: str, reason: str) -> None:
    assert_refused(url, tmp_path, match=reason)


@pytest.mark.parametrize(
    "checksum", ["", "0" * 64, "sha256:", "sha256:12", f"md5:{'g' * 32}", f"sha1:{'0' * 40}"]
)
def test_checksum_that_is_none_is_refused(tmp_path: Path, checksum: str) -> None:
    match = "checksum: is none, .*expected sha256: and 64"
    assert_refused("http://127.0.0.1/a.zip", tmp_path, match=match, checksum=checksum)


def test_message_hides_password_and_query(tmp_path: Path, server: Server) -> None:
    server.answers = [partial(fail, 404)]
    url = server.url.replace("http://", "http://me:secret@") + "/a.zip?token=hidden"
    with pytest.raises(InputError) as caught:
        download(url, tmp_path, checksum=None)
    assert str(caught.value).startswith(f"{server.url}/a.zip: ")
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_off_a_terminal_nothing_is_printed(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    download(f"{server.url}/a.zip", tmp_path, checksum=None)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_a_bar_shows_progress(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = partial(Console, file=screen, force_terminal=True, width=200)
    monkeypatch.setattr(module, "Console", lambda stderr: terminal())
    download(f"{server.url}/a.zip", tmp_path, checksum=None)
    assert "Downloading a.zip" in screen.getvalue()
    assert "512.0/512.0 kB" in screen.getvalue()


def test_killed_download_leaves_no_file_under_the_name(tmp_path: Path, server: Server) -> None:
    def give_half(request: BaseHTTPRequestHandler) -> None:
        give(request, content=CONTENT * 4, length=len(CONTENT) * 8)
        request.wfile.flush()
        killed.wait(30)

    killed = threading.Event()
    server.answers = [give_half]
    code = (
        "from pathlib import Path; from kinetrack.collecting.download import download;"
        f"download('{server.url}/a.zip', Path('.'), checksum=None)"
    )
    source = Path(module.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(source)}
    )
    while not any(path.stat().st_size for path in tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.set()
    assert not (tmp_path / "a.zip").exists()
    found = download(f"{server.url}/a.zip", tmp_path, checksum=SHA256)
    assert found.path.read_bytes() == CONTENT


def assert_refused(url: str, folder: Path, *, match: str, checksum: str | None = None) -> None:
    """One line, and nothing is left."""
    with pytest.raises(InputError, match=match) as caught:
        download(url, folder, checksum=checksum, timeout_s=0.2)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
