import json
import shutil
from pathlib import Path

import pytest
import yaml

from kinetrack.cli.check import check_project
from kinetrack.data.manifest import ManifestRow, write_manifest
from kinetrack.errors import InputError

from factories import write_data_set, write_video

PRESETS = Path(__file__).parents[2] / "presets"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project that has a good data set `mine` of its own."""
    shutil.copytree(PRESETS, tmp_path / "presets")
    shutil.copyfile(PRESETS / "sample.yaml", tmp_path / "params.yaml")
    write_data_set(tmp_path / "data/videos/mine", groups=3, num_frames=8)
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    set_params(
        tmp_path, dataset="mine", split={"train_groups": 2, "val_groups": 1}, pack={"num_frames": 8}
    )
    return tmp_path


def set_params(root, **changes):
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        params[name] = {**params.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def test_a_good_project_is_told_in_one_line(root):
    checked = check_project(root)
    assert checked.describe() == (
        "check: params.yaml is fine (edited); "
        "data set mine: 6 clips of 2 classes; 2 train, 2 val, 2 test"
    )
    assert json.loads(json.dumps(checked._asdict())) == {
        "dataset": "mine",
        "num_clips": 6,
        "num_classes": 2,
        "sides": {"train": 2, "val": 2, "test": 2},
        "notes": [],
        "preset": None,
    }


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"classes": 9}, "has too few classes"),
        ({"classes": 1}, "gives one class only"),
        ({"classes": ["Fly", "Grow"]}, "has no class folder Fly"),
        ({"group_pattern": r"_x(\d+)"}, "finds no group"),
    ],
)
def test_what_the_sample_cannot_give_is_named(root, frames, message):
    set_params(root, dataset="sample", split={"train_groups": 20}, frames=frames)
    with pytest.raises(InputError, match=message):
        check_project(root)


@pytest.mark.parametrize("variable", ["KINETRACK_DEVICE", "KINETRACK_WORKERS"])
def test_what_is_wrong_with_the_machine_is_named(root, monkeypatch, variable):
    monkeypatch.setenv(variable, "nonsense")
    with pytest.raises(InputError, match=variable):
        check_project(root)


def test_a_store_that_is_none_is_named_before_a_model_is_removed(root):
    (root / "mlruns").mkdir()
    (root / "mlruns/mlflow.db").write_text("no database at all, but long enough for a header" * 9)
    with pytest.raises(InputError, match=r"mlflow\.db: not an MLflow database"):
        check_project(root)


def test_the_sample_needs_no_files(root):
    shutil.copyfile(PRESETS / "sample.yaml", root / "params.yaml")
    assert "(preset sample); data set sample is generated" in check_project(root).describe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "absent"}, "data/videos/absent: is no folder of videos"),
        ({"dataset": "../etc"}, "dataset, found"),
        ({"frames": {"classes": 9}}, "has too few classes.*2 class folders"),
        ({"frames": {"classes": ["Fly"]}}, "has no class folder Fly"),
        ({"frames": {"group_pattern": r"_x(\d+)"}}, "has no group in its name"),
        (
            {"split": {"train_groups": 3}},
            r"data/videos/mine: leaves the test side empty, found at most 3 groups.*, or split",
        ),
        ({"split": {"val_groups": 0}}, r"train\.watch names val, but split\.val_groups is 0"),
        ({"split": {"val_groups": 2}}, "val_groups should be less than train_groups"),
        ({"pack": {"num_frames": 9}}, r"avi: is shorter than the window, found 8 frames"),
        ({"evaluate": {"windows": 2}}, "several windows need spare frames around the middle one"),
        ({"evaluate": {"crops": 5}}, "several squares need spare pixels around the middle one"),
        ({"model": {"name": "lecture_3dcnn"}}, "at least 32 frames of 32 px"),
        ({"model": {"name": "vgg"}}, r"model\.name: Input should be 'small_3dcnn', "),
        ({"model": {"weights": "w.pth"}}, r"w\.pth: does not exist -> put the weights there"),
        ({"model": {"weights": "w.pth", "weights_sha256": "0"}}, r"w\.pth: does not exist"),
        ({"model": {"weights": "BEST"}}, "names no weights of small_3dcnn, found BEST"),
        ({"train": {"init_from": "absent"}}, r"absent/model\.json: cannot be read"),
        ({"train": {"init_from": "data/model"}}, "is what the stage train writes"),
        ({"train": {"epochs": 10**400}}, r"train\.epochs: Input should be less than or equal"),
        ({"train": {"keep": "best", "watch": []}}, "need val in watch"),
        (
            {"train": {"epochs": 0}},
            r"train\.epochs: Input should be greater than or equal to 1, found '0'",
        ),
        ({"train": {"epochs": True}}, r"train\.epochs: Input should be a valid integer"),
        ({"train": {"learning_rate": float("nan")}}, r"train\.learning_rate: .*finite"),
        ({"train": {"epoch": 3}}, r"unknown key train\.epoch .*allowed here: epochs, batch_size"),
        ({"evaluate": {"top_k": -1}}, r"evaluate\.top_k"),
        ({"trian": {}}, "unknown key trian"),
    ],
)
def test_what_a_stage_would_stumble_over_is_named(root, changes, message):
    set_params(root, **changes)
    with pytest.raises(InputError, match=message) as caught:
        check_project(root)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            {"strategy": "ratio", "test_share": 0.1},
            r"mine: leaves the .* side empty, found 6 clips",
        ),
        (
            {"strategy": "kfold", "folds": 4},
            r"split\.folds: is more than there are groups, found 4",
        ),
        ({"strategy": "kfold", "folds": 2, "fold": 3}, "fold should be at most folds"),
        ({"strategy": "official", "fold": 4}, r"split\.fold: is no official fold"),
        ({"strategy": "official", "fold": 1}, "Jump: is a class without a usable training clip"),
        (
            {"strategy": "ratio", "val_share": 0.0},
            r"train\.watch names val, but split\.val_share is",
        ),
        ({"unit": "clip"}, "unit clip is for ratio and kfold"),
    ],
)
def test_a_strategy_that_does_not_fit_is_named_before_dvc_starts(root, split, message):
    set_params(root, split=split)
    with pytest.raises(InputError, match=message):
        check_project(root)


def write_manifest_of_sides(root, sides):
    """Give each group its official side; `sides` are by group."""
    videos = sorted((root / "data/videos/mine").rglob("*.avi"))
    rows = [
        ManifestRow(path=f"{path.parent.name}/{path.name}", label=path.parent.name)
        for path in videos
    ]
    rows = [row.model_copy(update={"official": sides[row.path[-9:-8]]}) for row in rows]
    write_manifest(root / "data/videos/mine/manifest.csv", rows)


def test_official_sides_of_a_manifest_are_checked(root):
    write_manifest_of_sides(root, {"1": "train", "2": "val", "3": "test"})
    set_params(root, split={"strategy": "official", "val_share": 0.0})
    check_project(root)
    write_manifest_of_sides(root, {"1": "train", "2": "train", "3": "test"})
    with pytest.raises(InputError, match=r"train\.watch names val, but split\.val_share is 0"):
        check_project(root)
    write_manifest_of_sides(root, {"1": "train", "2": "", "3": "test"})
    with pytest.raises(InputError, match="Jump/v_Jump_g02_c01: has no official side"):
        check_project(root)


def test_a_side_that_nobody_asked_for_is_not_counted(root):
    set_params(root, split={"val_groups": 0}, train={"watch": []})
    checked = check_project(root)
    assert checked.describe().endswith("; 4 train, 2 test")
    assert checked.sides == {"train": 4, "val": 0, "test": 2}


def test_a_class_that_a_side_lacks_is_told(root):
    shutil.rmtree(root / "data/videos/mine/Jump")
    write_data_set(root / "data/videos/mine", labels=("Jump",), groups=2)
    assert check_project(root).describe().splitlines()[1:] == ["  test has no clip of Jump"]


def test_classes_that_change_places_in_a_mirror_are_told_where_clips_are_flipped(root):
    shutil.copyfile(PRESETS / "sample.yaml", root / "params.yaml")
    assert not check_project(root).notes
    set_params(root, augment={"flip": 0.5})
    told = "augment.flip: in a mirror these change places: MoveLeft and MoveRight"
    assert told in check_project(root).notes[0]


def test_classes_without_another_in_the_mirror_are_not_told(root):
    set_params(root, augment={"flip": 0.5})
    assert not check_project(root).notes


@pytest.mark.parametrize(
    "split",
    [
        {"strategy": "official"},
        {"strategy": "ratio"},
        {"strategy": "kfold"},
        {"strategy": "kfold", "unit": "clip"},
    ],
)
def test_every_strategy_fits_the_sample(root, split):
    shutil.copyfile(PRESETS / "sample.yaml", root / "params.yaml")
    set_params(root, split=split)
    assert check_project(root).describe().endswith("data set sample is generated")


def test_without_a_pattern_each_clip_is_a_group(root):
    set_params(root, frames={"group_pattern": None})
    check_project(root)
    set_params(
        root, dataset="sample", split={"strategy": "kfold", "folds": 301}, sample={"groups": 25}
    )
    with pytest.raises(
        InputError, match=r"split\.folds: is more .*found 301, expected at most 300"
    ):
        check_project(root)


def test_a_segment_shorter_than_the_window_is_refused(root):
    row = ManifestRow(path="Jump/v_Jump_g01_c01.avi", label="Jump", end_s=0.2)
    rows = [
        ManifestRow(path=f"{label}/v_{label}_g0{group}_c01.avi", label=label)
        for label in ("Jump", "Walk")
        for group in (1, 2, 3)
    ]
    write_manifest(root / "data/videos/mine/manifest.csv", [row, *rows[1:]])
    with pytest.raises(InputError, match=r"c01\.avi: is shorter than the window, found 5 frames"):
        check_project(root)


def test_an_empty_class_is_named(root):
    (root / "data/videos/mine/Empty").mkdir()
    with pytest.raises(InputError, match="Empty: is a class without clips"):
        check_project(root)


def test_an_empty_data_set_is_named(root):
    shutil.rmtree(root / "data/videos/mine")
    (root / "data/videos/mine").mkdir()
    with pytest.raises(InputError, match="holds no class folder"):
        check_project(root)


def test_a_data_set_that_was_not_pulled_tells_how_to(root):
    shutil.rmtree(root / "data/videos/mine")
    (root / "data/videos/mine.dvc").touch()
    with pytest.raises(InputError, match=r"is not here -> dvc pull data/videos/mine\.dvc"):
        check_project(root)


def test_an_undecodable_clip_is_named_unless_it_may_be_skipped(root):
    (root / "data/videos/mine/Jump/v_Jump_g01_c01.avi").write_text("no video")
    with pytest.raises(InputError, match=r"v_Jump_g01_c01\.avi: cannot be opened as a video"):
        check_project(root)
    set_params(root, frames={"on_broken": "skip"})
    check_project(root)


def test_a_sample_shorter_than_the_window_is_refused(root):
    set_params(root, dataset="sample", pack={"num_frames": 64})
    with pytest.raises(InputError, match=r"sample\.num_frames: is shorter than the window"):
        check_project(root)


@pytest.mark.parametrize(
    ("pack", "needed"),
    [
        ({"num_frames": 9}, 9),
        ({"num_frames": 8, "sampling": "center", "stride": 2}, 15),
        ({"num_frames": 8, "sampling": "random", "stride": 3, "spare_frames": "all"}, 22),
    ],
)
def test_a_window_that_is_too_long_names_what_may_be_done(root, pack, needed):
    set_params(root, pack=pack)
    message = rf"found 8 frames, expected {needed}, by .* pack\.short_clips: stretch, loop or drop"
    with pytest.raises(InputError, match=message):
        check_project(root)


def test_a_stride_without_effect_makes_no_clip_short(root):
    set_params(root, pack={"sampling": "uniform", "stride": 9})
    check_project(root)


def test_a_sample_shorter_than_the_stride_asks_for_is_refused(root):
    set_params(root, dataset="sample", pack={"sampling": "center", "stride": 9})
    message = r"sample\.num_frames: is shorter .* expected 64, by section pack"
    with pytest.raises(InputError, match=message):
        check_project(root)


@pytest.mark.parametrize("short_clips", ["stretch", "loop"])
def test_a_short_clip_may_be_used(root, short_clips):
    write_video(root / "data/videos/mine/Jump/v_Jump_g01_c01.avi", num_frames=3)
    set_params(root, pack={"short_clips": short_clips})
    assert "shorter" not in check_project(root).describe()


def test_short_clips_that_will_be_dropped_are_counted(root):
    write_video(root / "data/videos/mine/Jump/v_Jump_g01_c01.avi", num_frames=3)
    set_params(root, pack={"short_clips": "drop"})
    told = "  1 of 6 clips are shorter than the window, will be dropped"
    assert check_project(root).describe().splitlines()[1:] == [told]


def test_a_window_that_drops_every_clip_is_refused(root):
    set_params(root, pack={"short_clips": "drop", "num_frames": 9})
    with pytest.raises(InputError, match="is shorter than the window, found 8 frames"):
        check_project(root)


def test_random_windows_need_room(root):
    set_params(root, pack={"sampling": "random"})
    with pytest.raises(InputError, match=r"pack: .*random needs spare_frames"):
        check_project(root)
