import numpy as np
import pytest

from kinetrack.using.calibration import ReliabilityBin, calibration_error, reliability_curve


def test_clips_are_counted_in_the_bin_of_their_confidence() -> None:
    probabilities = np.array([[0.55, 0.45], [0.6, 0.4], [0.39, 0.61], [0.0, 1.0]])
    curve = reliability_curve(np.array([0, 1, 1, 1]), probabilities, num_bins=5)
    assert [one.num_clips for one in curve] == [0, 0, 2, 1, 1]  # 0.6 is the end of its bin
    assert curve[2].confidence == pytest.approx(0.575)
    assert [one.accuracy for one in curve] == [0, 0, 0.5, 1, 1]
    assert curve[0] == ReliabilityBin(0.0, 0.2, 0, 0.0, 0.0)


def test_who_is_right_as_often_as_said_has_no_error() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4)
    curve = reliability_curve(np.array([0, 0, 0, 1]), probabilities)
    assert calibration_error(curve) == pytest.approx(0)


def test_who_is_sure_and_wrong_has_the_largest_error() -> None:
    curve = reliability_curve(np.array([1, 1]), np.array([[1.0, 0.0]] * 2))
    assert calibration_error(curve) == pytest.approx(1)
