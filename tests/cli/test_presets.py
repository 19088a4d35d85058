import shutil
from pathlib import Path

import pytest
import yaml

from kinetrack.cli import presets
from kinetrack.cli.presets import apply_preset, find_preset, use_dataset
from kinetrack.errors import InputError
from kinetrack.params import load_params
from kinetrack.versioning.dataset_facts import DatasetFacts, remember_facts

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


@pytest.mark.parametrize("keep_dataset", [False, True])
def test_a_dry_run_of_an_edited_file_tells_all_the_same_and_what_it_needs(root, keep_dataset):
    edit(root, "epochs: ", "epochs: 1")
    before = (root / "params.yaml").read_bytes()
    options = {"root": root, "keep_dataset": keep_dataset, "dry_run": True}
    *changes, last = apply_preset("lecture", force=False, **options).splitlines()
    assert last.endswith(f"kinetrack preset lecture{' --keep-dataset' * keep_dataset} --force")
    assert apply_preset("lecture", force=True, **options).splitlines() == changes
    assert "+  strategy: first_groups" not in changes
    assert any(line.startswith("-  epochs: 1") for line in changes)
    assert (root / "params.yaml").read_bytes() == before


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
    with pytest.raises(InputError, match=r"was edited.* lecture --keep-dataset; .* --force$"):
        apply_preset("lecture", root=root, force=False, keep_dataset=False)


def test_a_remedy_repeats_the_options(root):
    edit(root, "epochs: ", "epochs: 1")
    with pytest.raises(InputError, match=r"kinetrack preset lecture --keep-dataset --force$"):
        apply_preset("lecture", root=root, force=False, keep_dataset=True)


@pytest.mark.parametrize(
    "line",
    [
        "  group_pattern: '^(tape\\d+) '   # searched in the file name",
        "  group_pattern: '^(tape\\d+) '",
        '  group_pattern: "^(tape\\\\d+) "   # of the tapes',
    ],
)
def test_the_group_pattern_is_kept_with_the_data_set(root, line):
    text = (root / "params.yaml").read_text()
    (old,) = [one for one in text.splitlines() if "group_pattern:" in one]
    edit(root, old, line)
    edit(root, "dataset: sample", "dataset: mine")
    assert find_preset(root) == "sample"
    apply_preset("recipe", root=root, force=False, keep_dataset=True)
    params, preset = load_params(root / "params.yaml"), load_params(PRESETS / "recipe.yaml")
    assert (params["dataset"], params["frames"]["group_pattern"]) == ("mine", r"^(tape\d+) ")
    preset["dataset"], preset["frames"]["group_pattern"] = "mine", r"^(tape\d+) "
    assert params == preset
    assert find_preset(root) == "recipe"
    lines = zip(
        (root / "params.yaml").read_text().splitlines(),
        (PRESETS / "recipe.yaml").read_text().splitlines(),
        strict=True,
    )
    differing = [one.partition(":")[0].strip() for one, other in lines if one != other]
    assert differing == ["dataset", "group_pattern"]


def test_a_pattern_that_is_none_is_kept_as_well(root):
    edit(root, r"group_pattern: _g(\d+)_c\d+$", "group_pattern: null")
    apply_preset("lecture", root=root, force=False, keep_dataset=True)
    assert load_params(root / "params.yaml")["frames"]["group_pattern"] is None


@pytest.mark.parametrize("frames", ["frames: 3", "frames: {group_pattern: 3}", "frames: {}"])
def test_sections_that_are_not_sound_are_replaced(root, frames):
    text = (root / "params.yaml").read_text()
    above, _, below = text.partition("frames:\n")
    (root / "params.yaml").write_text(f"{above}{frames}\n\nsplit:\n{below.partition('split:')[2]}")
    apply_preset("lecture", root=root, force=True, keep_dataset=True)
    assert find_preset(root) == "lecture"
    assert dataset_of(root) == "sample"


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


