import shutil
from pathlib import Path

import pytest
import yaml

from kinetrack.cli.presets import apply_preset, find_preset, use_dataset
from kinetrack.errors import InputError
from kinetrack.params import load_params

PRESETS = Path(__file__).parents[2] / "presets"


@pytest.fixture
def root(tmp_path):
    shutil.copytree(PRESETS, tmp_path / "presets")
    shutil.copyfile(PRESETS / "sample.yaml", tmp_path / "params.yaml")
    return tmp_path


def edit(root, old, new):
    path = root / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def dataset_of(root):
    return yaml.safe_load((root / "params.yaml").read_text())["dataset"]


def test_a_preset_takes_the_place_of_params(root):
    apply_preset("lecture", root=root, force=False, keep_dataset=False)
    assert (root / "params.yaml").read_bytes() == (PRESETS / "lecture.yaml").read_bytes()
    assert find_preset(root) == "lecture"


def test_a_dry_run_names_the_lines_that_would_differ(root):
    before = (root / "params.yaml").read_bytes()
    told = apply_preset("lecture", root=root, force=False, keep_dataset=False, dry_run=True)
    assert [line for line in told.splitlines() if line.startswith("+dataset: ucf101")]
    assert (root / "params.yaml").read_bytes() == before
    told = apply_preset("sample", root=root, force=False, keep_dataset=False, dry_run=True)
    assert told == "params.yaml is preset sample already"
    edit(root, "epochs: ", "epochs: 1")
    with pytest.raises(InputError, match=r"was edited.*--force"):
        apply_preset("lecture", root=root, force=False, keep_dataset=False, dry_run=True)


def test_a_missing_params_file_is_made(root):
    (root / "params.yaml").unlink()
    apply_preset("sample", root=root, force=False, keep_dataset=False)
    assert find_preset(root) == "sample"


def test_an_edited_params_file_is_kept_unless_forced(root):
    edit(root, "epochs: ", "epochs: 1")
    before = (root / "params.yaml").read_text()
    with pytest.raises(InputError, match=r"was edited.*--force"):
        apply_preset("lecture", root=root, force=False, keep_dataset=False)
    assert (root / "params.yaml").read_text() == before
    assert find_preset(root) is None
    apply_preset("lecture", root=root, force=True, keep_dataset=False)
    assert find_preset(root) == "lecture"


def test_the_data_set_is_kept_when_told(root):
    edit(root, "dataset: sample", "dataset: mine")
    apply_preset("lecture", root=root, force=False, keep_dataset=True)
    assert dataset_of(root) == "mine"
    assert find_preset(root) == "lecture"


@pytest.mark.parametrize("name", ["2024", "null", "on", "1e3"])
def test_a_data_set_may_have_a_name_that_looks_like_a_value(root, name):
    edit(root, "dataset: sample", f'dataset: "{name}"')
    apply_preset("lecture", root=root, force=False, keep_dataset=True)
    assert load_params(root / "params.yaml")["dataset"] == name


def test_a_chosen_data_set_is_an_edit_that_would_be_lost(root):
    edit(root, "dataset: sample", "dataset: mine")
    with pytest.raises(InputError, match="was edited"):
        apply_preset("lecture", root=root, force=False, keep_dataset=False)


def test_an_unknown_preset_is_named_with_the_known_ones(root):
    known = "finetune, lecture, recipe, sample"
    with pytest.raises(InputError, match=f"no preset nothing, expected {known}"):
        apply_preset("nothing", root=root, force=False, keep_dataset=False)


@pytest.mark.parametrize("here", ["kitchen", "kitchen.dvc"])
def test_a_data_set_is_chosen_and_nothing_else_changed(root, here):
    (root / "data/videos" / here).mkdir(parents=True)
    before = (root / "params.yaml").read_text()
    use_dataset("kitchen", root=root)
    assert dataset_of(root) == "kitchen"
    use_dataset("sample", root=root)
    assert yaml.safe_load((root / "params.yaml").read_text()) == yaml.safe_load(before)


def test_a_data_set_that_is_not_there_is_named_with_the_others(root):
    (root / "data/videos/kitchen").mkdir(parents=True)
    (root / "data/videos/kitchen.dvc").touch()
    before = (root / "params.yaml").read_text()
    with pytest.raises(InputError, match="kitchn: is no data set, expected kitchen, sample"):
        use_dataset("kitchn", root=root)
    assert (root / "params.yaml").read_text() == before
