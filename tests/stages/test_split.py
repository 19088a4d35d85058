import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from kinetrack.data.index import FramesRow, write_index
from kinetrack.errors import InputError
from kinetrack.splitting.filters import FilteredSplit
from kinetrack.splitting.strategies import GroupedClip
from kinetrack.stages.split import SplitParams, main, plan_split, split_clips, summarise

from factories import frames_row

ROOT = Path(__file__).parents[2]
PARAMS = SplitParams(
    strategy="first_groups",
    train_groups=3,
    val_groups=1,
    test_share=0.25,
    val_share=0.25,
    folds=4,
    fold=1,
    seed=0,
    unit="group",
    leaks="drop",
    max_missing=1,
    max_train_groups=None,
)

FEW_GROUPS = (
    "lower split.train_groups below the number of groups in a class, or split.strategy: ratio"
)


def with_params(**changes):
    """Checked params, unlike those of `model_copy`."""
    return SplitParams(**{**PARAMS.model_dump(), **changes})


def write_rows(tmp_path, rows):
    write_index(tmp_path / "index.csv", FramesRow, rows)
    return tmp_path / "index.csv"


def row_of(label, group, number=1, **changes):
    clip = f"v_{label}_g{group:02}_c{number:02}"
    row = frames_row(clip, label=label, group=f"{group:02}")
    return row.model_copy(update=changes)


def rows_of(label, groups, **changes):
    return [row_of(label, group, **changes) for group in range(1, groups + 1)]


def describe(filtered: FilteredSplit) -> str:
    return summarise(filtered, "first_groups")


def test_all_files_are_written(tmp_path):
    index = write_rows(tmp_path, rows_of("Jump", 5) + rows_of("Run", 5))
    split_clips(PARAMS, index=index, splits=tmp_path / "splits")
    split = json.loads((tmp_path / "splits/split.json").read_text())
    assert split["train"] == [
        f"{label}/v_{label}_g0{group}_c01" for label in ("Jump", "Run") for group in (1, 2)
    ]
    assert len(split["val"]) == 2
    assert len(split["test"]) == 4
    assert split["rule"] == {
        "strategy": "first_groups",
        "train_groups": 3,
        "val_groups": 1,
        "leaks": "drop",
        "max_missing": 1,
    }


def test_a_clip_with_missing_frames_is_dropped_by_name(tmp_path):
    rows = rows_of("Jump", 5)
    rows[0] = row_of("Jump", 1, 2, missing_frames=2, num_frames=38)
    index = write_rows(tmp_path, [*rows, row_of("Jump", 1)])
    filtered = split_clips(PARAMS, index=index, splits=tmp_path / "splits")
    assert "dropped Jump/v_Jump_g01_c02: 2 frames missing of 40" in summarise(
        filtered, "first_groups"
    )
    assert "v_Jump_g01_c02" in (tmp_path / "splits/dropped.csv").read_text()
    assert b"v_Jump_g01_c02" in (tmp_path / "splits/train.pkl").read_bytes()
    assert "v_Jump_g01_c02" not in (tmp_path / "splits/split.json").read_text()


def split(tmp_path, rows, **changes):
    index = write_rows(tmp_path, rows)
    return split_clips(with_params(**changes), index=index, splits=tmp_path / "splits")


def read_names(tmp_path, side):
    return json.loads((tmp_path / "splits/split.json").read_text())[side]


@pytest.mark.parametrize(
    ("strategy", "heeded"),
    [
        ("first_groups", {"train_groups", "val_groups"}),
        ("official", {"fold", "val_share", "seed"}),
        ("ratio", {"test_share", "val_share", "seed", "unit"}),
        ("kfold", {"folds", "fold", "val_share", "seed", "unit"}),
    ],
)
def test_every_strategy_writes_its_sides_and_its_rule(tmp_path, strategy, heeded):
    groups = [(label, group) for label in ("Jump", "Run") for group in (1, 2, 8, 9, 10, 15, 16, 17)]
    filtered = split(tmp_path, [row_of(*key) for key in groups], strategy=strategy)
    assert {side for _, side in filtered.kept} == {"train", "val", "test"}
    written = json.loads((tmp_path / "splits/split.json").read_text())
    assert set(written["rule"]) == {"strategy", *heeded, "leaks", "max_missing"}
    assert len(written["train"] + written["val"] + written["test"]) == len(groups)


