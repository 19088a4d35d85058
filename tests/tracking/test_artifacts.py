from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.tracking.artifacts import artifact_folder, find_root, project_artifacts


def test_root_is_found_from_below(bare_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = bare_project / "data" / "model"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_root() == bare_project


def test_root_named_by_dvc_wins(
    bare_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert find_root() == tmp_path / "main"


def test_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no dvc\.yaml here or above"):
        find_root()


@pytest.mark.parametrize("address", ["kinetrack:///artifacts/a b/c", "kinetrack:/artifacts/a b/c"])
def test_address_means_a_folder_of_mlruns(tmp_path: Path, address: str) -> None:
    assert artifact_folder(address, root=tmp_path) == tmp_path / "mlruns" / "artifacts/a b/c"


@pytest.mark.parametrize(
    "address",
    [
        "kinetrack:///../data",
        "kinetrack:///artifacts/../../data",
        "kinetrack:///artifacts/%2e%2e/%2e%2e/data",
        "kinetrack:///artifacts/..%2f..%2fdata",
        "kinetrack:////etc/passwd/../..",
        "kinetrack://host/artifacts",
        "kinetrack:///artifacts?x=../..",
        "file:///etc",
    ],
)
def test_address_outside_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="artifact address"):
        artifact_folder(address, root=tmp_path)


def test_artifacts_may_be_kept_on_another_disk(bare_project: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (bare_project / "mlruns").mkdir()
    (bare_project / "mlruns" / "artifacts").symlink_to(disk)
    (bare_project / "note.txt").touch()
    project_artifacts("kinetrack:///artifacts/run").log_artifact("note.txt")
    assert (disk / "run" / "note.txt").exists()


def test_mlflow_finds_the_plugin(bare_project: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    (bare_project / "note.txt").write_text("kept")
    get_artifact_repository("kinetrack:///artifacts/run").log_artifact("note.txt", "notes")
    assert (bare_project / "mlruns/artifacts/run/notes/note.txt").read_text() == "kept"
    assert project_artifacts("kinetrack:///artifacts/run").list_artifacts("notes")
