import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kinetrack import cluster, cluster_code
from kinetrack.errors import InputError
from kinetrack.parallel import DASK_VARIABLE, map_clips

import dask_cluster
from dask_cluster import ROOT, Cluster, start_cluster, wait_until

NUMBERS = list(range(40))


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of two workers with nannies, which `map_clips` uses."""
    yield from _use_cluster(tmp_path, monkeypatch)


@pytest.fixture
def two_bare_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of two workers that nobody starts anew, which `map_clips` uses."""
    yield from _use_cluster(tmp_path, monkeypatch, "--no-nanny")


def _use_cluster(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str, workers: int = 2
) -> Iterator[Cluster]:
    (folder / "project").mkdir()
    monkeypatch.chdir(folder / "project")
    with start_cluster(folder, workers=workers, options=options) as started:
        monkeypatch.setenv(DASK_VARIABLE, started.address)
        yield started


def kill_after(seconds: float, pid: int) -> None:
    """Kill a process in the middle of what comes next."""
    threading.Timer(seconds, os.kill, (pid, signal.SIGKILL)).start()


@pytest.mark.parametrize(
    "address", ["host", "host:8786", "tcp://host", "tcp://:0", "http://host:80", "tcp://a b:1", "-"]
)
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(DASK_VARIABLE, address)
    with pytest.raises(InputError, match="KINETRACK_DASK: is no address of a Dask scheduler"):
        map_clips(abs, [1], description="test")


@pytest.mark.parametrize("listens", [True, False])
def test_address_without_a_scheduler_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if not listens:
            server.close()
        monkeypatch.setenv(DASK_VARIABLE, address)
        with pytest.raises(InputError, match=f"{address}: no Dask scheduler answers.* -> start"):
            map_clips(abs, [1], description="test")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DASK_VARIABLE, "tcp://127.0.0.1:8786")
    monkeypatch.delitem(sys.modules, "kinetrack.cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"found distributed -> pip install 'kinetrack\[dask\]'"):
        map_clips(abs, [1], description="test")


def test_shared_folder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cluster._shared_folder() as folder:
        assert cluster_code.find_difference(cluster_code.describe_code(), folder, "here") is None
    assert list((tmp_path / ".kinetrack").iterdir()) == []


@pytest.mark.slow
def test_cluster_gives_what_this_process_gives(two_workers: Cluster) -> None:
    assert map_clips(dask_cluster.square, NUMBERS, description="test") == [n * n for n in NUMBERS]
    processes = map_clips(dask_cluster.tell_process, NUMBERS, description="test")
    assert {pid for pid, _ in processes} == set(two_workers.worker_pids())
    assert list(Path(".kinetrack").iterdir()) == []


@pytest.mark.slow
def test_isolated_calls_work_on_workers(two_workers: Cluster) -> None:
    two_workers.add_worker("--no-nanny", "--nthreads", "3")
    squares = map_clips(dask_cluster.square_isolated, NUMBERS, description="test")
    assert squares == [n * n for n in NUMBERS]


@pytest.mark.slow
def test_errors_travel_with_their_text(two_workers: Cluster) -> None:
    with pytest.raises(InputError) as here:
        dask_cluster.refuse(3)
    with pytest.raises(InputError) as there:
        map_clips(dask_cluster.refuse, NUMBERS, description="test")
    assert str(there.value) == str(here.value)
    # No error of Dask, which waits with one of the same kind.
    with pytest.raises(TimeoutError, match=r"no \d"):
        map_clips(dask_cluster.fail, NUMBERS, description="test")


@pytest.mark.slow
def test_nothing_is_at_work_after_an_error(two_workers: Cluster, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    work = partial(dask_cluster.mark_late_or_refuse, folder=tmp_path / "marks")
    with pytest.raises(InputError, match="clip: is broken"):
        map_clips(work, NUMBERS, description="test")
    marks = list((tmp_path / "marks").iterdir())
    time.sleep(2.5)
    assert list((tmp_path / "marks").iterdir()) == marks


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["two_workers", "two_bare_workers"])
def test_killed_worker_is_survived(
    request: pytest.FixtureRequest, tmp_path: Path, workers: str
) -> None:
    killed, other = request.getfixturevalue(workers).worker_pids()
    (tmp_path / "marks").mkdir()
    kill_after(2, killed)
    work = partial(dask_cluster.mark, folder=tmp_path / "marks")
    assert map_clips(work, NUMBERS, description="test") == NUMBERS
    pids = {path.name.split("-")[1] for path in (tmp_path / "marks").iterdir()}
    assert {str(killed), str(other)} <= pids


@pytest.mark.slow
def test_clip_that_kills_workers_is_named(two_workers: Cluster) -> None:
    work = partial(dask_cluster.die, deadly=3)
    with pytest.raises(InputError, match=r"frames: clip \d+ of 40: ended 3 workers.* -> see"):
        map_clips(work, NUMBERS, description="frames")


@pytest.mark.slow
def test_cluster_that_lost_all_workers_is_not_waited_for_for_ever(
    two_bare_workers: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster, "_WORKERS_GONE_S", 3)
    (tmp_path / "marks").mkdir()
    for pid in two_bare_workers.worker_pids():
        kill_after(1, pid)
    with pytest.raises(InputError, match=r"has had no worker for 3 s -> .*dask worker tcp://"):
        map_clips(
            partial(dask_cluster.mark, folder=tmp_path / "marks"), NUMBERS, description="test"
        )


@pytest.mark.slow
def test_scheduler_that_ends_is_told(two_bare_workers: Cluster, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    kill_after(1, two_bare_workers.scheduler.pid)
    with pytest.raises(InputError, match="the Dask scheduler is gone"):
        map_clips(
            partial(dask_cluster.mark, folder=tmp_path / "marks"), NUMBERS, description="test"
        )


@pytest.mark.slow
def test_cluster_without_workers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_FIRST_WORKER_S", 1)
    for _ in _use_cluster(tmp_path, monkeypatch, workers=0):
        with pytest.raises(InputError, match=r"has no worker that answers within 1 s -> start"):
            map_clips(abs, NUMBERS, description="test")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "problem"),
    [("edit", "has another code of kinetrack, found .* -> give it"), ("remove", "cannot run this")],
)
def test_worker_of_other_code_is_refused(
    two_bare_workers: Cluster, tmp_path: Path, change: str, problem: str
) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    if change == "edit":
        with (tmp_path / "src/kinetrack/data/frames.py").open("a") as code:
            code.write("# later\n")
    else:
        (tmp_path / "src/kinetrack/cluster_code.py").unlink()
    two_bare_workers.add_worker("--no-nanny", code=tmp_path / "src")
    with pytest.raises(InputError, match=f"worker tcp://127.*: {problem}"):
        map_clips(dask_cluster.square, NUMBERS, description="test")


@pytest.mark.slow
def test_worker_of_other_code_that_comes_later_is_refused_too(
    two_bare_workers: Cluster, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    (tmp_path / "src/kinetrack/new.py").touch()
    (tmp_path / "marks").mkdir()
    work = partial(dask_cluster.mark, folder=tmp_path / "marks")

    def join_late() -> None:
        wait_until(lambda: any((tmp_path / "marks").iterdir()))
        two_bare_workers.add_worker("--no-nanny", code=tmp_path / "src")

    thread = threading.Thread(target=join_late)
    thread.start()
    with pytest.raises(InputError, match="has another code of kinetrack"):
        map_clips(work, NUMBERS * 5, description="test")
    thread.join()
