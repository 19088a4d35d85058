import subprocess
from pathlib import Path

import pytest

from kinetrack.params import load_params
from kinetrack.stages.train_run import _describe_sides, _gather_files, name_run, nearest_preset

from project import ROOT

PRESETS = ROOT / "presets"


@pytest.mark.parametrize("name", ["sample", "lecture"])
def test_preset_is_named_whatever_the_data_set(name: str) -> None:
    values = {**load_params(PRESETS / f"{name}.yaml"), "dataset": "mine"}
    assert nearest_preset(values, PRESETS) == name


def test_nearest_preset_has_a_star() -> None:
    values = load_params(PRESETS / "lecture.yaml")
    values["train"]["epochs"] = 3
    assert nearest_preset(values, PRESETS) == "lecture*"


def test_preset_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("no: params")
    assert nearest_preset(load_params(PRESETS / "sample.yaml"), tmp_path) == ""


def test_name_says_preset_network_data_commit_and_experiment() -> None:
    values = load_params(PRESETS / "sample.yaml")
    tags = {"git.commit": "0123456789", "dvc.exp_name": "deep-owl"}
    assert name_run(values, tags, presets=PRESETS) == "sample-small_3dcnn-sample-0123456-deep-owl"


def test_lock_without_dvc_ends_no_training(tmp_path: Path) -> None:
    md5 = "0" * 32 + ".dir"
    (tmp_path / "dvc.lock").write_text(
        f"stages: {{tensors: {{outs: [{{path: data/tensors/mine, md5: {md5}}}]}}}}"
    )
    sides = _describe_sides("mine", Path("data/tensors/mine"), root=tmp_path)
    assert [(one.context, one.digest) for one in sides] == [
        (side, md5) for side in ("train", "val", "test")
    ]


def test_uncommitted_changes_leave_secrets_out(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    for name in ("new.py", ".env", "key.pem", "dvc.lock"):
        (tmp_path / name).write_text(f"text of {name}\n")
    (tmp_path / "data.bin").write_bytes(bytes(2_000_000))
    files = _gather_files(tmp_path)
    assert "text of new.py" in files["changes.diff"]
    assert not any(f"text of {name}" in files["changes.diff"] for name in (".env", "key.pem"))
    assert files["dvc.lock"] == "text of dvc.lock\n"
    assert files["changes_left_out.txt"] == ".env\ndata.bin\nkey.pem\n"


def test_source_that_is_named_like_a_secret_is_no_secret(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    (tmp_path / "id_map.py").write_text("old\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    (tmp_path / "id_map.py").write_text("new\n")
    assert "+new" in _gather_files(tmp_path)["changes.diff"]
