import pytest

from kinetrack.data.fingerprint import fingerprint_split
from kinetrack.data.index import FramesRow, TensorsRow

from factories import frames_row

ROW = frames_row("v_A_g01_c01", label="A", group="01")
OTHER = frames_row("v_A_g02_c01", label="A", group="02")
SPLIT = [(ROW, "train"), (OTHER, "test")]


def changed(**values: str) -> FramesRow:
    return ROW.model_copy(update=values)


@pytest.mark.parametrize(
    "split",
    [
        [(changed(frames_sha256="1" * 64), "train"), (OTHER, "test")],
        [(changed(label="B"), "train"), (OTHER, "test")],
        [(ROW, "val"), (OTHER, "test")],
        [(ROW, "test"), (OTHER, "train")],
        [(ROW, "train")],
        [(ROW, "train"), (OTHER, "test"), (OTHER, "test")],
        [],
    ],
)
def test_another_clip_side_or_class_changes_it(split) -> None:
    assert fingerprint_split(split) != fingerprint_split(SPLIT)


def test_order_and_names_do_not_matter() -> None:
    renamed = changed(clip="other", group="99")
    assert fingerprint_split([(OTHER, "test"), (renamed, "train")]) == fingerprint_split(SPLIT)


def test_it_is_the_same_of_frames_and_of_tensors() -> None:
    packed = [
        TensorsRow(
            clip=row.clip,
            label=row.label,
            group=row.group,
            video=row.video,
            side=side,
            num_frames=4,
            packed_frames=8,
            is_short=False,
            frames_sha256=row.frames_sha256,
            archive_md5="",
            tensor_md5="",
        )
        for row, side in SPLIT
    ]
    assert fingerprint_split((row, row.side) for row in packed) == fingerprint_split(SPLIT)


def test_it_is_the_same_on_every_machine() -> None:
    assert fingerprint_split(SPLIT).startswith("9415132ea4e4747ac7661941242bbb29c432")
