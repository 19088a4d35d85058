"""What comes from others: versions without known holes, and nothing that talks to its makers."""

import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mounts import Mounts, open_mounts
from project import ROOT, Project, environment, make_project

HERE = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
]
PINNED = {
    canonicalize_name(line.split("==")[0]): line.split("==")[1]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}
# SECURITY.md has the table: | package | first version | why |
SOUND_SINCE = dict(
    re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
)
UNKEPT = {"decord", "pytorchvideo", "mmaction2", "torchcodec"}
STOLEN = {("lightning", "2.6.2"), ("lightning", "2.6.3")}


def test_minimum_versions_are_told() -> None:
    assert SOUND_SINCE.keys() >= {"torch", "mlflow", "pillow"}


@pytest.mark.parametrize(("package", "first"), SOUND_SINCE.items())
def test_no_version_with_a_known_hole_is_pinned_or_allowed(package: str, first: str) -> None:
    assert Version(PINNED[package]) >= Version(first)
    bounds = [one.specifier for one in REQUIRED if one.name == package]
    lowest = [Version(each.version) for bound in bounds for each in bound if each.operator == ">="]
    if package in {Requirement(line).name for line in PROJECT["dependencies"]}:
        assert min(lowest) >= Version(first)


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    for one in REQUIRED:
        assert one.specifier.contains(PINNED[canonicalize_name(one.name)]), one


def test_nothing_is_pinned_that_is_unkept_or_was_stolen() -> None:
    assert not UNKEPT & PINNED.keys()
    assert not STOLEN & PINNED.items()


class Network:
    """A network on which nobody is, and the names that were asked for there."""

    def __init__(self, mounts: Mounts, scratch: Path) -> None:
        self._mounts = mounts
        self._asked = scratch / "asked.txt"
        # Of the process that DVC leaves behind to tell of a command.
        self.daemon_log = scratch / "daemon.log"
        settings = scratch / "resolv.conf"
        settings.write_text("nameserver 127.0.0.1\n")
        mounts.run("mount", "--bind", settings, Path("/etc/resolv.conf").resolve())
        self.server = subprocess.Popen(
            [*mounts.prefix(scratch), sys.executable, HERE / "name_server.py", self._asked],
            stdout=subprocess.PIPE,
        )
        assert self.server.stdout
        assert self.server.stdout.readline() == b"ready\n"
        # As on the machine of a new user: none of the variables by which tests keep things quiet.
        quiet = ("DVC_", "MLFLOW_", "PYTEST_", "DO_NOT_TRACK", "CI", "GITHUB_")
        told = {name: value for name, value in environment().items() if not name.startswith(quiet)}
        home = scratch / "home"
        home.mkdir()
        self._environ = {
            **{name: value for name, value in told.items() if "proxy" not in name.lower()},
            "HOME": str(home),
            "DVC_SITE_CACHE_DIR": str(scratch / "site"),
            "DVC_DAEMON_LOGFILE": str(self.daemon_log),
        }

    def start(self, project: Project, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Start `python COMMAND` there."""
        return subprocess.Popen(
            [*self._mounts.prefix(project.folder), sys.executable, *command],
            env={**self._environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, project: Project, *command: str, **environ: str) -> None:
        """Run `python COMMAND` there; it has to succeed."""
        process = self.start(project, *command, **environ)
        told, _ = process.communicate()
        assert process.returncode == 0, told

    @property
    def asked(self) -> set[str]:
        """The names that were asked for until now."""
        return set(self._asked.read_text().split()) if self._asked.exists() else set()

    def wait_for(self, name: str) -> bool:
        """Whether somebody asks for a name, within a minute."""
        deadline = time.monotonic() + 60
        while name not in self.asked and time.monotonic() < deadline:
            time.sleep(0.2)
        return name in self.asked


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with open_mounts(tmp_path, network=True) as mounts:
        network = Network(mounts, tmp_path)
        try:
            yield network
        finally:
            network.server.kill()
            network.server.communicate()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


COMMANDS: list[tuple[str, ...]] = [
    ("check",),
    ("track",),
    ("summary",),
    ("runs",),
    ("models",),
    ("data",),
    ("verify",),
    ("disk",),
    ("report",),
    ("predict", "data/videos/sample/*/*.avi"),
]


@pytest.mark.slow
def test_nobody_is_told_what_is_done_here(network: Network, project: Project) -> None:
    shutil.copyfile(ROOT / ".dvc/config", project.folder / ".dvc/config")
    network.run(project, "-m", "dvc", "repro")
    for command in COMMANDS:
        network.run(project, "-m", "kinetrack.cli.main", *command, PYTHONPATH="src")
    ui = network.start(
        project, "-m", "kinetrack.cli.main", "ui", "--port", "5005", PYTHONPATH="src"
    )
    assert ui.stdout
    assert any("http://127.0.0.1:5005" in line for line in ui.stdout)
    ui.terminate()
    ui.communicate()
    # Those who ask are heard until the end.
    network.start(
        project, "-c", "import socket; socket.getaddrinfo('the-end.test', 1)"
    ).communicate()
    assert network.asked == {"the-end.test"}
    assert not network.daemon_log.exists()


@pytest.mark.slow
def test_without_our_settings_they_would_be_told(network: Network, project: Project) -> None:
    network.run(project, "-m", "dvc", "status")
    assert network.daemon_log.exists()
    code = "import mlflow; mlflow.set_experiment('x'); mlflow.start_run(); mlflow.end_run()"
    network.run(project, "-c", code)
    assert network.wait_for("config.mlflow-telemetry.io")
