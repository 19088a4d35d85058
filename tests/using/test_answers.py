import pytest

from kinetrack.using.answers import Passage, Prediction, Step, Timeline

DIVING = Prediction(("Diving", "Swing"), (0.75, 0.25), num_frames=50)
SURER = Prediction(("Diving", "Swing"), (1.0, 0.0), num_frames=50)
SWING = Prediction(("Swing", "Diving"), (0.5, 0.5), num_frames=50)


def steps(*told: Prediction | str) -> tuple[Step, ...]:
    """A second each; a text is the reason for no answer."""
    return tuple(
        Step(second, second + 1, None, one)
        if isinstance(one, str)
        else Step(second, second + 1, one)
        for second, one in enumerate(told)
    )


@pytest.mark.parametrize(
    ("told", "passages"),
    [
        ([], []),
        ([DIVING], [Passage(0, 1, "Diving", 0.75)]),
        ([DIVING, SURER], [Passage(0, 2, "Diving", 0.875)]),
        (
            [DIVING, SWING, DIVING],
            [
                Passage(0, 1, "Diving", 0.75),
                Passage(1, 2, "Swing", 0.5),
                Passage(2, 3, "Diving", 0.75),
            ],
        ),
        (
            ["none", "none", "few", SWING],
            [
                Passage(0, 2, "", 0, "none"),
                Passage(2, 3, "", 0, "few"),
                Passage(3, 4, "Swing", 0.5),
            ],
        ),
    ],
)
def test_steps_in_a_row_with_one_label_are_one_passage(
    told: list[Prediction | str], passages: list[Passage]
) -> None:
    assert Timeline(steps(*told), 0, 0).passages() == passages


def test_only_the_top_classes_are_kept() -> None:
    assert DIVING.only_top(1) == Prediction(("Diving",), (0.75,), num_frames=50)
    assert DIVING.only_top(5) == DIVING