def test_fewer_groups_train_on_request(tmp_path):
    rows = [row_of(label, group) for label in ("Jump", "Run") for group in range(1, 11)]
    rows.append(row_of("Jump", 1, 2, missing_frames=9))
    whole = split(tmp_path, rows, strategy="kfold", folds=5)
    limited = split(tmp_path, rows, strategy="kfold", folds=5, max_train_groups=2)
    assert Counter((row.label, side) for row, side in limited.kept)["Run", "train"] == 2
    assert [pair for pair in limited.kept if pair[1] != "train"] == [
        pair for pair in whole.kept if pair[1] != "train"
    ]
    left_out = len(whole.kept + whole.dropped) - len(limited.kept + limited.dropped)
    assert left_out > 2
    told = f"  left out by split.max_train_groups: {left_out} clips"
    assert told in summarise(limited, "kfold").splitlines()
    assert "left out" not in summarise(whole, "kfold")
    written = json.loads((tmp_path / "splits/split.json").read_text())
    assert written["rule"]["max_train_groups"] == 2


def test_the_rule_names_the_seed_that_fewer_groups_were_drawn_by():
    rule = with_params(max_train_groups=2, seed=3).rule
    assert (rule["max_train_groups"], rule["seed"]) == (2, 3)
    assert not {"max_train_groups", "seed"} & set(PARAMS.rule)


@pytest.mark.parametrize(
    ("strategy", "side", "remedy"),
    [
        ("first_groups", "val", FEW_GROUPS),
        ("first_groups", "test", FEW_GROUPS),
        ("official", "val", "raise split.val_share"),
        ("official", "test", "take another split.fold"),
        ("ratio", "val", "raise split.val_share"),
        ("ratio", "test", "raise split.test_share, or add groups"),
        ("kfold", "val", "raise split.val_share"),
        ("kfold", "test", "take another split.fold"),
    ],
)
def test_a_side_of_which_all_clips_are_broken_has_a_remedy(tmp_path, strategy, side, remedy):
    rows = [row_of(label, group) for label in ("Jump", "Run") for group in (1, 2, 8, 9, 10, 15)]
    filtered = split(tmp_path, rows, strategy=strategy)
    lost = {row.clip for row, at in filtered.kept if at == side}
    broken = {"status": "broken", "reason": "no video"}
    rows = [row.model_copy(update=broken if row.clip in lost else {}) for row in rows]
    with pytest.raises(InputError, match=f"leaves the {side} side empty") as caught:
        split(tmp_path, rows, strategy=strategy)
    assert caught.value.remedy == remedy


def test_a_plan_with_an_empty_side_is_refused_before_anything_is_decoded():
    clips = [GroupedClip("Jump", f"jump{group}", f"{group}") for group in range(3)]
    with pytest.raises(InputError, match="manifest: leaves the test side empty"):
        plan_split(PARAMS, clips, place="manifest")


def test_first_groups_may_leave_out_those_that_validate(tmp_path):
    split(tmp_path, rows_of("Jump", 5), val_groups=0)
    assert read_names(tmp_path, "val") == []
    with pytest.raises(InputError, match="leaves the val side empty"):
        split(tmp_path, rows_of("Jump", 2), val_share=0)


def test_clips_are_named_in_order_whatever_that_of_the_index(tmp_path):
    rows, written = rows_of("Run", 5) + rows_of("Jump", 5), []
    for order in (rows, rows[::-1]):
        split(tmp_path, order)
        written.append((tmp_path / "splits/split.json").read_bytes())
    assert written[0] == written[1]
    assert read_names(tmp_path, "test")[0] == "Jump/v_Jump_g04_c01"


