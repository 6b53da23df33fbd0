"""Plots of the trainer: training curves and confusion matrix."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay

from trainer.report.class_names import PlotNames

DPI = 300
_SMALLEST_FONT = 4  # points; smaller letters cannot be read
_MAX_WITH_NUMBERS = 30  # classes; with more, the cells of a confusion matrix are too small for numbers


def draw_curves(history: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of loss, accuracy and learning rate by epoch. The best epoch is marked.

    ``history``: the lines of ``metrics.jsonl``, with epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr.
    """
    figure = Figure((10, 3.7), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [line["epoch"] for line in history]
    best = max(history, key=lambda line: float(line["val_accuracy"]))
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epochs, [line[f"train_{name}"] for line in history], "o-", ms=3, color="tab:blue", label="training")
        axes.plot(epochs, [line[f"val_{name}"] for line in history], "o-", ms=3, color="tab:orange", label="validation")
        axes.axvline(best["epoch"], color="0.6", lw=1, ls="--", zorder=0, label=f"best: epoch {best['epoch']}")
    loss.set(title="Loss")
    accuracy.set(title=f"Accuracy (best {best['val_accuracy']:.2%})")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    rate.plot(epochs, [line["lr"] for line in history], "o-", ms=3, color="tab:green")
    rate.set(title="Learning rate after the epoch")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    for axes in (loss, rate):
        axes.set_ylim(0, 1.05 * max(axes.dataLim.ymax, 1e-12))
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return _png(figure)


def draw_confusion(classes: PlotNames, counts: NDArray[np.int64]) -> bytes:
    """PNG of the confusion matrix ``counts[true, predicted]``, normalised by row (true class)."""
    images = counts.sum(1)
    shares = counts / np.maximum(images, 1)[:, None]
    names, with_numbers = classes.names, len(classes.names) <= _MAX_WITH_NUMBERS
    side = max(2.2, 0.62 * len(names)) if with_numbers else 0.62 * _MAX_WITH_NUMBERS
    figure = Figure((side + 3.2, side + 1.9), layout="constrained")
    axes = figure.subplots()
    display = ConfusionMatrixDisplay(shares, display_labels=names)
    # without numbers, the colours must distinguish a few percent from zero
    scale = {"norm": PowerNorm(1 if with_numbers else 0.5, 0, 1)}
    display.plot(ax=axes, cmap="Blues", include_values=with_numbers, colorbar=False, im_kw=scale)
    if with_numbers:
        for (row, column), text in np.ndenumerate(display.text_):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text.set(text=_percentage(int(counts[row, column]), int(images[row])), fontsize=8, color=colour)
    # of more classes than have room, every second, third, ... gets its name
    step = 1 if with_numbers else math.ceil(_SMALLEST_FONT * len(names) / (60 * side))
    shown = range(0, len(names), step)
    font_size = 9 if with_numbers else 60 * side / len(names) * step
    look: dict[str, Any] = {
        "fontsize": font_size,
        "family": classes.fonts,
        "parse_math": False,
    }  # a name may have two dollars
    axes.set_xticks(shown, names[::step], rotation=45 if with_numbers else 90, **look)
    for text in axes.get_xticklabels():  # the end of each name is below its column
        text.set(ha="right", va="top" if with_numbers else "center", rotation_mode="anchor")
    axes.set_yticks(shown, [f"{names[index]} ({images[index]:,})" for index in shown], **look)
    axes.set(xlabel="predicted class", ylabel="true class (pictures)", title=_title(counts))
    _add_colour_bar(figure, axes, display.im_)
    return _png(figure)


def draw_search(points: Sequence[Mapping[str, float]], accuracies: Sequence[float]) -> bytes:
    """PNG of the validation accuracy against each parameter: a dot per training, darker for later trainings.

    The axis of an integer parameter is linear, all others are logarithmic.
    """
    figure = Figure((3.2 * len(points[0]) + 0.8, 4.8), layout="constrained")
    all_axes = figure.subplots(1, len(points[0]), sharey=True, squeeze=False)[0]
    for axes, name in zip(all_axes, points[0], strict=True):
        values = [point[name] for point in points]
        if not all(isinstance(value, int) for value in values):
            axes.set_xscale("log")
        dots = axes.scatter(values, accuracies, c=range(len(values)), cmap="Blues", edgecolors="grey", zorder=2)
        axes.minorticks_off()
        axes.set_xticks(ticks := sorted(set(values)), [f"{value:g}" for value in ticks], rotation=45)
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("validation accuracy")
    all_axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    figure.colorbar(dots, ax=all_axes, label="training", ticks=MaxNLocator(integer=True))
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    return buffer.getvalue()


def _title(counts: NDArray[np.int64]) -> str:
    correct, total = int(np.trace(counts)), int(counts.sum())
    return f"{correct / max(total, 1):.2%} right: {correct:,} of {total:,}"


def _percentage(count: int, total: int) -> str:
    """The text of a cell: empty for 0, and never rounded to 0 or 100."""
    if count == 0:
        return ""
    share = 100 * count / total
    if count < total and (share < 0.1 or share > 99.9):
        return "<0.1" if share < 1 else ">99.9"
    return "100" if count == total else f"{share:.1f}"


def _add_colour_bar(figure: Figure, axes: Axes, image: Any) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30)
    bar.set_label("share of the true class, %")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
