import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kinetrack.tracking.figures import draw_confusion, draw_curves, draw_strips


def png_size(figure: Figure) -> tuple[int, int]:
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return Image.open(buffer).size


def test_curves_have_a_line_for_each_split_that_is_there() -> None:
    rows = [
        {"epoch": "1", "train_loss": "2.0", "val_loss": "nan", "train_accuracy": "0.25"},
        {"epoch": "2", "train_loss": "1.0", "val_loss": "1.5", "train_accuracy": "0.5"},
    ]
    figure = draw_curves(rows)
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "val"]
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0, 1.0], [1.5]]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[0.25, 0.5]]
    assert png_size(figure)[0] < 1200


def test_curves_without_an_epoch_are_empty() -> None:
    assert not any(axes.lines for axes in draw_curves([]).axes)


@pytest.mark.parametrize(("num_classes", "numbers"), [(2, 4), (20, 400), (21, 0), (101, 0)])
def test_confusion_numbers_its_cells_while_they_are_large(num_classes: int, numbers: int) -> None:
    labels = [f"class {index}" for index in range(num_classes)]
    counts = [[int(row == column) for column in labels] for row in labels]
    figure = draw_confusion(counts, labels)
    assert len(figure.axes[0].texts) == numbers
    assert max(png_size(figure)) < 1800


def test_confusion_of_a_class_without_clips() -> None:
    image = draw_confusion([[0, 0], [1, 3]], ["a", "b"]).axes[0].images[0]
    assert image.get_array().tolist() == [[0, 0], [0.25, 0.75]]


def test_class_name_that_looks_like_a_formula() -> None:
    assert png_size(draw_confusion([[1, 0], [0, 1]], ["$\\x$", "b"]))


def test_no_global_figure_state() -> None:
    code = "import sys, kinetrack.tracking.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_strips_are_as_many_rows_whatever_their_lengths() -> None:
    frames = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    figure = draw_strips([(frames, "a taken for $b$"), (frames[:2], "short")])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a taken for $b$", "short"]
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [(8, 58, 3), (8, 18, 3)]
    figure.canvas.draw()
