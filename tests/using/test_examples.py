from pathlib import Path

import numpy as np
import pytest

from kinetrack.data.tensors import PackedSide, load_clip, read_sides
from kinetrack.using.examples import find_errors

from factories import GEOMETRY, write_packed


@pytest.fixture
def side(tmp_path: Path) -> PackedSide:
    return read_sides(write_packed(tmp_path))["test"]


def prediction(clip: str, probability: float, *, predicted: str = "Walk") -> dict[str, str]:
    """Of a clip of class Jump."""
    return {
        "clip": clip,
        "actual": "Jump",
        "predicted": predicted,
        "probability": str(probability),
    }


def test_the_surest_error_comes_first(side: PackedSide) -> None:
    predictions = [
        prediction("v_Jump_g03_c01", 0.6),
        prediction("v_Jump_g03_c02", 0.9),
        prediction("v_Jump_g03_c03", 0.99, predicted="Jump"),
    ]
    first, second = find_errors(side, GEOMETRY, predictions)
    assert first.caption == "Jump taken for Walk (0.90): v_Jump_g03_c02"
    assert second.caption.endswith("v_Jump_g03_c01")
    clip = load_clip(side.path(side.rows[1]), num_frames=4, size_px=16)
    assert first.frames.shape == (6, 16, 16, 3)  # a short clip repeats frames
    np.testing.assert_array_equal(first.frames[[0, -1]], clip[:, [0, 3]].permute(1, 2, 3, 0))


def test_no_more_than_asked_for(side: PackedSide) -> None:
    predictions = [prediction(f"v_Jump_g03_c0{number}", 0.5) for number in (1, 2, 3)]
    assert len(find_errors(side, GEOMETRY, predictions, most=2)) == 2


def test_clip_that_is_not_here_is_left_out(side: PackedSide) -> None:
    assert find_errors(side, GEOMETRY, [prediction("v_Jump_g09_c01", 0.5)]) == []
