"""The same bytes, wherever the work is done."""

import os
import signal
import threading
from pathlib import Path

import pytest

from kinetrack.data.index import INDEX_NAME, FramesRow, read_index
from kinetrack.files import file_md5
from kinetrack.parallel import DASK_VARIABLE, WORKERS_VARIABLE
from kinetrack.splitting.splits import write_split
from kinetrack.stages.frames import extract_all
from kinetrack.stages.tensors import pack_all

from dask_cluster import start_cluster, wait_until
from factories import FRAMES_PARAMS, GEOMETRY, write_data_set


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips that take a while to decode; read only."""
    folder = tmp_path_factory.mktemp("videos")
    write_data_set(folder, groups=4, clips_per_group=3, num_frames=40)
    return folder


def run_stages(folder: Path, videos: Path) -> dict[str, str]:
    """MD5 by path of all files that `frames` and `tensors` leave, the hidden ones too."""
    frames, split, tensors = folder / "frames", folder / "split.json", folder / "tensors"
    extract_all(FRAMES_PARAMS, videos=videos, frames=frames)
    rows = read_index(frames / INDEX_NAME, FramesRow, remedy="")
    sides = [(row, "test" if row.group == "01" else "train") for row in rows]
    write_split(split, sides, rule={})
    pack_all(GEOMETRY, frames=frames, split=split, tensors=tensors)
    return {
        path.relative_to(folder).as_posix(): file_md5(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process makes."""
    made = run_stages(tmp_path_factory.mktemp("alone"), videos)
    assert len(made) >= 24 + 24 + 3
    return made


@pytest.mark.slow
def test_two_processes_make_what_one_makes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, videos: Path, expected: dict[str, str]
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    assert run_stages(tmp_path, videos) == expected


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--nthreads", "2"), ("--no-nanny",)])
def test_cluster_makes_the_same_though_a_worker_is_killed(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    videos: Path,
    expected: dict[str, str],
    options: tuple[str, ...],
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)  # which the workers share
    with start_cluster(tmp_path / "logs", workers=2, options=options) as cluster:
        monkeypatch.setenv(DASK_VARIABLE, cluster.address)
        killed = cluster.worker_pids()[0]

        def kill_in_the_middle() -> None:
            wait_until(lambda: sum(path.is_file() for path in Path("made").rglob("*")) > 5)
            os.kill(killed, signal.SIGKILL)

        thread = threading.Thread(target=kill_in_the_middle)
        thread.start()
        assert run_stages(tmp_path / "made", videos) == expected
        thread.join()
        assert killed not in cluster.worker_pids()