def test_a_missing_index_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(InputError, match=r"index\.csv: .* -> dvc repro frames$"):
        split_clips(PARAMS, index=tmp_path / "index.csv", splits=tmp_path / "splits")


def test_the_stage_reads_its_params_and_tells_what_it_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"split": PARAMS.model_dump()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    main(write_rows(tmp_path, rows_of("Jump", 5)), tmp_path / "splits")
    assert (
        capsys.readouterr().out == "split: 2 train, 1 val, 2 test clips of 1 classes; 0 dropped\n"
    )


def test_all_that_deserves_a_look_is_told(tmp_path):
    broken = {"status": "broken", "reason": "no video"}
    rows = rows_of("Jump", 5) + rows_of("Run", 3) + [row_of("Jump", 5, 2, **broken)]
    assert describe(split(tmp_path, rows)).splitlines() == [
        "split: 4 train, 2 val, 2 test clips of 2 classes; 1 dropped",
        "  test has no clip of Run",
        "  dropped Jump/v_Jump_g05_c02: no video",
    ]
    filtered = split(tmp_path, rows_of("Jump", 9), strategy="official", fold=2)
    assert summarise(filtered, "official").splitlines() == [
        "split: 5 train, 2 val, 2 test clips of 1 classes; 0 dropped",
        "  no clip names its official side: UCF101's rule by group number is taken",
    ]
    named = [row.model_copy(update={"official": "train"}) for row, _ in filtered.kept]
    named[0] = named[0].model_copy(update={"official": "test"})
    filtered = split(tmp_path, named, strategy="official", val_share=0)
    assert len(summarise(filtered, "official").splitlines()) == 1


def test_a_key_that_the_strategy_does_not_use_changes_nothing(tmp_path):
    contents = []
    for changes in ({}, {"test_share": 0.9, "val_share": 0.9, "folds": 2, "fold": 99, "seed": 5}):
        split(tmp_path, rows_of("Jump", 5), **changes)
        contents.append((tmp_path / "splits/split.json").read_bytes())
    assert contents[0] == contents[1]


def test_the_fingerprint_tells_a_changed_clip(tmp_path):
    rows, found = rows_of("Jump", 5), set()
    for content in ("a" * 64, "b" * 64):
        split(tmp_path, [rows[0].model_copy(update={"frames_sha256": content}), *rows[1:]])
        found.add(read_names(tmp_path, "fingerprint"))
    assert len(found) == 2


def test_official_sides_come_from_the_index(tmp_path):
    sides = ["train", "test", "val", "train"]
    rows = [row_of("Jump", group, official=side) for group, side in enumerate(sides, start=1)]
    split(tmp_path, rows, strategy="official", val_share=0)
    assert read_names(tmp_path, "val") == ["Jump/v_Jump_g03_c01"]


def test_official_sides_that_part_groups_are_told(tmp_path):
    rows = [
        row_of(label, 1, number, official=side)
        for label in ("Jump", "Run")
        for number, side in enumerate(["train", "test"])
    ]
    filtered = split(tmp_path, rows, strategy="official", val_share=0)
    assert "  2 groups are on two sides, the first: 01 of Jump" in describe(filtered)


def test_equal_clips_on_two_sides_are_dropped_by_name(tmp_path):
    rows = rows_of("Jump", 5)
    twin = rows[4].model_copy(update={"group": "01", "clip": "v_Jump_g01_c02"})
    filtered = split(tmp_path, [*rows, twin])
    told = "is the same video as Jump/v_Jump_g05_c01 (test)"
    assert f"  dropped Jump/v_Jump_g01_c02: {told}" in describe(filtered)
    with (tmp_path / "splits/dropped.csv").open(newline="") as file:
        assert [list(row.values()) for row in csv.DictReader(file)] == [
            ["v_Jump_g01_c02", "Jump", "train", told]
        ]
    assert "Jump/v_Jump_g01_c02" not in read_names(tmp_path, "train")
    assert b"v_Jump_g01_c02" in (tmp_path / "splits/train.pkl").read_bytes()