def remember(root, name, pattern):
    """Have a data set that remembers its pattern."""
    described = root / f"data/videos/{name}.dvc"
    described.parent.mkdir(parents=True, exist_ok=True)
    described.write_text(f"outs:\n- path: {name}\n")
    remember_facts(described, DatasetFacts(pattern))


def pattern_of(root):
    return load_params(root / "params.yaml")["frames"]["group_pattern"]


@pytest.mark.parametrize("pattern", [r"^(tape\d+) ", "^([^']+)' # ", "(\u00fc)\t", None])
def test_a_data_set_brings_its_group_pattern(root, pattern):
    remember(root, "mine", pattern)
    before = (root / "params.yaml").read_text().splitlines()
    told = use_dataset("mine", root=root)
    assert (dataset_of(root), pattern_of(root)) == ("mine", pattern)
    assert told.startswith("params.yaml: dataset mine, frames.group_pattern ")
    after = (root / "params.yaml").read_text().splitlines()
    differing = [one for one, other in zip(after, before, strict=True) if one != other]
    assert [line.partition(":")[0].strip() for line in differing] == ["dataset", "group_pattern"]
    assert all("   # " in line for line in differing)
    assert find_preset(root) == "sample"


def test_what_is_told_of_a_pattern_is_in_quotes(root):
    remember(root, "mine", r"^(tape\d+) ")
    told = use_dataset("mine", root=root)
    assert told == r"params.yaml: dataset mine, frames.group_pattern '^(tape\d+) '"


def test_a_data_set_that_remembers_no_pattern_leaves_it_alone(root):
    (root / "data/videos/old").mkdir(parents=True)
    (root / "data/videos/old.dvc").write_text("outs: []\nmeta: mine\n")
    edit(root, r"_g(\d+)_c\d+$", "^(.)")
    told = use_dataset("old", root=root)
    assert told == "params.yaml: dataset old; frames.group_pattern '^(.)' as before"
    assert pattern_of(root) == "^(.)"


@pytest.mark.parametrize("pattern", [r"^(tape\d+) ", None])
def test_the_sample_gets_its_pattern_back_from_a_data_set(root, pattern):
    remember(root, "mine", pattern)
    (root / "data/videos/old").mkdir()
    (root / "data/videos/damaged.dvc").write_text("outs: [")
    before = load_params(root / "params.yaml")
    for name in ("mine", "old", "sample"):
        use_dataset(name, root=root)
    assert load_params(root / "params.yaml") == before


def test_a_pattern_of_one_s_own_stays_with_the_sample(root):
    remember(root, "mine", r"^(tape\d+) ")
    edit(root, r"_g(\d+)_c\d+$", "^(.)")
    use_dataset("sample", root=root)
    assert pattern_of(root) == "^(.)"


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_pattern_of_the_sample_is_that_of_the_presets(preset):
    assert load_params(preset)["frames"]["group_pattern"] == presets._SAMPLE.group_pattern


@pytest.mark.parametrize("pattern", ["tape", "(", 7])
def test_a_remembered_pattern_that_cannot_be_used_is_named(root, pattern):
    remember(root, "mine", "x")
    described = root / "data/videos/mine.dvc"
    described.write_text(described.read_text().replace("'x'", str(pattern)))
    before = (root / "params.yaml").read_text()
    with pytest.raises(InputError, match=r"mine\.dvc: .*group_pattern"):
        use_dataset("mine", root=root)
    assert (root / "params.yaml").read_text() == before


def test_a_data_set_that_is_not_there_is_named_with_the_others(root):
    (root / "data/videos/kitchen").mkdir(parents=True)
    (root / "data/videos/kitchen.dvc").touch()
    before = (root / "params.yaml").read_text()
    with pytest.raises(InputError, match="kitchn: is no data set, expected kitchen, sample"):
        use_dataset("kitchn", root=root)
    assert (root / "params.yaml").read_text() == before
