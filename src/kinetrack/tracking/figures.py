"""Pictures for people: curves, tables, intervals, clips, drawn without global state."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_SPLIT_COLOURS = {"train": "#4C72B0", "val": "#DD8452", "test": "#55A868"}
_LONGEST_NAME = 55
_MARK = "#808890"  # seen on white and on black
# Above this many classes a cell is too small for a number.
_MOST_NUMBERED_CLASSES = 20


def draw_curves(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Draw loss and accuracy over the epochs, one line a split.

    Args:
        rows: one a epoch with `epoch` and columns such as `train/loss` or `train_loss`; splits
            and epochs without a value are left out.
    """
    figure = _figure(width_in=9.0, height_in=3.6)
    loss, accuracy = figure.subplots(1, 2)
    _draw_metric(loss, rows, "loss")
    _draw_metric(accuracy, rows, "accuracy")
    accuracy.set_ylim(0.0, 1.02)
    return figure


def draw_metric(rows: Sequence[Mapping[str, str]], metric: str) -> Figure:
    """Draw one metric over the epochs, `loss` or `accuracy`, as `draw_curves` draws both."""
    figure = _figure(width_in=4.6, height_in=3.2)
    axes = figure.subplots()
    _draw_metric(axes, rows, metric)
    if metric == "accuracy":
        axes.set_ylim(0.0, 1.02)
    return figure


def draw_reliability(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Draw which share of the clips is right, by how sure the model was of them.

    Args:
        rows: bins with `low`, `high`, `num_clips`, `confidence` and `accuracy`; those without a
            clip are left out. The darker a bar, the more of the clips it is of.
    """
    figure = _figure(width_in=4.6, height_in=3.6)
    axes = figure.subplots()
    bins = [row for row in rows if int(row["num_clips"])]
    most = max((int(row["num_clips"]) for row in bins), default=1)
    for row in bins:
        low, high, share = (float(row[name]) for name in ("low", "high", "accuracy"))
        alpha = 0.25 + 0.75 * int(row["num_clips"]) / most
        axes.bar((low + high) / 2, share, high - low, color=_SPLIT_COLOURS["test"], alpha=alpha)
        axes.plot(float(row["confidence"]), share, color=_MARK, marker="o", markersize=4)
    axes.plot([0, 1], [0, 1], color=_MARK, linestyle="--", linewidth=1)
    axes.set(title="calibration", xlabel="probability of the named class", ylabel="share right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_intervals(rows: Sequence[tuple[str, float, tuple[float, float] | None]]) -> Figure:
    """Draw differences below each other, each with its interval, and where none is: 0.

    Args:
        rows: name, difference and the bounds of its interval, if it is known.
    """
    figure = _figure(width_in=4.6, height_in=0.9 + 0.5 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=_MARK, linestyle="--", linewidth=1)
    for place, (name, difference, bounds) in enumerate(rows):
        colour = _SPLIT_COLOURS["train"]
        # Above its line, where a long one has room; a dollar sign in it is no formula.
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        across = axes.get_yaxis_transform()
        axes.text(0, place - 0.25, shown, transform=across, fontsize=9, parse_math=False)
        if bounds:
            axes.plot(bounds, [place, place], color=colour, linewidth=2, marker="|")
        axes.plot(difference, place, color=colour, marker="o")
    axes.set(xlabel="difference of the accuracy", ylim=(len(rows) - 0.5, -0.7), yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    return figure


def draw_confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Draw a confusion matrix; the colour is the share of the row's clips.

    Args:
        counts: (K, K) numbers of clips, rows true and columns predicted, as `labels`.
    """
    table = np.asarray(counts, dtype=np.int64)  # (K, K)
    side_in = float(np.clip(2.0 + 0.35 * len(labels), 4.0, 14.0))
    figure = _figure(width_in=side_in + 0.8, height_in=side_in)
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    _name_classes(axes, labels)
    if len(labels) <= _MOST_NUMBERED_CLASSES:
        _write_counts(axes, table, shares)
    return figure


def draw_strips(strips: Sequence[tuple[np.ndarray, str]]) -> Figure:
    """Draw clips below each other, each a row of frames under its caption.

    Args:
        strips: pairs of frames (T, H, W, 3) uint8 and a caption.
    """
    most = max(len(frames) for frames, _ in strips)
    figure = _figure(width_in=1.4 * most, height_in=1.7 * len(strips))
    for axes, (frames, caption) in zip(
        figure.subplots(len(strips), squeeze=False).flat, strips, strict=True
    ):
        gap = np.full_like(frames[0, :, :2], 255)
        row = [part for frame in frames for part in (frame, gap)][:-1]
        axes.imshow(np.concatenate(row, axis=1))
        axes.set_title(caption, loc="left", fontsize=9, parse_math=False)
        axes.axis("off")
    return figure


def _figure(*, width_in: float, height_in: float) -> Figure:
    figure = Figure(figsize=(width_in, height_in), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_metric(axes: Axes, rows: Sequence[Mapping[str, str]], metric: str) -> None:
    for split, colour in _SPLIT_COLOURS.items():
        points = _points(rows, split=split, metric=metric)
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, color=colour, label=split, marker="o", markersize=3)
    if axes.lines:
        axes.legend(frameon=False)
    axes.set(title=metric, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _points(
    rows: Sequence[Mapping[str, str]], *, split: str, metric: str
) -> list[tuple[int, float]]:
    points = []
    for row in rows:
        value = float(row.get(f"{split}_{metric}", "nan"))  # nan: not looked at
        if not math.isnan(value):
            points.append((int(row["epoch"]), value))
    return points


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    places = range(len(labels))
    size_pt = 9 if len(labels) <= _MOST_NUMBERED_CLASSES else 6
    # A dollar sign in a class name is no formula.
    axes.set_xticks(places, labels, rotation=90, fontsize=size_pt, parse_math=False)
    axes.set_yticks(places, labels, fontsize=size_pt, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")


def _write_counts(axes: Axes, table: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
