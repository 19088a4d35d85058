import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kinetrack.cli.main import app
from kinetrack.errors import InputError
from kinetrack.tracking import ui

from old_stores import make_old_database


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ui.HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_no_run_yet(bare_project: Path) -> None:
    with pytest.raises(InputError, match="there is no run yet -> make repro"):
        ui.serve_ui()


def test_no_run_yet_though_tracking_has_made_the_database(project: Path) -> None:
    result = CliRunner().invoke(app, ["ui"])
    assert isinstance(result.exception, InputError)
    assert str(result.exception).endswith("mlflow.db: there is no run yet -> make repro")


def test_taken_port_is_told(project: Path, taken_port: int) -> None:
    with pytest.raises(InputError, match="this port is taken"):
        ui.serve_ui(port=taken_port)


def test_usual_port_is_left_to_who_has_it(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "PREFERRED_PORT", taken_port)
    assert ui._choose_port(None) != taken_port


def test_named_server_has_its_own_page(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://team.example")
    assert ui.serve_ui() == 0
    assert capsys.readouterr().out == "https://team.example\n"


@pytest.mark.parametrize("named", [None, "sqlite:///mlruns/mlflow.db"])
def test_old_database_is_not_touched(
    bare_project: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    path = bare_project / "mlruns/mlflow.db"
    make_old_database(path)
    before = path.read_bytes()
    if named:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    monkeypatch.setattr(ui, "_start_server", lambda *_: pytest.fail("a server was started"))
    with pytest.raises(InputError, match="an older MLflow made this database"):
        ui.serve_ui()
    assert path.read_bytes() == before
