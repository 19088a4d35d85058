import hashlib

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning.lock import data_md5, locked_inputs, locked_stage, stage_key

PIPELINE = """
stages:
  train:
    cmd: train data/${dataset}
    deps:
      - data/${dataset}
      - code.py
    params:
      - train
"""
LOCK = """
stages:
  train:
    deps:
      - path: data/mine
        md5: old.dir
  tensors:
    outs:
      - path: data/mine
        md5: new.dir
"""
PARAMS = {"dataset": "mine", "train": {"epochs": 3}}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "code.py").write_text("pass")
    return tmp_path


def test_what_a_stage_wrote_counts_before_what_another_one_read(root):
    assert data_md5("data/mine", root=root) == "new.dir"


def test_unknown_data_has_no_md5(root, tmp_path):
    assert data_md5("data/other", root=root) is None
    assert data_md5("data/mine", root=tmp_path / "nowhere") is None


def test_of_a_section_that_is_named_by_its_keys_those_alone_count(root):
    pipeline = PIPELINE.replace("      - train\n", "      - train.epochs\n")
    assert pipeline != PIPELINE
    (root / "dvc.yaml").write_text(pipeline)
    keys = [
        stage_key("train", {**PARAMS, "train": {"epochs": epochs, "watch": watch}}, root=root)
        for epochs, watch in ((3, "val"), (3, "test"), (4, "val"))
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    "text",
    [
        "stages: 3",
        "stages: [train]",
        "stages: {train: 3}",
        "stages: {train: {deps: 3}}",
        "stages: {train: {outs: [3]}}",
        "stages: {train: {outs: [{md5: a}]}}",
        "stages: {train: {params: [a]}}",
        "stages: {train: {params: {params.yaml: a}}}",
        "stages:\n<<<<<<< HEAD\n  train: {}\n",
        "a: " + "9" * 5000,
        "[" * 5000,
    ],
)
def test_a_damaged_lock_is_one_line_with_its_remedy(root, text):
    (root / "dvc.lock").write_text(text)
    for read in (data_md5, locked_inputs, locked_stage):
        with pytest.raises(InputError, match=r"dvc\.lock: .* -> git checkout dvc\.lock"):
            read("train", root=root)


@pytest.mark.parametrize("text", ["", "stages:", "schema: '2.0'"])
def test_a_lock_without_stages_knows_nothing(root, text):
    (root / "dvc.lock").write_text(text)
    assert (data_md5("a", root=root), locked_inputs("train", root=root)) == (None, {})


def test_the_key_follows_code_params_and_data_and_nothing_else(root):
    key = stage_key("train", PARAMS, root=root)
    assert key == stage_key("train", {**PARAMS, "evaluate": {"top_k": 1}}, root=root)
    assert key != stage_key("train", {**PARAMS, "train": {"epochs": 4}}, root=root)
    (root / "code.py").write_text("pass  # changed")
    assert key != stage_key("train", PARAMS, root=root)
    (root / "code.py").write_text("pass")
    assert key == stage_key("train", PARAMS, root=root)
    (root / "dvc.lock").write_text(LOCK.replace("new", "newer"))
    assert key != stage_key("train", PARAMS, root=root)


def test_no_key_without_data_or_stage(root):
    assert stage_key("absent", PARAMS, root=root) is None
    (root / "dvc.lock").unlink()
    assert stage_key("train", PARAMS, root=root) is None


def test_the_key_is_a_sha256(root):
    assert len(stage_key("train", PARAMS, root=root) or "") == hashlib.sha256().digest_size * 2
