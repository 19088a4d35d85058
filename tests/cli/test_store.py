import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kinetrack.cli import store
from kinetrack.cli.store import import_into_store, upgrade_store
from kinetrack.errors import InputError
from kinetrack.files import write_alone
from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.foreign import Foreign
from kinetrack.tracking.importing_runs import Import
from kinetrack.tracking.upgrading import Upgraded


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_upgrade_says_what_it_did(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Upgraded("abc", "def", 3, project / "mlruns/mlflow.db.abc.backup")
    monkeypatch.setattr(store, "upgrade_database", lambda _: done)
    assert upgrade_store() == (
        "store upgrade: mlflow.db is of schema def now, it was abc; runs: 3;"
        f" backup: {project}/mlruns/mlflow.db.abc.backup"
    )


def test_nothing_to_upgrade_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "upgrade_database", lambda _: None)
    assert upgrade_store() == "store upgrade: mlflow.db is up to date"


def test_server_upgrades_itself(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@team.example")
    with pytest.raises(InputError, match="is no database on this machine -> who runs it") as told:
        upgrade_store()
    assert "secret" not in str(told.value)


def make_import(**lists: object) -> Import:
    return Import(Foreign(None, "", (), 0), None, {}, **lists)


@pytest.mark.parametrize(
    ("work", "told", "is_all"),
    [
        (make_import(), "store import: added: nothing\n", True),
        (
            make_import(added={"runs": 2, "models": 1}, known={"runs": 5}),
            "store import: added: runs: 2, models: 1\nhere already: runs: 5\n",
            True,
        ),
        (
            make_import(without_files=["run x (1)"]),
            "store import: added: nothing\nno files were found of:\n  run x (1)\n",
            True,
        ),
        (
            make_import(left_out=[f"version {number}" for number in range(12)]),
            "store import: added: nothing\nleft out:\n"
            + "".join(f"  version {number}\n" for number in range(10))
            + "  and 2 more\n",
            False,
        ),
    ],
)
def test_import_says_what_it_did(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    work: Import,
    told: str,
    is_all: bool,
) -> None:
    monkeypatch.setattr(store, "import_store", lambda *_, tell: work)
    assert import_into_store("there", root=project) is is_all
    assert capsys.readouterr().out == told


def test_trouble_on_the_way_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, tell: object) -> None:
        raise OSError("the cable\nis out")

    monkeypatch.setattr(store, "import_store", fail)
    with pytest.raises(InputError) as told:
        import_into_store("there", root=project)
    assert str(told.value) == (
        "there: was not imported completely, found the cable is out"
        " -> the same command goes on from there"
    )


def test_two_imports_at_once_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinetrack.files._PATIENCE_S", 0.0)
    with (
        write_alone(project / ".kinetrack/store-import"),
        pytest.raises(InputError, match="store-import: is being written by another process"),
    ):
        import_into_store("there", root=project)


def test_database_is_brought_in(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_database(project / "mlruns/mlflow.db")
    theirs = shutil.copy(project / "mlruns/mlflow.db", tmp_path / "theirs.db")
    with closing(sqlite3.connect(theirs)) as database:
        database.execute("INSERT INTO experiments (name, lifecycle_stage) VALUES ('x', 'active')")
        database.commit()
    assert import_into_store(str(theirs), root=project)
    assert capsys.readouterr().out == (
        "Default: runs: 0\nx: runs: 0\nstore import: added: nothing\n"
    )
