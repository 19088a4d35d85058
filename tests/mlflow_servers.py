"""A real MLflow server of a test's own, and a proxy before it that plays trouble."""

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kinetrack.tracking import ui


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, or does not."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__((ui.HOST, 0), _Handler)
        self.target = target
        self.trouble = ""
        self.num_troubled = 0
        self.address = f"http://{ui.HOST}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_upload = self.command == "PUT"
        trouble = self.server.trouble
        if trouble == "full" and not is_upload:
            trouble = ""
        if trouble:
            self.server.num_troubled += 1
        if trouble == "slow":
            time.sleep(30)
        elif trouble == "unauthorised":
            self.reply(401, b"You are not authenticated")
        elif trouble == "full":
            self.reply(507, b"No space left on device")
        else:
            self.pass_on(body)

    def pass_on(self, body: bytes) -> None:
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        request = urllib.request.Request(
            self.server.target + self.path, body or None, headers, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self.reply(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.reply(error.code, error.read())
        except urllib.error.URLError:
            self.close_connection = True

    def reply(self, status: int, body: bytes) -> None:
        with suppress(OSError):  # nobody waits for it any more
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{method}", _Handler.answer)


class Server:
    """MLflow's own server, which can be ended and started again on the same port."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        database = shutil.copy(empty_database, folder / "team.db")
        self._environment = {
            **os.environ,
            **ui._QUIET_SETTINGS,
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}",
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "team artifacts"),
        }
        self.port = ui._any_free_port()
        self.address = f"http://{ui.HOST}:{self.port}"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.process = ui._start_server(self.port, self._environment)
        assert ui._wait_for(self.process, self.port)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
        ui._end_server(self.process)
