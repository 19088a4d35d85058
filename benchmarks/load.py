"""A served model under load: `python -m benchmarks.load MODEL VIDEOS`, a folder of videos.

`mlflow models serve` answers several clients at once; one request in twenty is bad, in five ways by
turns. What is measured: seconds to an answer, requests a second, and the memory of the server with
all its processes, after a warm-up and at the end.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import quantiles
from typing import Annotated, NamedTuple

import psutil
import requests
import typer

from kinetrack.data.clips import walk_videos

HOST = "127.0.0.1"
BAD_SHARE = 0.05
VIDEO_MB = 8.0
_STARTS_WITHIN_S = 180.0


class Request(NamedTuple):
    """What is sent, and the beginning of what must come back."""

    body: bytes
    status: int
    outcome: str


class Reply(NamedTuple):
    """How a request ended, after so long; `is_expected`: as it should."""

    outcome: str
    seconds: float
    is_expected: bool


class Load(NamedTuple):
    """What came of all requests; memory in bytes, of all processes of the server."""

    replies: list[Reply]
    seconds: float
    memory_bytes: list[int]
    """After the warm-up, and after each tenth of the requests."""

    @property
    def unexplained(self) -> list[Reply]:
        """Answers that are not those that the requests ask for."""
        return [reply for reply in self.replies if not reply.is_expected]


def make_requests(videos: Sequence[Path], number: int) -> Iterator[Request]:
    """Requests with one video each, the videos by turns; every twentieth is bad."""
    good, bad = cycle([_good(path) for path in videos]), cycle(_bad(videos[0]))
    every = round(1 / BAD_SHARE)
    for place in range(1, number + 1):
        yield next(good if place % every else bad)


def _good(path: Path) -> Request:
    return Request(_table(base64.b64encode(path.read_bytes()).decode()), 200, "ok")


def _bad(video: Path) -> list[Request]:
    content = video.read_bytes()
    cut_off = base64.b64encode(content[:200]).decode()
    noise = base64.b64encode(bytes(range(256)) * 40).decode()
    too_large = "A" * int(VIDEO_MB * 1e6 * 4 / 3 + 100)
    return [
        Request(_table(cut_off), 200, "cannot be opened as a video"),
        Request(_table(noise), 200, "cannot be opened as a video"),
        Request(_table(too_large), 200, "is too large"),
        Request(_table("this is no base64!"), 200, "is no base64"),
        Request(b'{"dataframe_records": [{"clip": "a"}]}', 400, "HTTP 400"),
    ]


def _table(video: str) -> bytes:
    return json.dumps({"dataframe_records": [{"video": video}]}).encode()


def send(address: str, request: Request) -> Reply:
    """Send a request and wait for its answer."""
    begin = time.perf_counter()
    answer = requests.post(
        f"{address}/invocations",
        data=request.body,
        headers={"Content-Type": "application/json"},
        timeout=120,
    )
    seconds = time.perf_counter() - begin
    outcome = _outcome(answer)
    is_expected = answer.status_code == request.status and outcome.startswith(request.outcome)
    return Reply(outcome, seconds, is_expected)


def _outcome(answer: requests.Response) -> str:
    if answer.status_code != 200:
        return f"HTTP {answer.status_code}"
    (row,) = answer.json()["predictions"]
    return str(row["reason"] or row["status"])


def put_load(
    server: psutil.Process,
    address: str,
    sent: Sequence[Request],
    *,
    clients: int,
    warm_up: int,
) -> Load:
    """Send requests from several clients at once, the first ones to warm up; measure the rest."""
    with ThreadPoolExecutor(clients) as pool:
        ask = partial(send, address)
        list(pool.map(ask, sent[:warm_up]))
        replies: list[Reply] = []
        memory_bytes, begin = [count_memory(server)], time.perf_counter()
        for some in batched(sent[warm_up:], -(-len(sent[warm_up:]) // 10)):
            replies += pool.map(ask, some)
            memory_bytes.append(count_memory(server))
    return Load(replies, time.perf_counter() - begin, memory_bytes)


def batched(sent: Sequence[Request], size: int) -> Iterator[Sequence[Request]]:
    """Parts of a list, so many at once."""
    for start in range(0, len(sent), size):
        yield sent[start : start + size]


def count_memory(server: psutil.Process) -> int:
    """Resident bytes of a process and all that it has started."""
    family = [server, *server.children(recursive=True)]
    return sum(one.memory_info().rss for one in family if one.is_running())


@contextmanager
def served(model: str, **variables: str) -> Iterator[tuple[psutil.Process, str]]:
    """A model that `mlflow models serve` answers for within the block, on this machine only."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    command = [*["-m", "mlflow", "models", "serve", "--env-manager", "local"], "-m", model]
    # MLflow looks for uvicorn there.
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    fixed = {"PATH": search_path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with subprocess.Popen(
        [sys.executable, *command, "-p", str(port)],
        env={**os.environ, **fixed, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            address = f"http://{HOST}:{port}"
            _wait_for(f"{address}/ping", process)
            yield psutil.Process(process.pid), address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(address, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError("mlflow models serve did not start")


def describe(load: Load) -> str:
    """Tell the figures in some lines."""
    parts = quantiles([reply.seconds for reply in load.replies], n=100)
    rate = len(load.replies) / load.seconds
    memory = ", ".join(f"{size / 1e6:.0f}" for size in load.memory_bytes)
    outcomes = Counter(reply.outcome for reply in load.replies)
    told = [f"  {number:5} {outcome}" for outcome, number in outcomes.most_common()]
    return "\n".join(
        [
            f"{len(load.replies)} requests, {rate:.1f} a second",
            f"p50 {1000 * parts[49]:.0f} ms, p95 {1000 * parts[94]:.0f} ms",
            f"memory of the server, MB, after the warm-up and each tenth: {memory}",
            f"unexplained answers: {len(load.unexplained)}",
            *told,
        ]
    )


def main(
    model: Annotated[str, typer.Argument(help="As mlflow models serve takes it.")],
    videos: Annotated[Path, typer.Argument(help="A folder of videos.")],
    number: Annotated[int, typer.Option(min=1)] = 1000,
    clients: Annotated[int, typer.Option(min=1)] = 4,
    warm_up: Annotated[int, typer.Option(min=1)] = 100,
) -> None:
    """Put load on a served model and print the figures."""
    chosen = list(islice(walk_videos(videos), 200))
    sent = list(make_requests(chosen, warm_up + number))
    with served(model, KINETRACK_SERVE_VIDEO_MB=f"{VIDEO_MB:g}") as (server, address):
        load = put_load(server, address, sent, clients=clients, warm_up=warm_up)
    typer.echo(describe(load))


if __name__ == "__main__":
    typer.run(main)