def test_equal_clips_under_two_labels_are_dropped_by_name(tmp_path):
    same = {"frames_sha256": "a" * 64}
    rows = [*rows_of("Jump", 5), *rows_of("Run", 5), row_of("Jump", 1, 2, **same)]
    filtered = split(tmp_path, [*rows, row_of("Run", 5, 2, **same)])
    assert Counter(row.reason.rsplit(", ", 1)[-1] for row in filtered.dropped) == {
        "under another label": 2
    }


def test_equal_clips_may_end_the_split_before_anything_is_written(tmp_path):
    same = {"frames_sha256": "a" * 64}
    rows = [row_of("Jump", 1, 2, **same), row_of("Jump", 5, 2, **same)]
    rows += [row_of("Jump", 2, 2, **same), *rows_of("Jump", 5)]
    message = (
        r"index\.csv: holds equal clips, 2 such clips, found Jump/v_Jump_g01_c02 \(train\) has the "
        r"frames of Jump/v_Jump_g05_c02 \(test\) -> remove all but one of them, or set split.leaks"
    )
    with pytest.raises(InputError, match=message):
        split(tmp_path, rows, leaks="fail")
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["a"], r"equal clips, found Jump/v_Jump_g01_c02 \(train\) .* Jump/v_Jump_g05_c02 \("),
        (["a", "b"], r"2 such clips, found Jump/v_Jump_g01_c02 .* Jump/v_Jump_g05_c02 \("),
    ],
)
def test_the_first_of_equal_clips_is_named_with_its_own_twin(tmp_path, pairs, message):
    rows = rows_of("Jump", 5)
    for group, content in enumerate(pairs, start=1):
        same = {"frames_sha256": content * 64}
        rows += [row_of("Jump", group, 2, **same), row_of("Jump", 6 - group, 2, **same)]
    with pytest.raises(InputError, match=message):
        split(tmp_path, rows, leaks="fail")


def test_a_broken_clip_is_nobodys_twin(tmp_path):
    lost = {"status": "broken", "reason": "no video", "frames_sha256": "", "video_sha256": "a" * 64}
    rows = [row_of("Jump", 1, 2, **lost), row_of("Jump", 5, 2, **lost), *rows_of("Jump", 5)]
    filtered = split(tmp_path, rows, leaks="fail")
    assert [row.reason for row in filtered.dropped] == ["no video", "no video"]


def test_a_class_that_equal_clips_leave_without_training_is_refused(tmp_path):
    same = {"frames_sha256": "a" * 64}
    run = [row_of("Run", 1, **same), row_of("Run", 5, **same), row_of("Run", 4)]
    with pytest.raises(
        InputError, match=r"Run: is a class without a .*has the frames of Run/v_Run"
    ):
        split(tmp_path, [*rows_of("Jump", 5), *run], train_groups=2, val_groups=1)
    assert not (tmp_path / "splits").exists()


def test_a_side_that_bad_clips_leave_empty_is_refused(tmp_path):
    broken = row_of("Jump", 4, status="broken", reason="cannot be opened")
    with pytest.raises(InputError, match="leaves the test side empty, found at most 3 groups"):
        split(tmp_path, [*rows_of("Jump", 3), broken])
    assert not (tmp_path / "splits").exists()


