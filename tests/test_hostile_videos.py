"""Hostile videos through the commands that users meet: named, cheap, and nothing else opened."""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from kinetrack.data.index import INDEX_NAME, FramesRow, read_index
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models.small_3dcnn import Small3dCnn

import hostile_videos as hostile
from bounded import MOST_MB, Cost, assert_cheap, run_bounded
from factories import model_card, write_video
from project import Project, environment, make_project

FAST = {**hostile.REFUSED, **hostile.READ, **hostile.EITHER}
ALL = {**FAST, **hostile.SLOW_REFUSED, **hostile.SLOW_READ}
# One line of a problem, its end, and no more of Python.
TRACEBACK = "Traceback (most recent call last)"


def predict(folder: Path, *names: str) -> Cost:
    """What `kinetrack predict` says of videos, an object a line."""
    command = [sys.executable, "-m", "kinetrack.cli.main", "predict", *names]
    environ = {**environment(), "KINETRACK_WORKERS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return run_bounded([*command, "--model", "model", "--json"], folder=folder, environ=environ)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, in which a command runs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(tmp_path / "model", Small3dCnn(num_classes=2), model_card())
    return tmp_path


def write_all(folder: Path, files: dict[str, Callable[[Path], object]]) -> None:
    folder.mkdir()
    for name, write in files.items():
        write(folder / name)
        assert (folder / name).stat().st_size <= hostile.MOST_BYTES, name


def test_each_is_a_line_with_its_reason_and_costs_little(folder: Path) -> None:
    """All of them by one command, so that this is fast."""
    write_all(folder / "videos", FAST)
    cost = predict(folder, "videos")
    assert TRACEBACK not in cost.stderr
    said = {Path(one["path"]).name: one for one in map(json.loads, cost.stdout.splitlines())}
    assert sorted(said) == sorted(FAST), cost.stderr
    assert cost.returncode == 1
    for name, one in said.items():
        assert (one["status"] == "ok") or one["reason"], name
        assert (one["status"] == "ok") is (name in hostile.READ) or name in hostile.EITHER, one
    assert cost.peak_mb < MOST_MB, cost


@pytest.fixture
def visited() -> Iterator[tuple[str, list[object]]]:
    """An address of this machine, and who came there."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def wait() -> None:
            while not ended.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                connection.close()
                came.append(address)

        thread = threading.Thread(target=wait)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/other.avi", came
        ended.set()
        thread.join()


def test_playlist_opens_no_other_file_and_no_address(
    folder: Path, visited: tuple[str, list[object]]
) -> None:
    other = write_video(folder / "other.avi", num_frames=8)
    address, came = visited
    for number, target in enumerate((str(other), f"file:{other}", "../other.avi", address)):
        write_all(folder / f"videos{number}", hostile.playlists(target))
    cost = predict(folder, *(f"videos{number}" for number in range(4)))
    said = [json.loads(line) for line in cost.stdout.splitlines()]
    assert len(said) == 4 * len(hostile.playlists(""))
    assert {one["status"] for one in said} == {"broken"}
    assert all("cannot be opened as a video" in one["reason"] for one in said)
    assert came == []
    assert TRACEBACK not in cost.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("hostile") / "project")
    project.set_params(frames={"on_broken": "skip", "classes": "all", "group_pattern": None})
    return project


def extract(project: Project, videos: Path, frames: Path) -> Cost:
    """What the stage `frames` says."""
    command = [sys.executable, "-m", "kinetrack.stages.frames", videos, frames]
    environ = {**environment(), "KINETRACK_WORKERS": "1", "PYTHONPATH": "src"}
    return run_bounded(command, folder=project.folder, environ=environ)


@pytest.fixture(scope="module")
def harmless(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Cost:
    """What the stage takes for good videos."""
    folder = tmp_path_factory.mktemp("harmless")
    for label in ("Evil", "Good"):
        write_video(folder / "videos" / label / "good.avi", num_frames=4, start=len(label))
    return extract(project, folder / "videos", folder / "frames")


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_stage_frames_names_it_and_stays_below_the_limits(
    project: Project, harmless: Cost, tmp_path: Path, name: str
) -> None:
    videos, frames = tmp_path / "videos", tmp_path / "frames"
    write_video(videos / "Good/good.avi", num_frames=4)
    write_all(videos / "Evil", {name: ALL[name]})
    cost = extract(project, videos, frames)
    assert cost.returncode == 0, cost.stderr
    assert TRACEBACK not in cost.stderr
    assert_cheap(cost, name, harmless=harmless, usual_s=0.7)
    evil, good = read_index(frames / INDEX_NAME, FramesRow, remedy="")
    assert (good.status, good.num_frames) == ("ok", 4)
    is_refused = name in hostile.REFUSED or name in hostile.SLOW_REFUSED
    assert name in hostile.EITHER or (evil.status == "broken") is is_refused, evil
    assert f"Evil/{Path(name).stem}: {evil.reason}" in cost.stdout or evil.status == "ok"
    there = sorted(path.name for path in frames.rglob("*.zip"))
    assert there == ["good.zip"] if is_refused else ["good.zip", f"{Path(name).stem}.zip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "videos"]
