"""Equal clips planted among real files, through both stages: the same bytes, and re-wrapped."""

import shutil
from pathlib import Path

import pytest

from kinetrack.data.index import DroppedRow, read_index
from kinetrack.errors import InputError
from kinetrack.stages.frames import extract_all
from kinetrack.stages.split import SplitParams, split_clips

from factories import FRAMES_PARAMS, rewrap_video, write_data_set

# Per class: groups 1 and 2 train, 3 validates, 4 and 5 test.
PARAMS = SplitParams(
    strategy="first_groups",
    train_groups=3,
    val_groups=1,
    test_share=0.2,
    val_share=0.2,
    folds=2,
    fold=1,
    seed=0,
    unit="group",
    leaks="drop",
    max_missing=1,
    max_train_groups=None,
)
TRAIN, TRAIN_TOO, VAL, TEST, TEST_TOO = (f"Jump/v_Jump_g0{group}_c01.avi" for group in range(1, 6))
OTHER_LABEL = "Walk/v_Walk_g01_c01.avi"


def plant(videos: Path, original: str, copy: str, kind: str) -> None:
    """Put the content of one clip in place of another, under that one's name."""
    (videos / copy).unlink()
    if kind == "same bytes":
        shutil.copyfile(videos / original, videos / copy)
    else:
        rewrap_video(videos / original, (videos / copy).with_suffix(f".{kind}"))


def drop(folder: Path, params: SplitParams = PARAMS) -> dict[str, str]:
    """Reasons by `<Class>/<clip>` of what the split drops."""
    extract_all(FRAMES_PARAMS, videos=folder / "videos", frames=folder / "frames")
    split_clips(params, index=folder / "frames/index.csv", splits=folder / "splits")
    rows = read_index(folder / "splits/dropped.csv", DroppedRow, remedy="")
    return {f"{row.label}/{row.clip}": row.reason for row in rows}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Ten clips of two classes, all of other content."""
    write_data_set(tmp_path / "videos", groups=5, num_frames=6)
    return tmp_path / "videos"


def test_different_clips_are_all_kept(videos: Path, tmp_path: Path) -> None:
    assert drop(tmp_path) == {}


@pytest.mark.parametrize("kind", ["same bytes", "mkv", "mp4"])
@pytest.mark.parametrize(
    ("original", "copy", "gone"),
    [
        pytest.param(TRAIN, TEST, {TRAIN}, id="training copy of a test clip"),
        pytest.param(VAL, TEST, {VAL}, id="validation copy of a test clip"),
        pytest.param(VAL, TRAIN, {TRAIN}, id="training copy of a validation clip"),
        pytest.param(TRAIN, TRAIN_TOO, {TRAIN_TOO}, id="twice in training"),
        pytest.param(TEST, TEST_TOO, {TEST_TOO}, id="twice in the test"),
        pytest.param(TEST, OTHER_LABEL, {TEST, OTHER_LABEL}, id="under two labels"),
    ],
)
def test_planted_copy_is_found_and_named(
    videos: Path, tmp_path: Path, *, kind: str, original: str, copy: str, gone: set[str]
) -> None:
    plant(videos, original, copy, kind)
    dropped = drop(tmp_path)
    assert set(dropped) == {name.removesuffix(".avi") for name in gone}
    told = "is the same video as" if kind == "same bytes" else "has the frames of"
    assert all(reason.startswith(told) for reason in dropped.values())


def test_planted_copy_ends_the_stage_on_request(videos: Path, tmp_path: Path) -> None:
    plant(videos, TRAIN, TEST, "mkv")
    with pytest.raises(InputError, match=r"holds equal clips, found Jump/v_Jump_g01_c01 \(train\)"):
        drop(tmp_path, PARAMS.model_copy(update={"leaks": "fail"}))
    assert not (tmp_path / "splits").exists()