def test_a_class_of_bad_clips_only_is_refused(tmp_path):
    broken = rows_of("Run", 5, status="broken", reason="cannot be opened")
    with pytest.raises(InputError, match=r"Run: is a class without a usable training clip.*opened"):
        split(tmp_path, rows_of("Jump", 5) + broken)
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize(
    ("groups", "changes", "message"),
    [
        (3, {}, r"leaves the test side empty, found at most 3 groups.*lower split\.train_groups"),
        (2, {}, r"leaves the val side empty, found at most 2 groups.*lower split\.train_groups"),
        (2, {"strategy": "ratio"}, r"leaves the val side empty, found 4 clips in 2 groups"),
        (2, {"strategy": "ratio", "val_share": 0}, r"the test side empty.*raise split\.test_share"),
        (1, {"strategy": "ratio", "unit": "clip", "val_share": 0.1}, r"found 2 clips -> raise"),
        (3, {"strategy": "kfold"}, r"split\.folds: is more than there are groups, found 4.*most 3"),
        (7, {"strategy": "official"}, r"Jump: is a class without a .*found 7 test clips"),
        (7, {"strategy": "official", "fold": 2}, r"leaves the test side .*another split\.fold"),
    ],
)
def test_a_strategy_that_does_not_fit_says_what_to_change(tmp_path, groups, changes, message):
    rows = rows_of("Jump", groups) + rows_of("Run", groups)
    with pytest.raises(InputError, match=message):
        split(tmp_path, rows, **changes)
    assert not (tmp_path / "splits").exists()


def test_a_class_of_one_group_is_named_in_every_fold(tmp_path):
    rows = [*rows_of("Jump", 8), row_of("Run", 99)]
    told = []
    for fold in range(1, 5):
        try:
            told.append(describe(split(tmp_path, rows, strategy="kfold", fold=fold, val_share=0)))
        except InputError as error:
            told.append(str(error))
    assert sum("test has no clip of Run" in text for text in told) == 3
    assert sum("Run: is a class without a usable training clip" in text for text in told) == 1


def test_a_clip_that_the_index_names_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"index\.csv: names Jump/v_Jump_g01_c01 twice"):
        split(tmp_path, [*rows_of("Jump", 5), row_of("Jump", 1)])


def test_a_class_that_a_side_lacks_is_named(tmp_path):
    filtered = split(tmp_path, rows_of("Jump", 5) + rows_of("Run", 3))
    assert "test has no clip of Run" in describe(filtered)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_groups": 1}, "val_groups should be less than train_groups"),
        ({"strategy": "ratio", "test_share": 0.75}, "test_share and val_share together"),
        ({"strategy": "kfold", "fold": 5}, "fold should be at most folds"),
        ({"strategy": "kfold", "val_share": 0.75}, "val_share should be less than 1 - 1 / folds"),
        ({"unit": "clip"}, "unit clip is for ratio and kfold, not for strategy first_groups"),
        ({"unit": "clip", "strategy": "official"}, "not for strategy official"),
        ({"strategy": "random"}, "strategy"),
        ({"test_share": 0.0}, "test_share"),
        ({"test_share": 1.0}, "test_share"),
        ({"val_share": -0.1}, "val_share"),
        ({"val_share": 1.0}, "val_share"),
        ({"folds": 1}, "folds"),
        ({"folds": 1001}, "folds"),
        ({"fold": 0}, "fold"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": True}, "seed"),
        ({"leaks": "keep"}, "leaks"),
        ({"max_missing": -1}, "max_missing"),
        ({"max_train_groups": 0}, "max_train_groups"),
    ],
)
def test_a_contradiction_or_a_wrong_value_names_the_key(changes, message):
    with pytest.raises(ValueError, match=message):
        with_params(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"folds": 2, "val_share": 0.0, "seed": 0, "max_missing": 0, "max_train_groups": 1},
        {"folds": 1000, "seed": 2**63 - 1},
        {"strategy": "kfold", "fold": 4, "val_share": 0.7, "unit": "clip"},
        {"strategy": "ratio", "test_share": 0.7, "val_share": 0.25},
    ],
)
def test_values_at_the_limits_are_taken(changes):
    assert with_params(**changes).model_dump() == PARAMS.model_dump() | changes
